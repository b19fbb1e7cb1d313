"""HTTP/1.1 over non-blocking sockets: h11 does the protocol, this file moves the bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any

import h11

MAX_BODY_BYTES = 100 << 20  # code of 48 MiB in base64, and room for the rest
_MAX_AHEAD_BYTES = 64 << 10  # of later requests, while one is being served
_CHUNK = 256 << 10


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has arrived whole; ``path`` is without its query."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """``body`` is JSON text, or empty."""

    status: int
    body: bytes = b""


def json_response(status: int, value: dict[str, Any]) -> Response:
    """A response of compact JSON and a newline, as the proxy of OpenWhisk writes its own."""
    return Response(status, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")


def error(status: int, message: str) -> Response:
    """``{"error": message}``"""
    return json_response(status, {"error": message})


Handler = Callable[[Request, Callable[[Response], None]], None]


class Connection:
    """One client. Its requests go to ``handler`` one after the other; the answer may come at any time later.

    A client that goes away while it is served does not stop what it asked for: only the answer is dropped.
    """

    def __init__(self, client: socket.socket, selector: BaseSelector, handler: Handler) -> None:
        client.setblocking(False)
        self._client = client
        self._selector = selector
        self._handler = handler
        self._protocol = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._unsent = memoryview(b"")
        self._watched = 0
        self._parsing = False
        self._serving = False
        self._input_ended = False
        self._last_response = False
        self._closed = False
        self._watch()

    def _on_event(self, mask: int) -> None:
        if self._closed:
            return
        if mask & EVENT_WRITE:
            self._flush()
        if mask & EVENT_READ and not self._closed:
            self._read()

    def _read(self) -> None:
        try:
            data = self._client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        if not data:
            self._input_ended = True
            self._watch()
        elif not self._last_response:
            self._protocol.receive_data(data)
        if self._serving:
            # It may have closed only its half: the answer is still sent.
            if len(self._protocol.trailing_data[0]) > _MAX_AHEAD_BYTES:
                self._close()
            return
        if not data:
            self._protocol.receive_data(data)
        self._parse()

    def _parse(self) -> None:
        self._parsing = True
        try:
            while not self._closed and not self._serving and not self._last_response:
                event = self._protocol.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    if self._protocol.they_are_waiting_for_100_continue:
                        self._send(self._protocol.send(h11.InformationalResponse(status_code=100, headers=[])))
                    return
                self._on_protocol(event)
        except h11.RemoteProtocolError as problem:
            self._refuse(problem.error_status_hint, str(problem))
        finally:
            self._parsing = False

    def _on_protocol(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._request = event
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > MAX_BODY_BYTES:
                self._refuse(413, f"the request is larger than {MAX_BODY_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            body, self._body = bytes(self._body), bytearray()
            path = self._request.target.decode("ascii", "replace").partition("?")[0]
            self._serving = True
            self._handler(Request(self._request.method.decode("ascii"), path, body), self._answer)
        elif isinstance(event, h11.ConnectionClosed):
            self._close()

    def _answer(self, response: Response) -> None:
        self._serving = False
        if self._closed:
            return
        data = self._encode(response)
        self._last_response = self._input_ended or self._protocol.our_state is not h11.DONE
        self._send(data)
        if not self._last_response and not self._closed:
            self._protocol.start_next_cycle()
            if not self._parsing:
                self._parse()

    def _refuse(self, status: int, message: str) -> None:
        if self._protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._close()
            return
        self._last_response = True
        self._send(self._encode(error(status, message)))

    def _encode(self, response: Response) -> bytes:
        headers = [("Content-Length", str(len(response.body)))]
        if response.body:
            headers.append(("Content-Type", "application/json"))
        parts = [self._protocol.send(h11.Response(status_code=response.status, headers=headers))]
        if response.body and (self._request is None or self._request.method != b"HEAD"):
            parts.append(self._protocol.send(h11.Data(data=response.body)))
        parts.append(self._protocol.send(h11.EndOfMessage()))
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        self._unsent = memoryview(bytes(self._unsent) + data if self._unsent else data)
        self._flush()

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._client.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if self._last_response and not self._unsent:
            self._close()
        else:
            self._watch()

    def _watch(self) -> None:
        wanted = (0 if self._input_ended else EVENT_READ) | (EVENT_WRITE if self._unsent else 0)
        if wanted == self._watched:
            return
        if not self._watched:
            self._selector.register(self._client, wanted, self._on_event)
        elif wanted:
            self._selector.modify(self._client, wanted, self._on_event)
        else:
            self._selector.unregister(self._client)
        self._watched = wanted

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watched:
            self._selector.unregister(self._client)
        self._client.close()
