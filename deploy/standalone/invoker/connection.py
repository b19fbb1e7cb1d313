"""One kept-open connection to a container's runtime."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

from deploy.standalone.invoker.http import BadResponse, Response, ResponseReader, post
from deploy.standalone.invoker.loop import Loop
from deploy.standalone.invoker.responses import MAX_RESULT

CHUNK = 262_144


class Reader(Protocol):
    """Told on the loop's thread what becomes of a connection; ``activation_id`` is of the request under way."""

    def received(self, connection: Connection, activation_id: str, response: Response) -> None: ...

    def broken(self, connection: Connection, activation_id: str | None, delivered: bool) -> None:
        """The connection is closed; no answer will come. ``delivered``: some of the request may have arrived."""
        ...


class Connection:
    """Carries one request at a time, the first one once the connection is made.

    :meth:`send` may be called from any thread, the rest on the loop's thread.
    """

    def __init__(self, connection: socket.socket, loop: Loop, reader: Reader) -> None:
        self._socket = connection
        self._loop = loop
        self._reader = reader
        self._response = ResponseReader(MAX_RESULT)
        self._outbox = memoryview(b"")
        self._activation_id: str | None = None
        self._delivered = False
        self._changing = threading.Lock()  # nothing is sent to whoever has its descriptor once it is closed
        loop.watch(connection.fileno(), self.receive)

    def send(self, activation_id: str, path: str, body: bytes) -> None:
        """Raises ``OSError`` when the runtime is gone: nothing has been delivered then."""
        data = memoryview(post(path, body))
        with self._changing:
            if self.closed:
                raise BrokenPipeError("the connection was closed a moment ago")
            self._activation_id = activation_id
            try:
                sent = self._socket.send(data)
            except BlockingIOError:  # it is not made yet, or full
                sent = 0
            except OSError:
                self._activation_id = None
                raise
            self._delivered = sent > 0
            if sent < len(data):
                self._outbox = data[sent:]
                self._loop.want_write(self._socket.fileno(), True)

    def receive(self) -> bool:
        """Whether something was read."""
        if self.closed:
            return False
        if self._outbox:
            self._send_more()
        try:
            data = self._socket.recv(CHUNK)
            response = self._response.feed(data) if data else None
        except BlockingIOError:
            return False
        except (OSError, BadResponse):
            data, response = b"", None
        if not data:
            self.give_up()
            return False
        if response is not None:
            activation_id, self._activation_id = self._activation_id, None
            if not response.keep_alive or self._outbox:
                self.close()
            if activation_id is not None:
                self._reader.received(self, activation_id, response)
        return True

    def _send_more(self) -> None:
        with self._changing, contextlib.suppress(OSError):  # what broke shows again on reading
            self._outbox = self._outbox[self._socket.send(self._outbox) :]
            self._delivered = True
            if not self._outbox:
                self._loop.want_write(self._socket.fileno(), False)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def give_up(self) -> None:
        """Close it, and tell that."""
        self.close()
        self._reader.broken(self, self._activation_id, self._delivered)

    def close(self) -> None:
        with self._changing:
            if not self.closed:
                self._loop.unwatch(self._socket.fileno())
                self._socket.close()
                self._outbox = memoryview(b"")
