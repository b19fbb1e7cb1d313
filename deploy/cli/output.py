"""What commands print."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@cache
def _width() -> int | None:
    # A pipe has no width: rows must not be cut for whoever reads it.
    return None if sys.stdout.isatty() else 200


def console() -> Console:
    return Console(width=_width(), highlight=False, soft_wrap=False)


def notices() -> Console:
    """For people only, on stderr, so that stdout can be piped."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    console().print_json(data=value, indent=4)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def plain(text: object) -> Text:
    """Text from elsewhere: brackets in it are no markup, control characters no commands to the terminal."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)))


def local_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def in_ms(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"
