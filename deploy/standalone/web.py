"""Web actions: `/api/v1/web/{ns}/{package|default}/{name}[.http|.json|.html|.svg|.text]/path`, open to browsers."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers

from deploy.standalone import content, media, names, resolve, web_answers
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError, Rejection, no_route, not_found
from deploy.standalone.exchange import CORS, JSON_TYPE
from deploy.standalone.invocations import Caller
from deploy.standalone.jsontext import dumps
from deploy.standalone.records import Record
from deploy.standalone.resolve import Resolved
from deploy.standalone.rest import answer_of, body_size_within, decode, platform, transaction_id

blueprint = Blueprint("web", __name__)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_FORM = "application/x-www-form-urlencoded"
_RESERVED = {"__ow_method", "__ow_headers", "__ow_path", "__ow_user", "__ow_query", "__ow_body"}
_CORS = {**CORS, "Access-Control-Allow-Methods": "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"}
_PATH_FROM = 7  # "", "api", "v1", "web", namespace, package and name come before
# What OpenWhisk's server leaves as it is where it writes a path or a query anew.
_IN_PATH = "!$&'()*+,;=:@-._~"
_IN_QUERY = "!$'()*,:@/?-._~"


@dataclass(frozen=True, slots=True)
class _Call:
    target: Resolved
    owner: User
    extension: str

    @property
    def annotations(self) -> content.Pairs:
        return self.target.action.doc["annotations"]


@blueprint.route("/web/<namespace>/<package>/<path:rest>", methods=METHODS, provide_automatic_options=False)
def call(namespace: str, package: str, rest: str) -> Response:
    # First what OpenWhisk checks before it knows the action: these errors carry no CORS headers.
    body_size_within(platform().settings.max_parameter_bytes)
    found = _find(namespace, package, rest.partition("/")[0])
    platform().invocation_rate.check(found.owner.name)
    own_options = content.is_true(found.annotations, "web-custom-options")
    cors = {} if own_options else _cors()
    if request.method == "OPTIONS" and not own_options:
        response = Response(status=200, headers=cors)
        del response.headers["Content-Type"]
        return response
    caller = platform().users.find(request.headers.get("Authorization"))
    try:
        if request.method != "OPTIONS":
            _authorize(found, caller)
        payload = _arguments(found, caller)
    except Rejection:
        raise
    except ApiError as error:
        raise _with_headers(error, cors) from None
    started = platform().start(Caller(found.owner, transaction_id()), found.target, payload)
    headers = {**cors, "X-Openwhisk-Activation-Id": started.activation_id}
    accepted = request.accept_mimetypes

    def shown(record: Record | None) -> Response:
        try:
            if record is None:
                raise ApiError(202, "The action has not finished yet; its activation record will have the result.")
            response = web_answers.answer(found.extension, record)
        except ApiError as error:
            raise _with_headers(error, headers) from None
        if accepted and response.mimetype and not accepted.quality(response.mimetype):
            raise Rejection(406, f"This answer is only available as {response.mimetype}.")
        # Both stay where the action sets CORS headers of its own: 'web-custom-options' is how to get rid of these.
        response.headers = Headers([*headers.items(), *response.headers])
        return response

    return answer_of(started, platform().settings.blocking_timeout_s, shown)


def _cors() -> dict[str, str]:
    asked = request.headers.get("Access-Control-Request-Headers")
    return {**_CORS, "Access-Control-Allow-Headers": asked} if asked else _CORS


def _with_headers(error: ApiError, headers: dict[str, str]) -> ApiError:
    return ApiError(error.status, error.message, {**error.headers, **headers})


def _find(namespace: str, package: str, name: str) -> _Call:
    if not all(names.valid(part) for part in (namespace, package, name)):
        platform().users.require(request.headers.get("Authorization"))
        raise no_route()
    extension = next((ending for ending in web_answers.EXTENSIONS if name.endswith(ending)), "")
    name = name.removesuffix(extension)
    owner = platform().users.named(namespace)
    if owner is None or not names.valid(name):
        raise not_found()
    path = name if package == names.DEFAULT_PACKAGE else f"{package}/{name}"
    return _Call(resolve.exported(platform().store, owner, path), owner, extension or ".http")


def _authorize(found: _Call, caller: User | None) -> None:
    """401 unless ``require-whisk-auth`` is absent, false, true with a user, or a secret that the request knows."""
    if not content.has(found.annotations, "require-whisk-auth"):
        return
    required = content.value_of(found.annotations, "require-whisk-auth")
    given = request.headers.get("X-Require-Whisk-Auth")
    if isinstance(required, bool):
        allowed = caller is not None or not required
    elif isinstance(required, str | int | float) and given is not None:
        secret = required if isinstance(required, str) else dumps(required)
        allowed = hmac.compare_digest(given.encode("latin-1", "replace"), secret.encode())
    else:
        allowed = False
    if not allowed:
        raise ApiError(401, "Authentication is possible but has failed or not yet been provided.")


def _arguments(found: _Call, caller: User | None) -> dict[str, Any]:
    data = request.get_data(cache=False)
    context: dict[str, Any] = {
        "__ow_method": request.method.lower(),
        "__ow_headers": _request_headers(),
        "__ow_path": _path(),
    }
    if caller is not None:
        context["__ow_user"] = caller.name
    if content.is_true(found.annotations, "raw-http"):
        return {**context, "__ow_query": _query(), "__ow_body": _opaque(data)}
    fields, opaque = _body(data)
    given = {**dict(_pairs(request.query_string)), **fields}
    if given.keys() & (_RESERVED | found.target.locked_keys()):
        raise ApiError(400, "Request defines parameters that are not allowed (e.g., reserved properties).")
    return {**given, **context, **opaque}


def _body(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a body adds to the arguments, and what it is handed on as where it is none of JSON and a form."""
    content_type = request.content_type or ""
    if not data and (not content_type or media.is_json(content_type)):
        return {}, {}
    if media.is_json(content_type):
        value = decode(data)
        return (value, {}) if isinstance(value, dict) else ({}, {"__ow_body": value})
    if media.media_type(content_type) == _FORM:
        return dict(_pairs(data)), {}
    return {}, {"__ow_body": _opaque(data)}


def _opaque(data: bytes) -> str:
    """A body handed on as it is: text as text, everything else (JSON too) in base64."""
    content_type = request.content_type or ""
    if media.is_text(content_type) and media.media_type(content_type) != JSON_TYPE:
        return data.decode("utf-8", "replace")
    return base64.b64encode(data).decode()


def _pairs(data: bytes) -> list[tuple[str, str]]:
    return parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)


def _request_headers() -> dict[str, str]:
    headers = {name.lower(): value for name, value in request.headers if name.lower() != "content-length"}
    if "content-type" in headers:
        headers["content-type"] = media.normalized(headers["content-type"])
    return headers


def _path() -> str:
    """What follows the action's name in the address, written as OpenWhisk writes it: encoded, empty parts kept."""
    # urlsplit: a proxy may send the whole address, with scheme and host.
    rest = urlsplit(request.environ["REQUEST_URI"]).path.split("/")[_PATH_FROM:]
    return "".join(f"/{quote(unquote(part), safe=_IN_PATH)}" for part in rest)


def _query() -> str:
    """The query as OpenWhisk writes it: decoded and encoded again."""
    parts = (part.split("=", 1) for part in request.query_string.decode("latin-1").split("&"))
    return "&".join("=".join(quote_plus(unquote_plus(half), safe=_IN_QUERY) for half in part) for part in parts)
