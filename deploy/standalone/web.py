"""Web actions: `/api/v1/web/{ns}/{package|default}/{name}[.http|.json|.html|.svg|.text]/path`, open to browsers."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, Response, request

from deploy.standalone import content, names, resolve
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError, Rejection
from deploy.standalone.invocations import Caller
from deploy.standalone.jsontext import dumps
from deploy.standalone.model import Status
from deploy.standalone.records import Record, status_of
from deploy.standalone.resolve import Resolved
from deploy.standalone.rest import CORS, JSON_TYPE, body_size_within, decode, platform, transaction_id

blueprint = Blueprint("web", __name__)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_FORM = "application/x-www-form-urlencoded"
_RESERVED = {"__ow_method", "__ow_headers", "__ow_path", "__ow_user", "__ow_query", "__ow_body"}
_MEDIA = {
    ".http": "message/http",
    ".json": JSON_TYPE,
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".text": "text/plain",
}
_CORS = {**CORS, "Access-Control-Allow-Methods": "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# The server's own business; an action that sets them would break the connection.
_HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te"}


@dataclass(frozen=True, slots=True)
class _Call:
    target: Resolved
    owner: User
    extension: str
    rest: str

    @property
    def media(self) -> str:
        return _MEDIA[self.extension]

    @property
    def annotations(self) -> content.Pairs:
        return self.target.action.doc["annotations"]


@blueprint.route("/web/<namespace>/<package>/<name>", methods=METHODS, provide_automatic_options=False)
@blueprint.route("/web/<namespace>/<package>/<name>/", methods=METHODS, provide_automatic_options=False)
@blueprint.route("/web/<namespace>/<package>/<name>/<path:rest>", methods=METHODS, provide_automatic_options=False)
def call(namespace: str, package: str, name: str, rest: str = "") -> Response:
    found = _find(namespace, package, name, rest)
    own_options = content.truthy(found.annotations, "web-custom-options")
    if request.method == "OPTIONS" and not own_options:
        response = Response(status=200)
        del response.headers["Content-Type"]
    else:
        try:
            response = _run(found)
        except ApiError as error:
            if isinstance(error, Rejection):
                raise
            cors = {} if own_options else _CORS
            raise ApiError(error.status, error.message, {**error.headers, **cors}) from None
    if not own_options:
        response.headers.update(_CORS)
        asked = request.headers.get("Access-Control-Request-Headers")
        if asked:
            response.headers["Access-Control-Allow-Headers"] = asked
    return response


def _find(namespace: str, package: str, name: str, rest: str) -> _Call:
    missing = Rejection(404, "The requested resource does not exist.")
    owner = platform().users.named(namespace)
    if owner is None:
        raise missing
    stem, dot, ending = name.rpartition(".")
    extension = f".{ending}" if dot and f".{ending}" in _MEDIA else ""
    name = stem if extension else name
    path = name if package == names.DEFAULT_PACKAGE else f"{package}/{name}"
    try:
        target = resolve.exported(platform().store, owner, path)
    except ApiError:
        raise missing from None
    trailing = "/" if request.path.endswith("/") and rest else ""
    return _Call(target, owner, extension or ".http", f"/{rest.rstrip('/')}{trailing}" if rest else "")


def _run(found: _Call) -> Response:
    caller = platform().users.find(request.headers.get("Authorization"))
    _authorize(found, caller)
    platform().invocation_rate.check(found.owner.name)
    payload = _arguments(found, caller)
    started = platform().start(Caller(found.owner, transaction_id()), found.target, payload)
    header = {"X-Openwhisk-Activation-Id": started.activation_id}
    record = platform().wait(started, platform().settings.blocking_timeout_s)
    if record is None:
        raise ApiError(202, "Response not yet ready.", header)
    try:
        response = _respond(found, record)
    except ApiError as error:
        raise ApiError(error.status, error.message, header) from None
    response.headers.update(header)
    return response


def _authorize(found: _Call, caller: User | None) -> None:
    required = content.value_of(found.annotations, "require-whisk-auth")
    if not required:
        return
    if required is True:
        allowed = caller is not None
    else:
        given = request.headers.get("X-Require-Whisk-Auth", "")
        allowed = hmac.compare_digest(given.encode(), str(required).encode())
    if not allowed:
        raise ApiError(401, "Authentication is possible but has failed or not yet been provided.")


def _arguments(found: _Call, caller: User | None) -> dict[str, Any]:
    body_size_within(platform().settings.max_parameter_bytes)
    query = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
    data = request.get_data(cache=False)
    context: dict[str, Any] = {
        "__ow_method": request.method.lower(),
        "__ow_headers": {key.lower(): value for key, value in request.headers},
        "__ow_path": found.rest,
    }
    if caller is not None:
        context["__ow_user"] = caller.name
    if content.truthy(found.annotations, "raw-http"):
        return {**context, "__ow_query": urlencode(query), "__ow_body": _opaque(data)}
    given: dict[str, Any] = dict(query)
    body = _body(data)
    if isinstance(body, dict):
        given.update(body)
    elif body is not None:
        context["__ow_body"] = body
    if given.keys() & (_RESERVED | found.target.locked_keys()):
        raise ApiError(400, "Request defines parameters that are not allowed (e.g., reserved properties).")
    return {**given, **context}


def _body(data: bytes) -> Any:
    if not data:
        return None
    if request.mimetype == JSON_TYPE:
        return decode(data)
    if request.mimetype == _FORM:
        return dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True))
    return _opaque(data)


def _opaque(data: bytes) -> str:
    """A body handed on as it is: text as text, everything else (JSON too) in base64."""
    if _is_text(request.mimetype):
        return data.decode("utf-8", "replace")
    return base64.b64encode(data).decode()


def _is_text(mimetype: str) -> bool:
    return mimetype.startswith("text/") or mimetype in (_FORM, "application/xml") or mimetype.endswith("+xml")


def _respond(found: _Call, record: Record) -> Response:
    status, result = status_of(record), record["response"]["result"]
    invalid = ApiError(400, f"Response is not valid '{found.media}'.")
    if status is Status.INTERNAL_ERROR:
        raise ApiError(500, str(result.get("error") if isinstance(result, dict) else result))
    if status is Status.APPLICATION_ERROR and found.extension == ".http":
        error = result.get("error") if isinstance(result, dict) else None
        if isinstance(error, dict):
            return _http(error, invalid)
    if status is not Status.SUCCESS:
        raise invalid
    if found.extension == ".http":
        if not isinstance(result, dict):
            raise invalid
        return _http(result, invalid)
    if found.extension == ".json":
        return Response(dumps(result), mimetype=JSON_TYPE)
    field = found.extension[1:]
    value = result.get(field, result.get("body")) if isinstance(result, dict) else None
    if field == "text" and value is not None and not isinstance(value, str):
        value = dumps(value)
    if not isinstance(value, str):
        raise invalid
    charset = "; charset=UTF-8" if found.media.startswith("text/") else ""
    return Response(_encoded(value), content_type=found.media + charset)


def _http(result: dict[str, Any], invalid: ApiError) -> Response:
    """``statusCode``, ``headers`` and ``body`` of a result as an HTTP response."""
    body = result.get("body")
    empty = body is None or body == ""
    response = Response(status=_status(result.get("statusCode", 204 if empty else 200), invalid))
    del response.headers["Content-Type"]
    for name, value in _headers(result.get("headers"), invalid):
        if name.lower() not in _HOP_BY_HOP:
            response.headers.add(name, value)
    if empty:
        return response
    given = response.headers.get("Content-Type", "")
    media = given.partition(";")[0].strip().lower()
    if not isinstance(body, str):
        response.headers["Content-Type"] = given or JSON_TYPE
        response.set_data(_encoded(dumps(body)))
    elif not media or _is_text(media) and "charset" not in given.lower():
        response.headers["Content-Type"] = f"{given or 'text/html'}; charset=UTF-8"
        response.set_data(_encoded(body))
    elif _is_text(media) or media == JSON_TYPE or media.endswith("+json"):
        response.set_data(_encoded(body))
    else:
        try:
            response.set_data(base64.b64decode(body, validate=True))
        except (binascii.Error, ValueError):
            raise invalid from None
    return response


def _status(value: Any, invalid: ApiError) -> int:
    try:
        status = int(value) if not isinstance(value, bool | float) else 0
    except (TypeError, ValueError):
        status = 0
    # 1xx would announce a second response that never comes.
    if not 200 <= status <= 599:
        raise invalid
    return status


def _headers(given: Any, invalid: ApiError) -> list[tuple[str, str]]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise invalid
    pairs: list[tuple[str, str]] = []
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            text = value if isinstance(value, str) else json.dumps(value)
            if isinstance(value, dict | list) or not _TOKEN.fullmatch(name) or any(c in text for c in "\r\n\0"):
                raise invalid
            pairs.append((name, text.encode("utf-8", "replace").decode("latin-1")))
    return pairs


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
