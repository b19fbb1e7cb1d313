"""Logs of the server: one line an event, as text or JSON, with the transaction id wherever there is one.

Never in them: keys, parameters, payloads, results, and messages of exceptions that may quote those.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

FORMATS = ("text", "json")


def event(log: logging.Logger, level: int, what: str, **fields: Any) -> None:
    """Log ``what`` happened, with fields that stand apart from it: ``key=value`` in text, keys in JSON."""
    if log.isEnabledFor(level):
        log.log(level, what, extra={"fields": fields})


def configure(format_: str = "text", *, verbose: bool = False) -> None:
    """Send what the server logs to stderr: warnings and errors, and with ``verbose`` a line for each request too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format_ == "json" else _Text())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)
    # Whoever read the log is gone: no reason to say so in it.
    logging.raiseExceptions = False


def tell(text: str, format_: str = "text") -> None:
    """Write a line to stderr for whoever started the server, however little is logged: as it is, or as a JSON entry."""
    if format_ == "json":
        text = _Json().format(logging.LogRecord("owl.serve", logging.INFO, __file__, 0, text, None, None))
    sys.stderr.write(f"{text}\n")  # in one piece: print() writes the end of the line apart, after what others log
    sys.stderr.flush()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_word(value)}" for key, value in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {_one_line(record)}{fields}"
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _timestamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _one_line(record: logging.LogRecord) -> str:
    return record.getMessage().replace("\n", "\\n").replace("\r", "\\r")


def _word(value: Any) -> str:
    """A value in which neither blanks nor line ends can be taken for those of the log."""
    text = str(value)
    return text if text.isascii() and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
