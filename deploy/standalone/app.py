"""The Flask application: routes, authentication, transaction ids and the form of errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from deploy.standalone import actions, activations, info, namespaces, packages, rules, triggers, web
from deploy.standalone.core import Platform
from deploy.standalone.errors import ApiError, Rejection, no_route
from deploy.standalone.exchange import JSON_TYPE, Exchange
from deploy.standalone.later import Later
from deploy.standalone.rest import platform, text_answer
from deploy.standalone.transactions import transaction_id_of

API = "/api/v1"
MAX_URI = 8192
_KEYLESS = re.compile(r"/api/v1(/|/api-docs|/docs)?")
_WEB = re.compile(r"/api/v1/web/[^/]+/[^/]+/[^/]+.*", re.DOTALL)
_RESOURCES = (actions, activations, namespaces, packages, rules, triggers, web)


def create_app(parts: Platform) -> Flask:
    """The API of a server as a WSGI application, for :class:`~deploy.standalone.http_server.HttpServer`."""
    app = _App("owl", static_folder=None)
    app.extensions["owl"] = parts
    # A redirect to a "cleaner" address would lose the body and the key.
    app.url_map.merge_slashes = False
    app.register_blueprint(info.root)
    app.register_blueprint(info.api, url_prefix=API)
    for resource in _RESOURCES:
        app.register_blueprint(resource.blueprint, url_prefix=API)
    app.before_request(_admit)
    app.after_request(_finish)
    app.register_error_handler(ApiError, lambda error: g.exchange.failed(error))
    app.register_error_handler(HTTPException, _not_routed)
    app.register_error_handler(Exception, lambda error: g.exchange.defect(error))
    app.wsgi_app = _EncodedSlashes(app.wsgi_app)  # type: ignore[method-assign]
    return app


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view is a coroutine: no need to look for that at each request."""
        return func


class _EncodedSlashes:
    """Keeps ``%2F`` in a path as it is, so that it ends up in a name (and is refused there), not between names."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("REQUEST_URI", "").partition("?")[0]
        if path.startswith("/") and "%2f" in path.lower():
            escaped = re.sub("%2f", "%252F", path, flags=re.IGNORECASE)
            environ["PATH_INFO"] = unquote_to_bytes(escaped.encode("latin-1")).decode("latin-1")
        return self._application(environ, start_response)


def _admit() -> Response | None:
    """Everything that is decided before a resource is reached."""
    parts, path, method, environ = platform(), request.path, request.method, request.environ
    g.exchange = exchange = Exchange(
        transaction_id_of(environ.get("HTTP_X_REQUEST_ID")),
        method,
        path,
        web=_WEB.fullmatch(path) is not None,
        metrics=parts.metrics,
    )
    if parts.draining.is_set():
        raise Rejection(503, "The server is stopping.", {"Connection": "close"})
    if len(environ.get("REQUEST_URI", "")) > MAX_URI:
        raise Rejection(414, f"The URI is longer than {MAX_URI} characters.")
    if method == "OPTIONS" and not exchange.web:
        return text_answer("OK")
    if not _is_api(path) or exchange.web:
        return None
    if not _KEYLESS.fullmatch(path):
        exchange.user = parts.users.require(environ.get("HTTP_AUTHORIZATION"))
    if method == "HEAD":
        raise no_route()
    if method == "GET" and environ.get("HTTP_ACCEPT") and not request.accept_mimetypes.quality(JSON_TYPE):
        raise Rejection(406, f"This answer is only available as {JSON_TYPE}.")
    return None


def _finish(response: Response) -> Response:
    return response if isinstance(response, Later) else g.exchange.finish(response)


def _not_routed(error: HTTPException) -> Response:
    """No such route: 404 inside the API; outside of it OpenWhisk knows no methods but OPTIONS."""
    exchange: Exchange = g.exchange
    if error.code in (404, 405) and _is_api(request.path) and not exchange.web:
        return exchange.failed(no_route())
    if error.code in (404, 405):
        return exchange.failed(
            Rejection(405, "HTTP method not allowed, supported methods: OPTIONS", {"Allow": "OPTIONS"})
        )
    return exchange.failed(Rejection(error.code or 400, error.description or error.name))


def _is_api(path: str) -> bool:
    return path == API or path.startswith(f"{API}/")
