"""The page for browsers. It holds no data: its script asks the API, with a key, for what it shows."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.rest import platform

blueprint = Blueprint("page", __name__)
_FOLDER = Path(__file__).parent
_KEY_PLACE = "{{ guest-key }}"
_HEADERS = {
    # Nothing from elsewhere, nothing inline: text of an action that got into the page by mistake would still be text.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def wanted() -> bool:
    """Whether this request prefers HTML to JSON, as browsers do; ``*/*`` and no ``Accept`` at all do not."""
    accepted = request.accept_mimetypes
    return accepted.quality("text/html") > accepted.quality("application/json")


def shown() -> Response:
    """The page itself, with the guest's key where that is the one which OpenWhisk's documentation prints."""
    guest = WELL_KNOWN_USERS[0]
    key = guest.api_key if platform().users.named(guest.name) == guest else ""
    return _answer(_text("index.html").replace(_KEY_PLACE, html.escape(key)), "text/html")


@blueprint.get("/page/page.css")
def style() -> Response:
    return _answer(_text("page.css"), "text/css")


@blueprint.get("/page/page.js")
def script() -> Response:
    return _answer(_text("page.js"), "text/javascript")


@blueprint.get("/docs")
@blueprint.get("/api/v1/docs")
def docs() -> AnyResponse:
    """Where ``swagger_paths.ui`` leads: the view of the page that lists the API."""
    return redirect("/#/api")


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _answer(text: str, mimetype: str) -> Response:
    response = Response(text, headers=_HEADERS, mimetype=mimetype)
    response.add_etag()
    return response.make_conditional(request)
