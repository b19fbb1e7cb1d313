"""HTTP/1.1 as spoken to a container: one kept-open connection, every answer with a Content-Length.

The action interface allows nothing else (an answer without a length counts as a crash), so a parser for just
that, fed from non-blocking reads, costs 10 us where a general client costs hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEAD = 65536


class BadResponse(Exception):
    """The container does not speak the action interface."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes  # at most ``keep`` bytes of it
    length: int  # Content-Length
    keep_alive: bool


def post(path: str, body: bytes) -> bytes:
    """The bytes of a request with a JSON body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: container\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class ResponseReader:
    """Collects one answer after the other. Keeps at most ``keep`` bytes of each body."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._reset()

    def _reset(self) -> None:
        self._head: bytearray = bytearray()
        self._body: bytearray | None = None
        self._status = 0
        self._length = 0
        self._received = 0
        self._keep_alive = True

    def feed(self, data: bytes) -> Response | None:
        """The answer once it is complete. Raises :class:`BadResponse`."""
        if self._body is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > MAX_HEAD:
                    raise BadResponse("endless header")
                return None
            data = bytes(self._head[end + 4 :])
            self._parse(bytes(self._head[:end]))
            self._body = bytearray()
        self._received += len(data)
        if len(self._body) < self._keep:
            self._body += data[: self._keep - len(self._body)]
        if self._received < self._length:
            return None
        if self._received > self._length:
            raise BadResponse("more than one answer")
        response = Response(self._status, bytes(self._body), self._length, self._keep_alive)
        self._reset()
        return response

    def _parse(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        try:
            version, status = lines[0].split(None, 2)[:2]
            headers = {name.strip().lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines[1:])}
            self._status = int(status)
            self._length = int(headers[b"content-length"])
        except (ValueError, KeyError):
            raise BadResponse("no status line or Content-Length") from None
        if self._length < 0 or not version.startswith(b"HTTP/1."):
            raise BadResponse("no HTTP/1 answer")
        said = headers.get(b"connection", b"").lower()
        # Who speaks HTTP/1.0 (Python's http.server does, if not told otherwise) hangs up without a word.
        self._keep_alive = said == b"keep-alive" if version == b"HTTP/1.0" else said != b"close"
