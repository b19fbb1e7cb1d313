"""Media types as web actions see them: which are text, which JSON, and how they are written."""

from __future__ import annotations

import re

# Those that OpenWhisk's HTTP library (Pekko) knows as text; what it does not know is binary, unless it has a charset.
_TEXT = frozenset(
    f"application/{subtype}"
    for subtype in (
        "atom+xml",
        "javascript",
        "problem+xml",
        "rss+xml",
        "soap+xml",
        "vnd.google-earth.kml+xml",
        "x-www-form-urlencoded",
        "xhtml+xml",
        "xml",
        "xml-dtd",
    )
)
_JSON = frozenset(
    f"application/{subtype}"
    for subtype in ("json", "json-patch+json", "merge-patch+json", "problem+json", "vnd.api+json")
)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}\s*(;.*)?", re.ASCII | re.DOTALL)
_CHARSET = re.compile(r'\s*charset\s*=\s*"?([^";\s]+)"?\s*', re.ASCII | re.IGNORECASE)


def valid(content_type: str) -> bool:
    return _TYPE.fullmatch(content_type.strip()) is not None


def media_type(content_type: str) -> str:
    """``Text/HTML; charset=utf-8`` -> ``text/html``."""
    return content_type.partition(";")[0].strip().lower()


def charset(content_type: str) -> str | None:
    found = (_CHARSET.fullmatch(parameter) for parameter in content_type.split(";")[1:])
    return next((match[1].upper() for match in found if match), None)


def is_json(content_type: str) -> bool:
    """``application/json`` or any ``+json``."""
    media = media_type(content_type)
    return media == "application/json" or media.endswith("+json")


def is_text(content_type: str) -> bool:
    """Whether a body of this type is handed on as text; all others are base64 inside JSON."""
    media = media_type(content_type)
    known = media.startswith("text/") or media in _TEXT or media in _JSON
    return known or charset(content_type) is not None


def normalized(content_type: str) -> str:
    """How OpenWhisk's server repeats a type: in lower case, its charset in capitals, and none for JSON."""
    if not valid(content_type):
        return content_type
    media = media_type(content_type)
    parameters = [part.strip() for part in content_type.split(";")[1:] if part.strip() and not _CHARSET.fullmatch(part)]
    encoding = charset(content_type)
    if encoding and media not in _JSON:
        parameters.append(f"charset={encoding}")
    return "; ".join((media, *parameters))


def in_utf8(content_type: str) -> str:
    """The type of a text that the server itself encodes."""
    media = media_type(content_type)
    return media if media in _JSON else f"{media}; charset=UTF-8"
