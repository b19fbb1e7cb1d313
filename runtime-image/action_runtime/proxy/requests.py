"""What a request to the action interface must look like."""

from __future__ import annotations

import binascii
import json
import string
from dataclasses import dataclass
from typing import Any

_PROBLEMS = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "where a comma or the end of the object or array must be",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/")
_TYPES = {str: "a string", bool: "true or false", dict: "an object"}


class BadRequest(Exception):
    """A request that is answered with ``status`` and this text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Init:
    """A valid ``/init``: ``content`` is source text (UTF-8) or, when binary, a zip or a single source file."""

    main: str
    binary: bool
    content: bytes
    env: dict[str, str]


def parse_init(body: bytes) -> Init:
    """Read the body of ``POST /init``. Raises BadRequest: 400 when it is malformed, 403 when it has no code."""
    request = _object(_parse(body), "the request")
    value = _object(request.get("value"), "value")
    main = _field(value, "main", str) or "main"
    binary = _field(value, "binary", bool)
    code = _field(value, "code", str)
    env = {
        name: text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        for name, text in _field(value, "env", dict).items()
    }
    if not code:
        raise BadRequest(403, "Missing main/no code to execute.")
    # A lone surrogate is no text: the parser of Python will say so in the action's log.
    content = _decode(code) if binary else code.encode("utf-8", "surrogatepass")
    return Init(main, binary, content, env)


def parse_context(body: bytes) -> dict[str, Any]:
    """The object in the body of ``POST /run``; an empty one when it is none (the executor judges that)."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return request if isinstance(request, dict) else {}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise BadRequest(400, f"Error unmarshaling request: {_explain(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, f"Error unmarshaling request: {error}") from error


def _explain(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
        return "unexpected end of JSON input"
    problem = _PROBLEMS.get(error.msg)
    return f"invalid character {error.doc[error.pos]!r} {problem}" if problem else error.msg


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(400, f"Error unmarshaling request: {name} must be an object")
    return value


def _field(value: dict[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise BadRequest(400, f"Error unmarshaling request: value.{name} must be {_TYPES[kind]}")
    return found


def _decode(code: str) -> bytes:
    text = code.replace("\n", "").replace("\r", "")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        body = text.rstrip("=")
        at = next((index for index, letter in enumerate(body) if letter not in _BASE64), len(body))
        raise BadRequest(400, f"cannot decode the request: illegal base64 data at input byte {at}") from error
