"""The descriptors of one container, driven by the loop: readiness, requests and answers, output, exit."""

from __future__ import annotations

import os
import socket
from typing import Protocol

from deploy.standalone.invoker.container import Container
from deploy.standalone.invoker.http import BadResponse, Response, ResponseReader, post
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.loop import Loop
from deploy.standalone.invoker.responses import MAX_RESULT

CHUNK = 262_144
PIPE_MAX = 1 << 20  # bytes that a pipe holds at most, if the action makes it as large as it may
TAIL = 2_000  # bytes of output outside an activation that are kept to explain a failed start


class Listener(Protocol):
    """Told on the loop's thread what the container does."""

    def started(self) -> None: ...

    def answered(self, response: Response) -> None: ...

    def logged(self) -> None:
        """The activation's log is complete."""
        ...

    def hung_up(self) -> None:
        """No answer will come: the connection broke."""
        ...

    def exited(self) -> None:
        """The runtime's process ended, or never got ready."""
        ...


class Conversation:
    """:meth:`send` and :meth:`collect` may be called from any thread, the rest on the loop's thread."""

    def __init__(self, container: Container, loop: Loop, listener: Listener) -> None:
        self._container = container
        self._loop = loop
        self._listener = listener
        self._socket: socket.socket | None = None
        self._reader = ResponseReader(MAX_RESULT)
        self._outbox = memoryview(b"")
        self._log: ActivationLog | None = None
        self.tail = b""
        for stream, descriptor in enumerate(container.streams):
            loop.watch(descriptor, lambda stream=stream: self._on_output(stream))
        loop.watch(container.exited, self._on_exit)
        loop.watch(container.ready, self._on_ready)

    def collect(self, log: ActivationLog | None) -> None:
        """From now on output goes to this log; ``None``: it belongs to no activation."""
        self._log = log

    def send(self, path: str, body: bytes) -> None:
        """Raises ``OSError`` when the runtime cannot be reached: nothing has been delivered then."""
        connection = self._socket or self._connect()
        data = memoryview(post(path, body))
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._outbox = data[sent:]
            self._loop.want_write(connection.fileno(), True)

    def drain(self) -> None:
        """Read the output that is there already, and not all that a process may go on writing."""
        for stream in (0, 1):
            for _ in range(PIPE_MAX // CHUNK):
                if not self._on_output(stream):
                    break

    def close(self) -> None:
        """Stop listening; the container may be destroyed afterwards."""
        for descriptor in (*self._container.streams, self._container.exited, self._container.ready):
            self._loop.unwatch(descriptor)
        self._hang_up()

    def _connect(self) -> socket.socket:
        self._socket = connection = self._container.connect()
        self._reader = ResponseReader(MAX_RESULT)
        self._loop.watch(connection.fileno(), self._on_socket)
        return connection

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._outbox = memoryview(b"")

    def _on_ready(self) -> None:
        try:
            ready = os.read(self._container.ready, 1)
        except BlockingIOError:
            return
        self._loop.unwatch(self._container.ready)
        try:
            if ready:
                self._connect()
        except OSError:
            ready = b""
        if ready:
            self._listener.started()
        else:
            self.drain()
            self._listener.exited()

    def _on_socket(self) -> bool:
        """Whether something was read."""
        if self._socket is None:
            return False
        try:
            if self._outbox:
                self._outbox = self._outbox[self._socket.send(self._outbox) :]
                if not self._outbox:
                    self._loop.want_write(self._socket.fileno(), False)
        except OSError:  # a broken pipe shows again on reading
            pass
        try:
            data = self._socket.recv(CHUNK)
            response = self._reader.feed(data) if data else None
        except BlockingIOError:
            return False
        except (OSError, BadResponse):
            data, response = b"", None
        if not data:
            self._hang_up()
            self._listener.hung_up()
            return False
        if response is not None:
            if not response.keep_alive:
                self._hang_up()
            self._listener.answered(response)
        return True

    def _on_output(self, stream: int) -> bool:
        """Whether something was read."""
        descriptor = self._container.streams[stream]
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.unwatch(descriptor)
            return False
        log = self._log
        if log is None:
            self.tail = (self.tail + data)[-TAIL:]
        elif not log.complete:
            log.feed(stream, data)
            if log.complete:
                self._listener.logged()
        return True

    def _on_exit(self) -> None:
        self._loop.unwatch(self._container.exited)
        while self._on_socket():  # an answer given before the exit counts
            pass
        self.drain()
        self._listener.exited()
