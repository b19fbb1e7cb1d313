"""JSON texts: strict in what is read from clients, robust in what is written."""

from __future__ import annotations

import json
import math
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """Compact JSON that can always be encoded (lone surrogates, which actions may return, are escaped)."""
    text = _encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def loads(data: bytes) -> Any:
    """JSON in UTF-8 -> value. ValueError for what is none: NaN, numbers beyond a double, lone surrogates, endless nesting."""
    try:
        # Given bytes, json would guess UTF-16 or UTF-32 from zeros in them.
        value = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
