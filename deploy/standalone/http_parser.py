"""Requests read strictly: whatever two programs could understand in two ways is refused."""

from __future__ import annotations

import contextlib

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

# Between chunks stand a size and seldom used extensions: longer ones are an attack on the memory.
_MAX_CHUNK_LINE = 4096
_MAX_DIGITS = 18  # of a length
_VERSIONS = ("1.0", "1.1")


class UriTooLong(Error):
    code = 414
    reason = "URI Too Long"


class VersionNotSupported(Error):
    code = 505
    reason = "HTTP Version Not Supported"


class RequestParser(HTTPRequestParser):
    """waitress's parser, with less tolerance (RFC 9112) and bounds for what it keeps of a body sent in chunks."""

    def received(self, data: bytes) -> int:
        """Take ``data``; how much of it belongs to this request. Afterwards ``completed`` and ``error`` may be set."""
        consumed = super().received(data)
        if self.error:
            self.error = self._clearer(self.error, data)
        elif self.chunked and not self.completed:
            between = self.body_rcv
            if max(len(between.control_line), len(between.trailer)) > _MAX_CHUNK_LINE:
                self.error = BadRequest("What stands between the chunks of the body is too long.")
                self.completed = True
        return consumed

    def close(self) -> None:
        """Throw away what is kept of the body, also where the disk has no room for what was still to be written."""
        with contextlib.suppress(OSError):
            super().close()

    def parse_header(self, header_plus: bytes) -> None:
        if b"\0" in header_plus:
            raise ParsingError("NUL bytes have no place in the head of a request.")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # "http://[" as an address
            if len(self.headers.get("CONTENT_LENGTH", "")) > _MAX_DIGITS:
                raise ParsingError("Content-Length is longer than any number of bytes.") from None
            raise ParsingError(f"The address in the first line is none: {error}.") from None
        if self.version not in _VERSIONS:
            raise ParsingError("The first line names no version of HTTP.")
        if "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding needs HTTP/1.1.")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other.")
        if self.version == "1.1" and not self.headers.get("HOST"):
            raise ParsingError("HTTP/1.1 needs the header Host.")
        if "," in self.headers.get("HOST", ""):
            raise ParsingError("There is more than one header Host.")

    def _clearer(self, error: Error, data: bytes) -> Error:
        if isinstance(error, RequestHeaderFieldsTooLarge):
            most = self.adj.max_request_header_size
            if b"\n" not in (self.header_plus + data)[:most]:
                return UriTooLong(f"The first line has more than {most} bytes.")
            return RequestHeaderFieldsTooLarge(f"The headers have more than {most} bytes.")
        if isinstance(error, RequestEntityTooLarge):
            return RequestEntityTooLarge(f"The body has more than {self.adj.max_request_body_size - 1} bytes.")
        if self.version and self.version not in _VERSIONS:
            return VersionNotSupported(f"HTTP/{self.version} is not spoken here, HTTP/1.1 is.")
        return error


def limits(*, max_body_bytes: int, max_head_bytes: int) -> Adjustments:
    """What the parser accepts: larger bodies are a 413, larger heads a 431 (or 414 when it is the first line)."""
    return Adjustments(max_request_body_size=max_body_bytes + 1, max_request_header_size=max_head_bytes)
