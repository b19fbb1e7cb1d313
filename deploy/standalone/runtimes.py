"""The kinds of actions this server runs, as `GET /` lists them."""

from __future__ import annotations

from typing import Any

BLACKBOX, SEQUENCE = "blackbox", "sequence"


def _runtime(kind: str, image: str, *, default: bool = False) -> dict[str, Any]:
    return {
        "kind": kind,
        "image": image,
        "deprecated": False,
        "default": default,
        "attached": True,
        "requireMain": False,
    }


RUNTIMES: dict[str, list[dict[str, Any]]] = {
    "python": [_runtime("python:3.11", "openwhisk/action-python-v3.11:nightly", default=True)],
    "nodejs": [
        _runtime("nodejs:18", "openwhisk/action-nodejs-v18:nightly"),
        _runtime("nodejs:20", "openwhisk/action-nodejs-v20:nightly", default=True),
    ],
}

KINDS = tuple(runtime["kind"] for family in RUNTIMES.values() for runtime in family)


def resolve(kind: str) -> str | None:
    """The kind that runs an action which asks for ``kind`` (``python:default`` too); None when there is none."""
    family, _, version = kind.partition(":")
    if version == "default":
        return next((runtime["kind"] for runtime in RUNTIMES.get(family, ()) if runtime["default"]), None)
    return kind if kind in KINDS else None
