"""What was accepted and how it ended, on file before anybody hears of it, so that it outlives a killed server.

An entry is one line, written by one ``pwrite`` to a place of its own: the kernel holds it from then on, whatever
becomes of this process (a machine that goes down may lose the last seconds; nothing waits for the disk here). The
files are segments of a fixed size whose blocks are allocated beforehand, so that a disk that fills up later does not
stop what is under way from being kept. A segment goes as soon as everything in it is settled elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SEGMENT_BYTES = 4 << 20

_ACCEPTED, _FINISHED = "A", "F"
_LINE = re.compile(rb"([0-9a-f]{8})([AF])([0-9a-f]{32}) (.*)")
# What was allocated and never written is zeros; they also follow the torn line of a writer that was killed.
_BREAKS = re.compile(rb"[\n\0]+")
_NAME = re.compile(r"(\d{8})\.log", re.ASCII)


class Segment:
    """A file of ``size`` bytes, all of them allocated. OSError when the disk has no room for it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.used = 0
        self.live = 0  # entries that are needed, and writes under way
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError:
            self.close()
            self.remove()
            raise

    @property
    def room(self) -> int:
        return self.size - self.used

    def take(self, size: int) -> int:
        """Where to write ``size`` bytes that are nobody else's."""
        at, self.used = self.used, self.used + size
        self.live += 1
        return at

    def write(self, data: bytes, at: int) -> None:
        written = os.pwrite(self._fd, data, at)
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], at + written)

    def close(self) -> None:
        os.close(self._fd)

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class Journal:
    """Entries of 32 lowercase hexadecimal digits and a text without line breaks and NUL. Any thread may call.

    Every entry is accepted, finished and settled, in this order. While it is accepted or finished a killed process
    leaves it in ``folder``, where :func:`read` finds it. ``accept`` raises OSError when there is no room on the disk,
    and keeps room in reserve for those that are to finish. Call it on a folder that was :func:`read` and cleared.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._next = max((int(name) for name, _ in _segments(folder)), default=0) + 1
        self._where: dict[str, Segment] = {}  # which segment holds the line of an entry that counts
        self._unfinished: dict[str, bytes] = {}
        self._full: list[Segment] = []
        self._writing = 0
        self._closed = False
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._current = self._new(segment_bytes)
        self._spare: Segment | None = None
        try:
            self._spare = self._new(segment_bytes)
        except OSError:
            self.close()
            raise

    def accept(self, entry_id: str, text: str) -> None:
        line = _line(_ACCEPTED, entry_id, text)
        segment = self._put(line, reserve=True)
        with self._lock:
            self._where[entry_id] = segment
            self._unfinished[entry_id] = line

    def finish(self, entry_id: str, text: str) -> bool:
        """False when there was no room: the caller must keep the entry until it is settled."""
        try:
            segment = self._put(_line(_FINISHED, entry_id, text), reserve=False)
        except OSError:
            return False
        with self._lock:
            accepted = self._where.get(entry_id)
            if accepted is not None:
                accepted.live -= 1
            self._where[entry_id] = segment
            self._unfinished.pop(entry_id, None)
        return True

    def settle(self, entry_ids: Iterable[str]) -> None:
        """These are safe elsewhere. Deletes the segments that nobody needs any more."""
        with self._lock:
            for entry_id in entry_ids:
                self._unfinished.pop(entry_id, None)
                if segment := self._where.pop(entry_id, None):
                    segment.live -= 1
            if not self._full:
                return
            with contextlib.suppress(OSError):
                self._provide()
            lingering = [(key, line) for key, line in self._unfinished.items() if self._where[key] in self._full]
        with contextlib.suppress(OSError):
            for entry_id, line in lingering:
                self._carry_over(entry_id, line)
        with self._lock:
            done = [segment for segment in self._full if not segment.live]
            self._full = [segment for segment in self._full if segment.live]
        for segment in done:
            segment.close()
            segment.remove()

    def close(self) -> None:
        """Leaves in the folder what is not settled. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: not self._writing)
            segments = [*self._full, self._current, *([self._spare] if self._spare else [])]
        for segment in segments:
            segment.close()
            if not segment.live:
                segment.remove()

    def _put(self, line: bytes, *, reserve: bool) -> Segment:
        """Write a line; the segment is held for the caller. With ``reserve`` only if half a segment stays free."""
        with self._lock:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "The server is stopping")
            self._make_room(len(line))
            if reserve and self._current.room < self._segment_bytes // 2:
                self._provide()
            segment = self._current
            at = segment.take(len(line))
            self._writing += 1
        written = False
        try:
            # Not under the lock: whoever gives up the interpreter here would stop all others.
            segment.write(line, at)
            written = True
        finally:
            with self._lock:
                self._writing -= 1
                if not written:
                    segment.live -= 1
                if self._closed:
                    self._idle.notify_all()
        return segment

    def _make_room(self, size: int) -> None:
        if self._current.room >= size:
            return
        if self._spare is not None and self._spare.room >= size:
            new, self._spare = self._spare, None
        else:
            new = self._new(max(size, self._segment_bytes))
        self._full.append(self._current)
        self._current = new

    def _provide(self) -> None:
        """Under the lock: have a segment ready for when the current one is full."""
        if self._spare is None:
            self._spare = self._new(self._segment_bytes)

    def _new(self, size: int) -> Segment:
        segment = Segment(self._folder / f"{self._next:08}.log", size)
        self._next += 1
        return segment

    def _carry_over(self, entry_id: str, line: bytes) -> None:
        """What runs for long must not hold the segment in which it began."""
        segment = self._put(line, reserve=True)
        with self._lock:
            old = self._where.get(entry_id)
            if old in self._full and entry_id in self._unfinished:
                old.live -= 1
                self._where[entry_id] = segment
            else:
                segment.live -= 1


@dataclass(slots=True)
class Found:
    """What a journal holds: entries by id, finished ones without regard to when they were accepted."""

    unfinished: dict[str, str] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)
    last_write_ms: int = 0  # the last sign of life of who wrote it, 0 when there was none
    files: list[Path] = field(default_factory=list)

    def clear(self) -> None:
        """Delete the files that were read, once everything in them is safe elsewhere."""
        for file in self.files:
            file.unlink(missing_ok=True)


def read(folder: Path) -> Found:
    """The entries in ``folder``; lines that were not written to their end, and whatever else is there, do not count."""
    found = Found()
    accepted: dict[str, str] = {}
    for _, file in sorted(_segments(folder)):
        found.files.append(file)
        found.last_write_ms = max(found.last_write_ms, file.stat().st_mtime_ns // 1_000_000)
        for line in _BREAKS.split(file.read_bytes()):
            match = _LINE.fullmatch(line)
            if match is None or int(match[1], 16) != zlib.crc32(line[8:]):
                continue
            entries = accepted if match[2] == _ACCEPTED.encode() else found.finished
            entries[match[3].decode()] = match[4].decode()
    found.unfinished = {key: text for key, text in accepted.items() if key not in found.finished}
    return found


def _segments(folder: Path) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        return []
    return [(match[1], file) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name)) and file.is_file()]


def _line(kind: str, entry_id: str, text: str) -> bytes:
    body = f"{kind}{entry_id} {text}".encode()
    return b"%08x%b\n" % (zlib.crc32(body), body)
