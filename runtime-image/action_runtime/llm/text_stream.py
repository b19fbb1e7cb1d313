"""Turns a stream of tokens into a stream of text: whole characters only, nothing past a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Incremental decoding: the pieces together are what decoding all tokens at once gives.

    A piece ends only where a character is complete, so no piece shows half of a multi-byte
    character. A window of tokens since the last piece is decoded, not the whole text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """Text that became certain with this token, possibly empty."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT):
            return ""
        return self._advance(text)

    def flush(self) -> str:
        """What is left when no token will follow."""
        return self._advance(self._decode(self._window))

    def _advance(self, text: str) -> str:
        piece = text[len(self._shown) :]
        if piece:
            # decoders treat the first token of a text in their own way, so the last one stays as context
            self._window = self._window[-1:]
            self._shown = self._decode(self._window)
        return piece


class StopStrings:
    """Passes text through until one of ``stops`` appears; what might be the beginning of one waits."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """(text that may be shown, whether a stop string was met). Nothing may follow a stop."""
        self._held += text
        # the stop that is complete first wins, so that the result does not depend on how the text is cut in pieces
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            return self._held[: min(found)[1]], True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        split = len(self._held) - keep
        shown, self._held = self._held[:split], self._held[split:]
        return shown, False

    def flush(self) -> str:
        """What waited, when no text will follow."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of ``stop`` that ``text`` ends with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
