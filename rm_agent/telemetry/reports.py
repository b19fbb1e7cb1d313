"""Reports of the runtimes: datagrams on the node socket that say when a call starts and ends.

Only the kernel's word counts for who sends: ``SO_PASSCRED`` gives the sender's process id, and its control group is
the container. What a datagram says about its container is not looked at.
"""

from __future__ import annotations

import array
import json
import logging
import os
import re
import select
import socket
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")
_ACTION = re.compile(r"/[^\x00-\x1f]{1,1024}")
_ACTIVATION = re.compile(r"[0-9a-f]{32}")


class SocketInUse(Exception):
    """The path of the node socket cannot be taken; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Report:
    event: str  # start | end
    phase: str  # init | run
    action: str  # "/namespace/[package/]name", or nothing
    activation: str  # 32 hex digits, or nothing
    inflight: int
    input_bytes: int


def parse(datagram: bytes) -> Report | None:
    """The report in a datagram; ``None`` for anything that is not one of version 1."""
    try:
        data = json.loads(datagram)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("v") != 1:
        return None
    event, phase = data.get("event"), data.get("phase")
    if event not in ("start", "end") or phase not in ("init", "run"):
        return None
    action, activation = data.get("action") or "", data.get("activation") or ""
    if not isinstance(action, str) or (action and not _ACTION.fullmatch(action)):
        return None
    if not isinstance(activation, str) or (activation and not _ACTIVATION.fullmatch(activation)):
        return None
    inflight, input_bytes = _count(data.get("inflight")), _count(data.get("input_bytes"))
    if inflight is None or input_bytes is None:
        return None
    return Report(event, phase, action, activation, inflight, input_bytes)


class ReportSocket:
    """Binds the node socket. Raises :class:`SocketInUse`; a socket nobody listens on any more is replaced."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.malformed = 0
        self.unknown = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._stop_reader, self._stop_writer = socket.socketpair()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._clear()
            self._socket.bind(str(self.path))
            # Actions may run as any user; who they are is told by their process id.
            self.path.chmod(0o666)
        except OSError as error:
            self._socket.close()
            raise SocketInUse(f"cannot listen on {self.path}: {error.strerror or error}") from None
        self._inode = self.path.stat().st_ino

    def listen(self, group_of: Callable[[int], str | None], handle: Callable[[Report, str, float], None]) -> None:
        """Hand each report to ``handle(report, group, time)`` until :meth:`close`; runs in the caller's thread."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._stop_reader, select.POLLIN)
        while True:
            ready = poller.poll()
            if any(descriptor == self._stop_reader.fileno() for descriptor, _ in ready):
                return
            try:
                datagram, ancillary, flags, _ = self._socket.recvmsg(
                    MAX_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(64), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                continue
            received = time.monotonic()
            pid = _sender(ancillary)
            report = None if flags & socket.MSG_TRUNC else parse(datagram)
            if report is None or pid is None:
                self.malformed += 1
                continue
            try:
                group = group_of(pid)
                if group:
                    handle(report, group, received)
                else:
                    self.unknown += 1
            except Exception:  # one report must not end all of them
                log.exception("a report of process %d could not be handled", pid)

    def close(self) -> None:
        self._stop_writer.send(b"q")
        try:
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        except FileNotFoundError:
            pass
        self._socket.close()

    def _clear(self) -> None:
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketInUse(f"{self.path} exists and is not a socket: name another path with --node-socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()
                return
        raise SocketInUse(f"another agent listens on {self.path}: stop it or name another path with --node-socket")


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    pid = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid = _CREDENTIALS.unpack_from(data)[0]
        elif kind == socket.SCM_RIGHTS:
            # Nobody has a reason to send descriptors here; unclosed they would fill this process.
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            for descriptor in descriptors:
                os.close(descriptor)
    return pid or None


def _count(value: object) -> int | None:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        return None
    return value
