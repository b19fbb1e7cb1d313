"""The log lines of one activation, out of the two output streams of its container."""

from __future__ import annotations

import time

SENTINEL = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
STDOUT, STDERR = 0, 1
_NAMES = ("stdout", "stderr")
# OpenWhisk reads Docker's log files. Their driver cuts lines at its buffer's size, and the limit of an action's logs
# counts what the file has: each text in a JSON object with its stream and time.
PIECE = 16_384
_AROUND = len('{"log":"\\n","stream":"stdout","time":"2026-11-22T23:38:16.440937896Z"}\n')

LEFT_OUT = "Output was left out that does not tell which of the activations running at that time it belongs to."
LOST = "There was an issue while collecting your logs. Data might be missing."
NOT_AS_EXPECTED = "The action did not initialize or run as expected. Log data might be missing."


def timestamp(time_ns: int) -> str:
    """``2026-11-22T23:38:16.440937896Z``: 30 characters."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


def head(time_ns: int, stream: int) -> str:
    """What stands before the text of a line."""
    return f"{timestamp(time_ns):<30} {_NAMES[stream]}: "


class ActivationLog:
    """Lines of one activation until the sentinel was seen on both streams.

    At most ``limit`` bytes are kept, as OpenWhisk counts them, then a notice stands for the rest; a limit of 0 collects
    nothing and waits for nothing. Longer lines than :data:`PIECE` bytes become several, as they do there. What a stream
    brings after its sentinel is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._open = [bytearray(), bytearray()]  # an unfinished line per stream
        self._ended = [limit == 0, limit == 0]
        self._truncated = limit == 0
        self._left_out = False
        self.lines: list[str] = []

    @property
    def complete(self) -> bool:
        return self._ended[0] and self._ended[1]

    def ended(self, stream: int) -> bool:
        return self._ended[stream]

    def left_out(self) -> None:
        """Output was dropped that may have been this activation's: the log says so, once."""
        if not self._left_out and not self.complete:
            self._left_out = True
            now = time.time_ns()
            self._add(now, head(now, STDERR), LEFT_OUT.encode())

    def feed(self, stream: int, data: bytes) -> None:
        if self._ended[stream]:
            return
        now = time.time_ns()
        prefix = head(now, stream)  # once: to format a time takes longer than all else that is done with a line
        unfinished = self._open[stream]
        first, *finished = data.split(b"\n")
        unfinished += first  # and no more: a line may come in very many pieces
        if finished:
            finished.insert(0, bytes(unfinished))
            unfinished[:] = finished.pop()
        for text in finished:
            if text.endswith(SENTINEL):
                self._ended[stream] = True
                unfinished.clear()
                if len(text) > len(SENTINEL):  # output that lacked a final newline
                    self._add(now, prefix, text[: -len(SENTINEL)])
                return
            self._add(now, prefix, text)
        while len(unfinished) > PIECE + len(SENTINEL):
            self._add_piece(now, prefix, bytes(unfinished[:PIECE]))
            del unfinished[:PIECE]

    def finish(self, *, lost: bool = False, failed: bool = False) -> list[str]:
        """The lines, unfinished ones included.

        ``lost``: the sentinels did not come; ``failed``: the activation is a developer error, whose container is
        not waited for.
        """
        now = time.time_ns()
        for stream, rest in enumerate(self._open):
            if rest:
                self._add(now, head(now, stream), bytes(rest).removesuffix(SENTINEL))
        if self._limit:
            if lost:
                self.lines.append(head(now, STDERR) + LOST)
            if failed:
                self.lines.append(head(now, STDERR) + NOT_AS_EXPECTED)
        self._ended = [True, True]
        return self.lines

    def _add(self, now: int, prefix: str, text: bytes) -> None:
        for start in range(0, len(text) + 1, PIECE):
            self._add_piece(now, prefix, text[start : start + PIECE])

    def _add_piece(self, now: int, prefix: str, text: bytes) -> None:
        if self._truncated:
            return
        self._size += _AROUND + len(text)
        if self._size > self._limit:
            self._truncate(now)
            return
        self.lines.append(prefix + text.decode(errors="replace").rstrip("\r"))

    def _truncate(self, now: int) -> None:
        if not self._truncated:
            self._truncated = True
            notice = f"Logs were truncated because the total bytes size exceeds the limit of {self._limit} bytes."
            self.lines.append(head(now, STDERR) + notice)
