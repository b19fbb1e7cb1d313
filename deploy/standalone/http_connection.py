"""One connection of a client: reads requests, has them answered by the application, sends the answers."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from waitress.utilities import Error

from deploy.standalone.http_parser import RequestParser
from deploy.standalone.jsontext import dumps
from deploy.standalone.logs import event
from deploy.standalone.transactions import new_transaction_id

if TYPE_CHECKING:
    from flask import Response

    from deploy.standalone.http_server import HttpServer
    from deploy.standalone.later import Later

log = logging.getLogger(__name__)
_access = logging.getLogger("owl.access")
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Under this key the application finds a function to call with an answer that is not ready yet.
DEFER = "owl.defer"
_CHUNK = 1 << 16
_LINGER_S = 10.0  # how long a refused client may go on sending before it must have read why
_SLOWEST = 100_000  # bytes of a body per second, once the time for a request is over
_BODILESS = ("1", "204", "304")
_RENAMED = {"CONTENT_TYPE": "CONTENT_TYPE", "CONTENT_LENGTH": "CONTENT_LENGTH"}
_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT


class _Phase(Enum):
    READING = "reading"
    SERVING = "serving"  # the application has the request
    SENDING = "sending"
    LINGERING = "lingering"  # what still comes is thrown away, so that the client gets to read the answer
    CLOSED = "closed"


@dataclass(slots=True)
class _Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Connection:
    """At any time one thread at most acts for it: the one that took it (:meth:`_take`) since it was last armed."""

    def __init__(self, server: HttpServer, connected: socket.socket, peer: str) -> None:
        self._server = server
        self._socket = connected
        self._peer = peer
        self._lock = threading.Lock()
        self._armed = False
        self._phase = _Phase.READING
        self._input = b""
        self._output = memoryview(b"")
        self._parser: RequestParser | None = None
        self._began = 0.0  # when the request that is being read began
        self._close_after = False
        self.deadline = time.monotonic() + server.limits.idle_s
        self.descriptor = connected.fileno()

    def open(self) -> None:
        """From now on :meth:`ready` is called when there is something to read."""
        self._armed = True
        self._server.watch(self.descriptor, _READ)

    @property
    def idle(self) -> bool:
        """Nothing of a request has come since the last answer."""
        return self._armed and self._resting

    @property
    def busy(self) -> bool:
        """A request is with the application, or its answer on the way."""
        return self._phase in (_Phase.SERVING, _Phase.SENDING)

    def ready(self) -> None:
        """The socket has something to read, or room to write."""
        if not self._take():
            return
        if self._phase is _Phase.SENDING:
            self._flush()
        elif self._phase is _Phase.LINGERING:
            self._discard()
        else:
            self._read()

    def expire(self, now: float) -> None:
        """The deadline may be over: then end what takes too long."""
        if now < self.deadline or not self._take():
            return
        if now < self.deadline:  # it was taken and armed in between
            self._arm_again()
        elif self._phase is _Phase.READING and self._parser is not None:
            what = "body" if self._parser.headers_finished else "head"
            self._refuse("408 Request Timeout", f"The {what} of the request did not arrive in time.")
        else:
            self.close()

    def evict(self) -> None:
        """Close the connection if it is idle."""
        if self._take():
            if self._resting:
                self.close()
            else:
                self._arm_again()

    def close(self) -> None:
        """Close whatever goes on; an answer that comes later is thrown away."""
        with self._lock:
            self._armed = False
            if self._phase is _Phase.CLOSED:
                return
            self._phase = _Phase.CLOSED
        self._server.forget(self)
        self._forget_request()
        self._socket.close()

    @property
    def _resting(self) -> bool:
        return self._phase is _Phase.READING and self._parser is None and not self._input

    def _take(self) -> bool:
        with self._lock:
            taken, self._armed = self._armed, False
        return taken

    def _arm(self, events: int, deadline: float) -> None:
        self.deadline = deadline
        with self._lock:
            if self._phase is _Phase.CLOSED:
                return
            self._armed = True
            self._server.rearm(self.descriptor, events)

    def _arm_again(self) -> None:
        if self._phase is _Phase.SENDING:
            events = _WRITE
        else:
            events = _READ | _WRITE if self._input else _READ
        self._arm(events, self.deadline)

    # reading

    def _read(self) -> None:
        if not self._input:
            try:
                self._input = self._socket.recv(_CHUNK)
            except BlockingIOError:
                self._await_request()
                return
            except OSError:
                self.close()
                return
            if not self._input:
                self.close()
                return
        self._advance()

    def _advance(self) -> None:
        """Serve the requests that are there; then wait for more."""
        while self._input:
            if self._parser is None:
                self._parser = self._server.new_parser()
                self._began = time.monotonic()
            parser = self._parser
            try:
                consumed = parser.received(self._input)
            except OSError:  # large bodies are kept in files
                self._refuse("507 Insufficient Storage", "The server's disk has no room for the body of the request.")
                return
            self._input = self._input[consumed:]
            if parser.error:
                self._refuse_request(parser.error)
                return
            if parser.completed:
                self._parser = None
                if not parser.empty and not self._serve(parser):
                    return
            elif parser.expect_continue and parser.headers_finished:
                parser.expect_continue = False
                with contextlib.suppress(OSError):
                    self._socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._await_request()

    def _await_request(self) -> None:
        self._phase = _Phase.READING
        limits = self._server.limits
        if self._parser is None:
            self._arm(_READ, time.monotonic() + limits.idle_s)
        else:
            grace = self._parser.body_bytes_received / _SLOWEST
            self._arm(_READ, self._began + limits.request_s + grace)

    def _forget_request(self) -> None:
        if self._parser is not None:
            self._parser.close()
            self._parser = None

    # serving

    def _serve(self, request: RequestParser) -> bool:
        """Have the request answered; whether the next one may be served at once."""
        self._phase = _Phase.SERVING
        environ = self._environ(request)
        deferred: list[Later] = []
        environ[DEFER] = deferred.append
        try:
            answer = _run(self._server.application, environ)
        finally:
            request.close()
        if deferred:
            # From here on the connection is the business of whoever completes the answer.
            deferred[0].when_done(partial(self._resume, request))
            return False
        return self._respond(request, answer)

    def _resume(self, request: RequestParser, response: Response) -> None:
        """On any thread: the answer that was waited for."""
        try:
            answer = _Answer(response.status, response.headers.to_wsgi_list(), response.get_data())
            if not self._respond(request, answer):
                return
        except Exception:  # nobody above would close the connection
            log.exception("an answer could not be sent")
            self.close()
            return
        if not self._input:
            self._await_request()
            return
        # Whose thread this is has other things to do than to serve the next request: a thread of the server takes it.
        self._phase = _Phase.READING
        self._arm(_READ | _WRITE, time.monotonic() + self._server.limits.request_s)

    def _respond(self, request: RequestParser, answer: _Answer) -> bool:
        asked = request.headers.get("CONNECTION", "").lower()
        keep = asked == "keep-alive" if request.version == "1.0" else "close" not in asked
        lines, length, date = [f"HTTP/1.1 {answer.status}"], "", ""
        for name, value in answer.headers:
            field = name.lower()
            if field == "connection":
                keep = keep and value.lower() != "close"
            elif field == "date":
                date = value
            elif field != "content-length":
                lines.append(f"{name}: {value}")
            elif request.command == "HEAD":
                length = value  # of the body that a GET would have had
        bodiless = answer.status.startswith(_BODILESS)
        if not bodiless:
            lines.append(f"Content-Length: {length or len(answer.body)}")
        if not keep:
            lines.append("Connection: close")
        elif request.version == "1.0":
            lines.append("Connection: keep-alive")
        lines.append(f"Date: {date or _date()}\r\n\r\n")
        body = b"" if bodiless or request.command == "HEAD" else answer.body
        return self._send("\r\n".join(lines).encode("latin-1", "replace") + body, close=not keep)

    def _refuse_request(self, error: Error) -> None:
        self._refuse(f"{error.code} {error.reason}", error.body)

    def _refuse(self, status: str, message: str) -> None:
        """Answer what is no request (any more); nothing after it can be understood."""
        self._forget_request()
        self._input = b""
        transaction_id = new_transaction_id()
        event(_access, logging.INFO, "refused", tid=transaction_id, peer=self._peer, status=int(status[:3]))
        body = dumps({"error": message, "code": transaction_id}).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-ID: {transaction_id}\r\nConnection: close\r\nDate: {_date()}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self._socket.send(head.encode("latin-1") + body)
        self._linger()

    def _linger(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._phase = _Phase.LINGERING
        self._arm(_READ, time.monotonic() + _LINGER_S)

    def _discard(self) -> None:
        try:
            ended = not self._socket.recv(_CHUNK)
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        if ended:
            self.close()
        else:
            self._arm(_READ, self.deadline)

    # sending

    def _send(self, data: bytes, *, close: bool) -> bool:
        """Whether all was sent and the connection goes on."""
        self._output = memoryview(data)
        self._close_after = close
        return self._write()

    def _flush(self) -> None:
        if self._write():
            self._advance()

    def _write(self) -> bool:
        try:
            while self._output:
                self._output = self._output[self._socket.send(self._output) :]
        except BlockingIOError:
            self._phase = _Phase.SENDING
            self._arm(_WRITE, time.monotonic() + self._server.limits.request_s)
            return False
        except OSError:
            self.close()
            return False
        self._output = memoryview(b"")
        if self._close_after:
            if self._input:
                self._linger()
            else:
                self.close()
            return False
        return True

    def _environ(self, request: RequestParser) -> dict[str, Any]:
        environ = {
            **self._server.environ,
            "REMOTE_ADDR": self._peer,
            "REQUEST_METHOD": request.command,
            "REQUEST_URI": request.request_uri,
            "PATH_INFO": request.path if request.path.startswith("/") else f"/{request.path}",
            "QUERY_STRING": request.query,
            "SERVER_PROTOCOL": f"HTTP/{request.version}",
            "wsgi.input": request.get_body_stream() if request.body_rcv else BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        for name, value in request.headers.items():
            environ[_RENAMED.get(name) or f"HTTP_{name}"] = value
        return environ


def _run(application: Application, environ: dict[str, Any]) -> _Answer:
    answer = _Answer("", [], b"")

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], None]:
        answer.status, answer.headers = status, headers
        return _no_write

    try:
        chunks = application(environ, start_response)
        try:
            answer.body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
    except Exception as error:  # a defect; the client must not wait for ever
        log.error("an answer failed: %s", type(error).__name__)
        return _Answer("500 Internal Server Error", [("Connection", "close")], b"")
    return answer


def _no_write(_: bytes) -> None:
    raise NotImplementedError("the application returns its answers")


def _date() -> str:
    """The time for the header; formatted once a second."""
    global _formatted
    now = int(time.time())
    if _formatted[0] != now:
        _formatted = (now, formatdate(now, usegmt=True))
    return _formatted[1]


_formatted = (0, "")
