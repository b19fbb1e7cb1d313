"""JSON texts: strict in what is read from clients, robust in what is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

# Python's limit for what it reads and writes counts the caller's frames too: text that nests about as deep as that
# could be written in one place and not be read in another.
MOST_LEVELS = 900

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> str:
    """Compact JSON that can always be encoded (lone surrogates, which actions may return, are escaped)."""
    text = _encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def loads(data: bytes, *, surrogates: bool = False) -> Any:
    """JSON in UTF-8 -> value. ValueError for what is none: NaN, numbers beyond a double, endless nesting.

    Lone surrogates are none either, unless ``surrogates``.
    """
    try:
        # Given bytes, json would guess UTF-16 or UTF-32 from zeros in them.
        value = _decode(data.decode())
        if b"\\u" in data and not surrogates:
            json.dumps(value, ensure_ascii=False).encode()
        _check_depth(value, data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):  # Python's words would tell users how to change Python
            raise ValueError("a number is too large") from None
        raise
    return value


def _check_depth(value: Any, data: bytes) -> None:
    if data.count(b"[") + data.count(b"{") <= MOST_LEVELS:
        return
    level = _containers([value])
    for _ in range(MOST_LEVELS):
        level = _containers(chain.from_iterable(each.values() if isinstance(each, dict) else each for each in level))
    if level:
        raise RecursionError


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant).decode
