"""The Flask application: routes, authentication, transaction ids and the form of errors."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from deploy.standalone import actions, activations, info, namespaces, packages, rules, triggers, web
from deploy.standalone.core import Platform
from deploy.standalone.errors import ApiError, Rejection, no_route
from deploy.standalone.rest import CORS, bare_answer, new_transaction_id, platform, text_answer

API = "/api/v1"
MAX_URI = 8192
_log = logging.getLogger("owl.access")
_KEYLESS = re.compile(r"/api/v1(/|/api-docs|/docs)?")
_WEB = re.compile(r"/api/v1/web/[^/]+/[^/]+/[^/]+.*", re.DOTALL)
_RESOURCES = (actions, activations, namespaces, packages, rules, triggers, web)


def create_app(parts: Platform) -> Flask:
    """The API of a server as a WSGI application."""
    app = Flask("owl", static_folder=None)
    app.extensions["owl"] = parts
    # A redirect to a "cleaner" address would lose the body and the key.
    app.url_map.merge_slashes = False
    app.register_blueprint(info.root)
    app.register_blueprint(info.api, url_prefix=API)
    for resource in _RESOURCES:
        app.register_blueprint(resource.blueprint, url_prefix=API)
    app.before_request(_admit)
    app.after_request(_finish)
    app.register_error_handler(ApiError, _failed)
    app.register_error_handler(HTTPException, _not_routed)
    app.register_error_handler(Exception, _defect)
    app.wsgi_app = _EncodedSlashes(app.wsgi_app)  # type: ignore[method-assign]
    return app


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
    g.transaction_id = new_transaction_id()
    g.began = time.perf_counter()
    if platform().draining.is_set():
        raise Rejection(503, "The server is stopping.", {"Connection": "close"})
    if len(request.environ.get("REQUEST_URI", "")) > MAX_URI:
        raise Rejection(414, f"The URI is longer than {MAX_URI} characters.")
    if not _is_api(request.path) or _is_web():
        return None
    if request.method == "OPTIONS":
        return text_answer("OK")
    if not _KEYLESS.fullmatch(request.path):
        g.user = platform().users.require(request.headers.get("Authorization"))
    if request.method == "HEAD":
        raise no_route()
    return None


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.transaction_id
    seconds = time.perf_counter() - g.began
    platform().metrics.answered(request.method, seconds)
    if platform().settings.verbose:
        name = g.user.name if "user" in g else "-"
        _log.info(
            "tid=%s user=%s method=%s path=%s status=%d ms=%.1f",
            g.transaction_id,
            name,
            request.method,
            request.path,
            response.status_code,
            seconds * 1000,
        )
    return response


def _failed(error: ApiError) -> Response:
    cors = CORS if error.cors and not _is_web() else {}
    body = {"error": error.message, "code": g.transaction_id}
    return bare_answer(body, error.status, {**cors, **error.headers})


def _not_routed(error: HTTPException) -> Response:
    """No such route: 404 inside the API; outside of it OpenWhisk knows no methods but OPTIONS."""
    if error.code in (404, 405) and _is_api(request.path) and not _is_web():
        return _failed(no_route())
    if error.code in (404, 405):
        return _failed(Rejection(405, "HTTP method not allowed, supported methods: OPTIONS", {"Allow": "OPTIONS"}))
    return _failed(Rejection(error.code or 400, error.description or error.name))


def _defect(error: Exception) -> Response:
    """A defect of the server: the user gets the id under which the operator finds the cause."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
    # Not the message of the exception: it may quote parameters or keys.
    print(f"internal error tid={g.transaction_id} {type(error).__name__} at {place}", file=sys.stderr, flush=True)
    return _failed(ApiError(500, "The server failed on this request; its log has more under the id in 'code'."))


def _is_api(path: str) -> bool:
    return path == API or path.startswith(f"{API}/")


def _is_web() -> bool:
    return _WEB.fullmatch(request.path) is not None
