"""The kinds of actions that this runtime serves, and what each needs of the machine."""

from __future__ import annotations

import os

PYTHON = "python:3.11"
NODEJS = ("nodejs:20", "nodejs:18")
KINDS = (PYTHON, *NODEJS)


class UnknownKind(Exception):
    """A kind that is not served; the text names those that are."""


class MissingNode(Exception):
    """There is no Node.js; the text says what to do."""


def node_for(kind: str) -> str | None:
    """The program that runs actions of this kind, ``None`` for Python's. Raises UnknownKind and MissingNode.

    Node.js is what ``OWL_NODE`` names, otherwise ``node`` on the path, whatever its version (18 at least).
    """
    if kind not in KINDS:
        raise UnknownKind(f"the kind {kind!r} is not known: choose one of {', '.join(KINDS)}")
    if kind not in NODEJS:
        return None
    import shutil  # costs milliseconds and memory that only this kind needs

    named = os.environ.get("OWL_NODE")
    found = shutil.which(named or "node")
    if found is None:
        where = f"OWL_NODE names {named!r}, which is no program" if named else "there is no program 'node' on the PATH"
        raise MissingNode(f"the kind {kind} needs Node.js, but {where}: install it, or name it in OWL_NODE")
    return found
