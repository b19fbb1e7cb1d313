"""The routes of this server as a Swagger 2.0 document."""

from __future__ import annotations

import re
from typing import Any

from werkzeug.routing import Map, Rule

_BASE = "/api/v1"
_Query = tuple[tuple[str, str], ...]
_PAGE: _Query = (("limit", "integer"), ("skip", "integer"), ("count", "boolean"))
# What a view function does, and the query parameters it reads.
_VIEWS: dict[str, tuple[str, _Query]] = {
    "list_all": ("List", ()),
    "list_package": ("List those of a package", _PAGE),
    "get": ("Show one", ()),
    "put": ("Create or update", (("overwrite", "boolean"),)),
    "delete": ("Delete", ()),
    "invoke": ("Invoke", (("blocking", "boolean"), ("result", "boolean"), ("timeout", "integer"))),
    "fire": ("Fire", ()),
    "switch": ("Enable or disable", ()),
    "logs": ("What it printed", ()),
    "result": ("Its result only", ()),
    "limits": ("The limits of the user", ()),
    "call": ("Call a web action; needs no key", ()),
}
_MORE: dict[str, _Query] = {
    **{f"{collection}.list_all": _PAGE for collection in ("actions", "packages", "rules", "triggers")},
    "activations.list_all": (
        *_PAGE,
        ("name", "string"),
        ("since", "integer"),
        ("upto", "integer"),
        ("docs", "boolean"),
    ),
    "actions.get": (("code", "boolean"),),
    "packages.delete": (("force", "boolean"),),
}


def document(routes: Map) -> dict[str, Any]:
    """Paths are relative to ``basePath``; lists answer with and without a slash at the end and are told once."""
    rules = [rule for rule in routes.iter_rules() if rule.rule.startswith((f"{_BASE}/namespaces", f"{_BASE}/web"))]
    known = {rule.rule for rule in rules}
    paths: dict[str, dict[str, Any]] = {}
    for rule in rules:
        if rule.rule.removesuffix("/") in known - {rule.rule}:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(_BASE))
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule, method)
    return {
        "swagger": "2.0",
        "info": {"title": "OpenWhisk REST API", "version": "1.0.0"},
        "basePath": _BASE,
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {"basicAuth": {"type": "basic"}},
        "security": [{"basicAuth": []}],
        "paths": dict(sorted(paths.items())),
    }


def _operation(rule: Rule, method: str) -> dict[str, Any]:
    tag, _, view = rule.endpoint.partition(".")
    summary, query = _VIEWS.get(view, (view.replace("_", " "), ()))
    arguments = sorted(rule.arguments)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "type": "string"} for name in arguments
    ]
    query = (*query, *_MORE.get(rule.endpoint, ()))
    parameters += [{"name": name, "in": "query", "type": kind} for name, kind in query]
    if method in ("PUT", "POST") and tag != "web":
        parameters.append({"name": "body", "in": "body", "required": method == "PUT", "schema": {"type": "object"}})
    return {
        "operationId": "_".join([method.lower(), tag, view, *arguments]),
        "summary": summary,
        "tags": [tag],
        "parameters": parameters,
        "responses": {"default": {"description": "JSON; errors are {error, code}"}},
        **({"security": []} if tag == "web" else {}),
    }
