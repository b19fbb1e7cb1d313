"""One kept-open connection to a container's runtime."""

from __future__ import annotations

import socket
from typing import Protocol

from deploy.standalone.invoker.http import BadResponse, Response, ResponseReader, post
from deploy.standalone.invoker.loop import Loop
from deploy.standalone.invoker.responses import MAX_RESULT

CHUNK = 262_144


class Reader(Protocol):
    """Told on the loop's thread what becomes of a connection; ``activation_id`` is of the request under way."""

    def received(self, connection: Connection, activation_id: str, response: Response) -> None: ...

    def broken(self, connection: Connection, activation_id: str | None) -> None:
        """The connection is closed; no answer will come."""
        ...


class Connection:
    """Carries one request at a time. :meth:`send` may be called from any thread, the rest on the loop's thread."""

    def __init__(self, connection: socket.socket, loop: Loop, reader: Reader) -> None:
        self._socket = connection
        self._loop = loop
        self._reader = reader
        self._response = ResponseReader(MAX_RESULT)
        self._outbox = memoryview(b"")
        self._activation_id: str | None = None
        loop.watch(connection.fileno(), self.receive)

    def send(self, activation_id: str, path: str, body: bytes) -> None:
        """Raises ``OSError`` when the runtime is gone: nothing has been delivered then."""
        self._activation_id = activation_id
        data = memoryview(post(path, body))
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._activation_id = None
            raise
        if sent < len(data):
            self._outbox = data[sent:]
            self._loop.want_write(self._socket.fileno(), True)

    def receive(self) -> bool:
        """Whether something was read."""
        if self._socket.fileno() < 0:
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
            response = self._response.feed(data) if data else None
        except BlockingIOError:
            return False
        except (OSError, BadResponse):
            data, response = b"", None
        activation_id = self._activation_id
        if not data:
            self.close()
            self._reader.broken(self, activation_id)
            return False
        if response is not None:
            self._activation_id = None
            if not response.keep_alive:
                self.close()
            if activation_id is not None:
                self._reader.received(self, activation_id, response)
        return True

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        if not self.closed:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._outbox = memoryview(b"")
