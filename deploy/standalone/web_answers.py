"""From the record of a web action to the answer that a browser gets. Nothing here uses the request."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from flask import Response

from deploy.standalone import content, media
from deploy.standalone.errors import ApiError
from deploy.standalone.jsontext import dumps
from deploy.standalone.model import Status
from deploy.standalone.records import Record, status_of

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# The server's own business; an action that sets them would break the connection.
_HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te"}
# All actions and the page share one origin: with this one an action's script could put itself in front of them all.
_NOT_PASSED_ON = _HOP_BY_HOP | {"service-worker-allowed"}
_BODILESS = (204, 205, 304)
# Those that OpenWhisk's HTTP library has names for. 1xx would announce a second response that never comes.
_STATUSES = frozenset(
    (
        *range(200, 209),
        226,
        *range(300, 306),
        *(307, 308),
        *range(400, 419),
        *range(420, 427),
        *(428, 429, 431, 449, 450, 451),
        *range(500, 512),
        *(598, 599),
    )
)


def answer(extension: str, record: Record) -> Response:
    """The answer to a call with ``extension``, one of EXTENSIONS. ApiError where the result does not fit it."""
    status, result = status_of(record), record["response"]["result"]
    if status is Status.APPLICATION_ERROR:
        if not isinstance(result, dict) or "error" not in result:
            raise _missing("error")
        # An error is an answer as good as any: {"error": {"statusCode": 404}} is how an action says 404.
        result = result["error"]
    elif status is not Status.SUCCESS:
        raise ApiError(400, "The action failed; its activation record says why.")
    try:
        return EXTENSIONS[extension](result)
    except RecursionError:
        raise ApiError(400, "The action's result is nested too deeply to be shown.") from None


def pretty(value: Any, indent: int = 0) -> str:
    """JSON for people as OpenWhisk writes it: objects over several lines with sorted keys, lists in one."""
    if isinstance(value, list):
        return f"[{', '.join(pretty(item, indent) for item in value)}]"
    if not isinstance(value, dict):
        return dumps(value)
    inner = " " * (indent + 2)
    members = ",\n".join(f"{inner}{dumps(key)}: {pretty(value[key], indent + 2)}" for key in sorted(value))
    return "{\n" + members + "\n" + " " * indent + "}"


def _invalid(media_type: str) -> ApiError:
    return ApiError(400, f"The action's result is no '{media_type}'.")


def _missing(field: str) -> ApiError:
    return ApiError(404, f"The action's result has no '{field}'.")


def _as_json(result: Any) -> Response:
    if not isinstance(result, dict | list):
        raise _invalid("application/json")
    return Response(dumps(result), mimetype="application/json")


def _as_text(result: Any) -> Response:
    if isinstance(result, dict):
        if "body" not in result and "text" not in result:
            raise _missing("text")
        result = result.get("body", result.get("text"))
    text = result if isinstance(result, str) else pretty(result)
    return Response(_encoded(text), content_type="text/plain; charset=UTF-8")


def _as_html(result: Any) -> Response:
    return Response(_field(result, "html", "text/html"), content_type="text/html; charset=UTF-8")


def _as_svg(result: Any) -> Response:
    return Response(_field(result, "svg", "image/svg+xml"), content_type="image/svg+xml")


def _field(result: Any, name: str, media_type: str) -> bytes:
    value = result.get("body", result.get(name)) if isinstance(result, dict) else result
    if not isinstance(value, str):
        raise _invalid(media_type)
    return _encoded(value)


def _as_http(result: Any) -> Response:
    """``statusCode``, ``headers`` and ``body`` of a result as an HTTP response."""
    if not isinstance(result, dict):
        raise _invalid("message/http")
    body = result.get("body")
    empty = body is None or body == ""
    headers = _headers(result.get("headers", {}))
    response = Response(status=_status(result.get("statusCode", 204 if empty else 200)))
    del response.headers["Content-Type"]
    given = next((value for name, value in headers if name.lower() == "content-type"), None)
    for name, value in headers:
        if name.lower() not in _NOT_PASSED_ON and name.lower() != "content-type":
            response.headers.add(name, value)
    if not empty:
        data, content_type = _json_body(body, given) if not isinstance(body, str) else _text_body(body, given)
        if response.status_code not in _BODILESS:
            response.set_data(data)
            response.headers["Content-Type"] = content_type
    return response


def _json_body(body: Any, given: str | None) -> tuple[bytes, str]:
    content_type = given or "application/json"
    if not media.valid(content_type) or not media.is_json(content_type):
        raise ApiError(400, f"The action's 'body' is JSON, but its header says '{content_type[:80]}'.")
    plain = media.media_type(content_type) == "application/json"
    return _encoded(dumps(body) if plain else pretty(body)), media.media_type(content_type)


def _text_body(body: str, given: str | None) -> tuple[bytes, str]:
    content_type = given or "text/html"
    if not media.valid(content_type):
        raise ApiError(400, f"The action's header 'Content-Type: {content_type[:80]}' names no media type.")
    text = media.is_text(content_type)
    if text and not (media.is_json(content_type) and content.is_binary(body)):
        return _encoded(body), media.in_utf8(content_type)
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"The action's 'body' of type '{content_type[:80]}' is not in base64.") from None
    return data, media.in_utf8(content_type) if text else content_type


def _status(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    if whole or isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}", value, re.ASCII):
        status = int(value)
        if status in _STATUSES:
            return status
    raise _invalid("message/http")


def _headers(given: Any) -> list[tuple[str, str]]:
    if not isinstance(given, dict):
        raise _invalid("message/http")
    return [(name, text) for name, value in given.items() for text in _header(name, value)]


def _header(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for inner in value for text in _header(name, inner)]
    text = value if isinstance(value, str) else json.dumps(value)
    if value is None or isinstance(value, dict) or not _HEADER.fullmatch(name) or any(c in text for c in "\r\n\0"):
        raise _invalid("message/http")
    return [text.encode("utf-8", "replace").decode("latin-1")]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


EXTENSIONS: dict[str, Callable[[Any], Response]] = {
    ".http": _as_http,
    ".json": _as_json,
    ".html": _as_html,
    ".svg": _as_svg,
    ".text": _as_text,
}
