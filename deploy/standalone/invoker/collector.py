"""Whose log the output of a container is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deploy.standalone.invoker.logs import SENTINEL, ActivationLog

TAIL = 2_000  # bytes of output outside an activation that are kept to explain a failed start

_END = SENTINEL + b"\n"
_TAG = re.compile(rb"\x01([0-9a-f]{32}) ")
_TAG_BYTES = 34
_CUT_TAG = re.compile(rb"\x01[0-9a-f]{0,32}")


class Collector(Protocol):
    """:meth:`feed` belongs to one thread; the others may come from any, one at a time."""

    tail: bytes  # the last bytes that came while there was no activation

    def open(self, activation_id: str, log: ActivationLog) -> None:
        """From now on the activation may have output."""
        ...

    def answered(self, activation_id: str) -> None:
        """The activation will print no more: what is still missing of its log is the end."""
        ...

    def close(self, activation_id: str) -> None: ...

    def feed(self, stream: int, data: bytes) -> Sequence[str]:
        """Take output; the activations whose logs it completed."""
        ...


class SoleCollector:
    """For containers with one activation at a time: all output is that one's."""

    def __init__(self) -> None:
        self.tail = b""
        self._current: tuple[str, ActivationLog] | None = None

    def open(self, activation_id: str, log: ActivationLog) -> None:
        self._current = (activation_id, log)

    def answered(self, activation_id: str) -> None:
        return

    def close(self, activation_id: str) -> None:
        self._current = None

    def feed(self, stream: int, data: bytes) -> Sequence[str]:
        current = self._current
        if current is None:
            self.tail = (self.tail + data)[-TAIL:]
            return ()
        activation_id, log = current
        if log.complete:
            return ()
        log.feed(stream, data)
        return (activation_id,) if log.complete else ()


@dataclass(slots=True)
class _Line:
    """The line that a stream is in the middle of."""

    begun: bool = False
    tagged: bool = False
    log: ActivationLog | None = None  # whose it is
    end: bytes = b""  # of a line that is nobody's: enough to recognise a sentinel
    held: bytes = b""  # what may be the beginning of a tag


class Demultiplexer:
    """For containers with several activations at a time, whose runtime tags the lines: ``\\x01<activation id> text``.

    A line starts with a tag or after one that stands behind bytes without a newline, which are a line of their own
    then. A tag of no activation that is here makes its line nobody's at the beginning of a line, and is text
    elsewhere. A line without a tag belongs to the activation if there is exactly one as it begins, else to nobody,
    of which each activation is told once; but a sentinel without a tag (the image is not ours) ends the log of the
    activation that was answered first, else of the oldest.
    """

    def __init__(self) -> None:
        self.tail = b""
        # Both are replaced and never changed, since they are read without a lock; oldest first.
        self._logs: dict[bytes, ActivationLog] = {}
        self._answered: tuple[bytes, ...] = ()
        self._lines = (_Line(), _Line())

    def open(self, activation_id: str, log: ActivationLog) -> None:
        self._logs = {**self._logs, activation_id.encode(): log}

    def answered(self, activation_id: str) -> None:
        self._answered = (*self._answered, activation_id.encode())

    def close(self, activation_id: str) -> None:
        gone = activation_id.encode()
        self._logs = {key: log for key, log in self._logs.items() if key != gone}
        self._answered = tuple(key for key in self._answered if key != gone)

    def feed(self, stream: int, data: bytes) -> Sequence[str]:
        logs = self._logs
        if not logs:
            self.tail = (self.tail + data)[-TAIL:]
        unfinished = {key: log for key, log in logs.items() if not log.complete}
        _Feeding(stream, self._lines[stream], unfinished, self._answered).take(data)
        return [key.decode() for key, log in unfinished.items() if log.complete]


class _Feeding:
    """One chunk of one stream on its way to the logs."""

    def __init__(
        self, stream: int, line: _Line, logs: dict[bytes, ActivationLog], answered: tuple[bytes, ...]
    ) -> None:
        self._stream = stream
        self._line = line
        self._logs = logs
        self._answered = answered
        self._parts: dict[ActivationLog, list[bytes]] = {}  # a log formats the time once for all that is given at once

    def take(self, data: bytes) -> None:
        data = self._line.held + data
        begin = 0
        for tag in _TAG.finditer(data):
            self._text(data[begin : tag.start()])
            begin = tag.end() if self._tagged(tag[1]) else tag.start()
        end = _end_before_cut_tag(data, begin)
        self._text(data[begin:end])
        self._line.held = data[end:]
        self._hand_over()

    def _tagged(self, activation: bytes) -> bool:
        """Whether the tag is one, and no text that looks like it."""
        line, log = self._line, self._logs.get(activation)
        if line.begun:
            if log is None:
                return False
            self._text(b"\n")
        line.begun = line.tagged = True
        line.log = log
        return True

    def _text(self, text: bytes) -> None:
        if self._line.begun and text:
            end = text.find(b"\n") + 1 or len(text)
            self._go_on(text[:end])
            text = text[end:]
        if text:
            self._untagged(text)

    def _go_on(self, text: bytes) -> None:
        """More of the line that has begun, at most to its end."""
        line = self._line
        if line.log is not None:
            self._parts.setdefault(line.log, []).append(text)
        elif not line.tagged:
            line.end = (line.end + text)[-len(_END) :]
            if line.end == _END:
                self._end_one()
            elif text.endswith(b"\n"):
                self._leave_out()
        line.begun = not text.endswith(b"\n")

    def _untagged(self, text: bytes) -> None:
        """Lines without a tag, from the beginning of one; the last may be unfinished."""
        line, begin = self._line, 0
        line.tagged = False
        while begin < len(text):
            here = self._here()
            if len(here) == 1:
                (line.log,) = here
                self._parts.setdefault(line.log, []).append(text[begin:])
                break
            line.log = None
            end = text.find(_END, begin)
            rest = text[begin:] if end < 0 else text[begin:end]
            if b"\n" in rest:
                self._leave_out()
            if end < 0:
                line.end = rest[rest.rfind(b"\n") + 1 :][-len(_END) :]
                break
            self._end_one()
            begin = end + len(_END)
        line.begun = not text.endswith(b"\n")

    def _leave_out(self) -> None:
        for log in self._here():
            log.left_out()

    def _end_one(self) -> None:
        """A sentinel does not tell whose it is."""
        here = self._here()
        for log in (*filter(None, map(self._logs.get, self._answered)), *here):
            if log in here:
                log.feed(self._stream, _END)
                return

    def _here(self) -> list[ActivationLog]:
        """The logs that this stream may still add to."""
        self._hand_over()
        return [log for log in self._logs.values() if not log.ended(self._stream)]

    def _hand_over(self) -> None:
        for log, parts in self._parts.items():
            log.feed(self._stream, b"".join(parts))
        self._parts.clear()


def _end_before_cut_tag(data: bytes, begin: int) -> int:
    """Where the text ends if what follows may be a tag that is cut off."""
    start = data.rfind(b"\x01", max(begin, len(data) - _TAG_BYTES + 1))
    return start if start >= 0 and _CUT_TAG.fullmatch(data, start) else len(data)
