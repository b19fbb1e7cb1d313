"""Messages between the proxy and an executor: kind, number of the request, length, payload."""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

_HEAD = struct.Struct("!BIQ")
_CHUNK = 256 << 10


class Kind(IntEnum):
    """What a frame says. The first three go to the executor, the others come from it or from the unpacker."""

    SETUP = 1  # JSON: main, env, binary, folder
    CODE = 2  # the source, or the bytes of a zip
    RUN = 3  # body of POST /run, as received
    READY = 4  # the action is loaded
    REFUSED = 5  # it cannot be; JSON of the answer's status and error
    RESULT = 6  # JSON of a dictionary, an array or null
    UNFIT = 7  # JSON of the error: the result is none of these; with number 0, text: it cannot be an executor
    STANDBY = 8  # an executor started ahead waits for its action
    UNPACKED = 9  # the zip is in its folder


def send_frame(channel: socket.socket, kind: Kind, number: int, payload: bytes = b"") -> None:
    """Send one frame, blocking. Raises OSError when the other end is gone."""
    head = _HEAD.pack(kind, number, len(payload))
    if len(payload) < 65536:
        channel.sendall(head + payload)
    else:
        channel.sendall(head)
        channel.sendall(payload)


def receive_frame(channel: socket.socket) -> tuple[int, int, bytes]:
    """Wait for one frame: (kind, number, payload). Raises EOFError when the other end is gone."""
    kind, number, length = _HEAD.unpack(_receive(channel, _HEAD.size))
    return kind, number, _receive(channel, length)


def _receive(channel: socket.socket, length: int) -> bytes:
    first = channel.recv(length) if length else b""
    if len(first) == length:
        return first
    buffer = bytearray(length)
    view = memoryview(buffer)
    filled = len(first)
    view[:filled] = first
    while filled < length:
        count = channel.recv_into(view[filled:]) if filled else 0
        if not count:
            raise EOFError
        filled += count
    return bytes(buffer)


class FrameReader:
    """Frames of a socket that must not be waited for."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self.ended = False

    def available(self) -> list[tuple[int, int, bytes]]:
        """Every frame that has arrived whole. Sets ``ended`` once the other end is gone."""
        self._fill()
        frames = []
        start = 0
        while len(self._buffer) - start >= _HEAD.size:
            kind, number, length = _HEAD.unpack_from(self._buffer, start)
            end = start + _HEAD.size + length
            if len(self._buffer) < end:
                break
            frames.append((kind, number, bytes(memoryview(self._buffer)[start + _HEAD.size : end])))
            start = end
        del self._buffer[:start]
        return frames

    def _fill(self) -> None:
        while True:
            try:
                data = self._channel.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return
            self._buffer += data
            if len(data) < _CHUNK:
                return
