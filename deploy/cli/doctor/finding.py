"""What a check found out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is. Only ``FAILS`` keeps the platform from working."""

    OK = "ok"
    NOTE = "note"  # something optional is not there
    WARNING = "warning"  # it works, but worse than it could, or not as configured
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. ``fix`` is what to do, empty where nothing has to be done."""

    check: str
    state: State
    text: str
    fix: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, State.OK, text)


def note(check: str, text: str, fix: str = "") -> Finding:
    return Finding(check, State.NOTE, text, fix)


def warning(check: str, text: str, fix: str) -> Finding:
    return Finding(check, State.WARNING, text, fix)


def fails(check: str, text: str, fix: str) -> Finding:
    return Finding(check, State.FAILS, text, fix)
