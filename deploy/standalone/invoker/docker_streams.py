"""The output of a container as Docker sends it, and the thread that feeds it into pipes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

Address = tuple[str, int]  # host, port

CHUNK = 65_536
_HEADER = struct.Struct(">BxxxI")
_STDOUT, _STDERR = 1, 2

FIRST_TRY_S, LONGEST_BETWEEN_TRIES_S = 0.005, 0.1
TRY_TIMEOUT_S = 1.0
UNREACHABLE_S = 10.0  # a network that has refused all packets for so long will not take them later


class Frames:
    """Takes Docker's multiplexed stream apart: frames of one byte for the stream, three of zero, four for the length.

    Source: Engine API, "Attach to a container".
    """

    def __init__(self) -> None:
        self._head = b""
        self._stream = 0
        self._missing = 0  # bytes of the current frame

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """(0 for stdout or 1 for stderr, a piece of it) in order; a frame may come in several pieces."""
        rest = memoryview(self._head + data)
        self._head = b""
        while rest:
            if not self._missing:
                if len(rest) < _HEADER.size:
                    self._head = bytes(rest)
                    return
                self._stream, self._missing = _HEADER.unpack_from(rest)
                rest = rest[_HEADER.size :]
                continue
            piece, rest = rest[: self._missing], rest[self._missing :]
            self._missing -= len(piece)
            if self._stream in (_STDOUT, _STDERR):
                yield self._stream - _STDOUT, piece


class Attendant:
    """Waits for a container to listen at ``address``, copies its output, and tells of its end, all through pipes.

    ``stream`` is Docker's attached stream and belongs to the attendant. ``ended`` is called once that is over: it waits
    until the container has ended. Only then does ``exited`` become readable, when all output is in the pipes.
    """

    def __init__(self, name: str, stream: socket.socket, address: Address | None, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._address = address
        self._ended = ended
        self._pipes = _pipes(4)
        reading = [read for read, _ in self._pipes]
        for descriptor in reading:
            os.set_blocking(descriptor, False)
        self.ready, self.exited = reading[0], reading[1]
        self.streams = (reading[2], reading[3])
        self._ready_end = contextlib.ExitStack()
        self._ready_end.callback(os.close, self._pipes[0][1])
        self._thread = threading.Thread(target=self._attend, name=f"docker-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the pipes and end the thread. The container should be gone, else its end may be waited for."""
        with contextlib.suppress(OSError):  # the other side has closed it
            self._stream.shutdown(socket.SHUT_RDWR)
        for read, _ in self._pipes:  # a thread that writes into a full pipe wakes up
            os.close(read)
        self._thread.join(TRY_TIMEOUT_S)

    def _attend(self) -> None:
        with contextlib.ExitStack() as ends, self._stream, self._ready_end:
            for _, write in self._pipes[1:]:
                ends.callback(os.close, write)
            with contextlib.suppress(OSError):  # nobody reads any more, or the engine has died
                self._copy()
            self._ended()

    def _copy(self) -> None:
        frames = Frames()
        waiting = _Tries(self._address)
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        while True:
            if poll.poll(waiting.pause_ms()):
                if not (data := self._stream.recv(CHUNK)):
                    return
                for stream, piece in frames.feed(data):
                    self._write(2 + stream, piece)
            if waiting.due():
                if waiting.succeed():
                    self._write(0, memoryview(b"1"))
                elif waiting.hopeless:
                    self._write(3, memoryview(waiting.hopeless.encode()))
                    self._ready_end.close()

    def _write(self, pipe: int, data: memoryview) -> None:
        while data:
            data = data[os.write(self._pipes[pipe][1], data) :]


def _pipes(number: int) -> list[tuple[int, int]]:
    """(read, write) each. Raises ``OSError`` for want of descriptors, with none taken."""
    made: list[tuple[int, int]] = []
    try:
        while len(made) < number:
            made.append(os.pipe2(os.O_CLOEXEC))
    except OSError:
        for descriptor in itertools.chain.from_iterable(made):
            os.close(descriptor)
        raise
    return made


class _Tries:
    """Attempts to connect, with growing pauses, until one succeeds."""

    def __init__(self, address: Address | None) -> None:
        self._address = address
        self._pause = FIRST_TRY_S
        self._next = self._since = time.monotonic()
        self._done = address is None
        self.hopeless = ""  # why the container cannot be reached

    def pause_ms(self) -> float | None:
        if self._done or self.hopeless:
            return None
        return max(0.0, self._next - time.monotonic()) * 1000

    def due(self) -> bool:
        return not self._done and not self.hopeless and time.monotonic() >= self._next

    def succeed(self) -> bool:
        assert self._address is not None
        try:
            socket.create_connection(self._address, TRY_TIMEOUT_S).close()
        except OSError as error:
            now = time.monotonic()
            if error.errno == errno.ECONNREFUSED:  # it is there, and does not listen yet
                self._since = now
            elif now - self._since > UNREACHABLE_S:
                self.hopeless = _unreachable(self._address, error)
            self._next = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_BETWEEN_TRIES_S)
            return False
        self._done = True
        return True


def _unreachable(address: Address, error: OSError) -> str:
    return (
        f"it cannot be reached at {address[0]}:{address[1]} ({error.strerror or error}): "
        "the Docker Engine must run on this machine, with its bridge network\n"
    )
