"""What every resource needs of HTTP: bodies, query parameters, answers, and the way to the platform."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, request

from deploy.standalone import jsontext, names
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError, Rejection, bad_query, forbidden, malformed, too_large
from deploy.standalone.exchange import CORS, JSON_TYPE, Exchange
from deploy.standalone.later import Later, all_of, small_result
from deploy.standalone.records import Record

if TYPE_CHECKING:
    from deploy.standalone.core import Platform
    from deploy.standalone.invocations import Started

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def platform() -> Platform:
    return current_app.extensions["owl"]


def user() -> User:
    """The authenticated user of this request."""
    return g.exchange.user


def transaction_id() -> str:
    """The id of this request, echoed as ``X-Request-ID`` and in errors."""
    return g.exchange.transaction_id


def own_namespace(namespace: str, path: str | None = None) -> str:
    """The name of the user's own namespace when ``namespace`` is that or ``_``; 403 for anybody else's."""
    name = any_namespace(namespace)
    if name != user().name:
        raise forbidden(name if path is None else f"{name}/{path}")
    return name


def any_namespace(namespace: str) -> str:
    """The namespace that an address names; 400 for what cannot be one."""
    if not names.valid(namespace):
        raise Rejection(400, "The namespace contains illegal characters.")
    return user().name if namespace == "_" else namespace


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON with CORS headers."""
    return bare_answer(body, status, {**CORS, **headers} if headers else CORS)


def bare_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON without CORS headers."""
    return Response(jsontext.dumps(body), status, headers, mimetype=JSON_TYPE)


def text_answer(text: str) -> Response:
    return Response(text, 200, CORS, content_type="text/plain; charset=UTF-8")


def answer_of(started: Started, timeout_s: float, shown: Callable[[Record | None], Response]) -> Response:
    """The answer that ``shown`` makes of the record once it is there, or of None when that takes too long.

    No thread waits for it: ``shown`` is called later and elsewhere, so it must not use the request.
    """
    exchange: Exchange = g.exchange
    metrics, began = exchange.metrics, time.perf_counter()
    metrics.blocking.inc()

    def finished(record: Future[Record] | None) -> Response:
        metrics.blocking_time.observe(time.perf_counter() - began)
        return _made(exchange, lambda: shown(record.result() if record else None))

    return Later(started.record, timeout_s, finished, platform().waiting, light=small_result)


def answer_after(started: Sequence[Future[Record]], timeout_s: float, shown: Callable[[], Response]) -> Response:
    """The answer that ``shown`` makes once these activations have ended, or when that takes too long; see above."""
    exchange: Exchange = g.exchange

    def finished(_: Future[None] | None) -> Response:
        return _made(exchange, shown)

    return Later(all_of(started), timeout_s, finished, platform().waiting, light=lambda _: False)


def _made(exchange: Exchange, make: Callable[[], Response]) -> Response:
    try:
        response = make()
    except ApiError as error:
        response = exchange.failed(error)
    except Exception as error:
        response = exchange.defect(error)
    return exchange.finish(response)


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
    if request.mimetype != JSON_TYPE and (data or request.mimetype):
        found = request.mimetype or "application/octet-stream"
        raise Rejection(415, f"The request's Content-Type [{found}] is not supported. Expected: {JSON_TYPE}")
    if not data and optional:
        return {}
    value = decode(data)
    if not isinstance(value, dict):
        raise malformed("a JSON object is expected")
    return value


def flag(name: str, default: bool = False) -> bool:
    value = request.args.get(name)
    if not value:
        return default
    if value.lower() not in _TRUE + _FALSE:
        raise bad_query(name, f"'{value}' is neither true nor false")
    return value.lower() in _TRUE


def integer(name: str, low: int, high: float = math.inf) -> int | None:
    value = request.args.get(name)
    if value is None:
        return None
    number = int(value) if _INTEGER.fullmatch(value) else None
    if number is None or not low <= number <= high:
        bounds = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
        raise bad_query(name, f"'{value[:40]}' is not a whole number {bounds}")
    return number


def page_bounds() -> tuple[int, int]:
    """``limit`` (30 when absent, 200 for 0) and ``skip`` of a list."""
    limit, skip = integer("limit", 0, 200), integer("skip", 0, 2**31 - 1)
    return 30 if limit is None else limit or 200, skip or 0


def page(collection: str, items: list[Any], shown: Any) -> Response:
    """A list's answer: ``shown(item)`` for the items asked for, or their number with ``count=true``."""
    limit, skip = page_bounds()
    if flag("count"):
        return answer({collection: max(0, len(items) - skip)})
    return answer([shown(item) for item in items[skip : skip + limit]])
