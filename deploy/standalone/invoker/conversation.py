"""The descriptors of one container, driven by the loop: readiness, requests and answers, output, exit."""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from deploy.standalone.invoker.collector import Collector
from deploy.standalone.invoker.connection import CHUNK, Connection
from deploy.standalone.invoker.container import Container
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.loop import Loop

PIPE_MAX = 1 << 20  # bytes that a pipe holds at most, if the action makes it as large as it may


class Listener(Protocol):
    """Told on the loop's thread what the container does."""

    def started(self) -> None: ...

    def answered(self, activation_id: str, response: Response) -> None: ...

    def logged(self, activation_id: str) -> None:
        """The activation's log is complete."""
        ...

    def hung_up(self, activation_id: str, delivered: bool) -> None:
        """No answer will come: the connection broke, before anything of the request was sent or after that."""
        ...

    def exited(self) -> None:
        """The runtime's process ended, or never got ready."""
        ...


class Conversation:
    """:meth:`send` and :meth:`reconnect` may be called from any thread, the rest on the loop's thread."""

    def __init__(self, container: Container, loop: Loop, listener: Listener, collector: Collector) -> None:
        self._container = container
        self._loop = loop
        self._listener = listener
        self._connections: set[Connection] = set()
        self._free: list[Connection] = []
        self.collector = collector
        for stream, descriptor in enumerate(container.streams):
            loop.watch(descriptor, lambda stream=stream: self._on_output(stream))
        loop.watch(container.exited, self._on_exit)
        loop.watch(container.ready, self._on_ready)

    def send(self, activation_id: str, path: str, body: bytes) -> None:
        """Raises ``OSError`` when the runtime cannot be reached: nothing has been delivered then."""
        while self._free:
            with contextlib.suppress(IndexError, OSError):  # it was closed a moment ago: the next one
                self._free.pop().send(activation_id, path, body)
                return
        self._connect().send(activation_id, path, body)

    def reconnect(self) -> None:
        """No activation may be under way. A runtime that was paused may be about to close what was idle for long."""
        self._free.clear()
        for connection in list(self._connections):
            self._connections.discard(connection)
            self._loop.at(0.0, connection.close)

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
        for connection in list(self._connections):
            connection.close()

    def received(self, connection: Connection, activation_id: str, response: Response) -> None:
        if connection.closed:
            self._connections.discard(connection)
        else:
            self._free.append(connection)
        self._listener.answered(activation_id, response)

    def broken(self, connection: Connection, activation_id: str | None, delivered: bool) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):  # it was in use
            self._free.remove(connection)
        if activation_id is not None:
            self._listener.hung_up(activation_id, delivered)

    def _connect(self) -> Connection:
        connection = Connection(self._container.connect(), self._loop, self)
        self._connections.add(connection)
        return connection

    def _on_ready(self) -> None:
        try:
            ready = os.read(self._container.ready, 1)
        except BlockingIOError:
            return
        self._loop.unwatch(self._container.ready)
        try:
            if ready:
                self._free.append(self._connect())
        except OSError:
            ready = b""
        if ready:
            self._listener.started()
        else:
            self.drain()
            self._listener.exited()

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
        for activation_id in self.collector.feed(stream, data):
            self._listener.logged(activation_id)
        return True

    def _on_exit(self) -> None:
        self._loop.unwatch(self._container.exited)
        for connection in list(self._connections):
            while connection.receive():  # an answer given before the exit counts
                pass
            if not connection.closed:
                connection.give_up()
        self.drain()
        self._listener.exited()
