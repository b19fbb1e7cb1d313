"""What every resource needs of HTTP: bodies, query parameters, answers, and the way to the platform."""

from __future__ import annotations

import math
import secrets
import string
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, request

from deploy.standalone import jsontext
from deploy.standalone.auth import User
from deploy.standalone.errors import Rejection, bad_query, forbidden, malformed, too_large

if TYPE_CHECKING:
    from deploy.standalone.core import Platform

JSON_TYPE = "application/json"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
    "Access-Control-Allow-Methods": "GET, DELETE, POST, PUT, HEAD",
}
_ALPHABET = string.ascii_letters + string.digits
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def platform() -> Platform:
    return current_app.extensions["owl"]


def user() -> User:
    """The authenticated user of this request."""
    return g.user


def transaction_id() -> str:
    """The id of this request, echoed as ``X-Request-ID`` and in errors."""
    return g.transaction_id


def new_transaction_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(32))


def own_namespace(namespace: str, path: str | None = None) -> str:
    """The name of the user's own namespace when ``namespace`` is that or ``_``; 403 for anybody else's."""
    name = user().name
    if namespace not in ("_", name):
        raise forbidden(namespace if path is None else f"{namespace}/{path}")
    return name


def any_namespace(namespace: str) -> str:
    return user().name if namespace == "_" else namespace


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON with CORS headers."""
    response = bare_answer(body, status, headers)
    response.headers.update(CORS)
    return response


def bare_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON without CORS headers."""
    return Response(jsontext.dumps(body), status, headers, mimetype=JSON_TYPE)


def text_answer(text: str) -> Response:
    return Response(text, 200, CORS, content_type="text/plain; charset=UTF-8")


def no_content() -> Response:
    response = Response(status=204, headers=CORS)
    del response.headers["Content-Type"]
    return response


def decode(data: bytes) -> Any:
    """JSON -> value, a Rejection where it is none."""
    try:
        return jsontext.loads(data)
    except ValueError as error:
        raise malformed(f"it is not JSON ({error})") from None


def body_size_within(allowed: int) -> None:
    """413 for a body over ``allowed`` bytes, before it is read."""
    if (request.content_length or 0) > allowed:
        raise too_large("The request is", request.content_length or 0, allowed)


def json_body(*, allowed: int, optional: bool = False) -> dict[str, Any]:
    """The JSON object in the body; ``{}`` for an empty body when that is ``optional``."""
    body_size_within(allowed)
    data = request.get_data(cache=False)
    if not data and optional:
        return {}
    if request.mimetype != JSON_TYPE and (data or request.mimetype):
        found = request.mimetype or "application/octet-stream"
        raise Rejection(415, f"The request's Content-Type [{found}] is not supported. Expected: {JSON_TYPE}")
    value = decode(data)
    if not isinstance(value, dict):
        raise malformed("a JSON object is expected")
    return value


def flag(name: str, default: bool = False) -> bool:
    value = request.args.get(name)
    if value is None:
        return default
    if value.lower() not in _TRUE + _FALSE:
        raise bad_query(name, f"'{value}' is neither true nor false")
    return value.lower() in _TRUE


def integer(name: str, low: int, high: float = math.inf) -> int | None:
    value = request.args.get(name)
    if value is None:
        return None
    try:
        number = int(value) if len(value) < 20 else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        bounds = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
        raise bad_query(name, f"'{value[:40]}' is not a whole number {bounds}")
    return number


def page_bounds() -> tuple[int, int]:
    """``limit`` (30 when absent, 200 for 0) and ``skip`` of a list."""
    limit, skip = integer("limit", 0, 200), integer("skip", 0)
    return 30 if limit is None else limit or 200, skip or 0


def page(collection: str, items: list[Any], shown: Any) -> Response:
    """A list's answer: ``shown(item)`` for the items asked for, or their number with ``count=true``."""
    limit, skip = page_bounds()
    if flag("count"):
        return answer({collection: max(0, len(items) - skip)})
    return answer([shown(item) for item in items[skip : skip + limit]])
