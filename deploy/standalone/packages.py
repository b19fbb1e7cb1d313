"""`/namespaces/{ns}/packages`, bindings among them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from deploy.standalone import content, names, resolve
from deploy.standalone.errors import ApiError, exists, malformed, not_found
from deploy.standalone.resolve import NO_BINDING
from deploy.standalone.rest import (
    answer,
    any_namespace,
    flag,
    json_body,
    own_namespace,
    page,
    page_bounds,
    platform,
    user,
)
from deploy.standalone.store import Entity

blueprint = Blueprint("packages", __name__)


def _listed(package: Entity) -> dict[str, Any]:
    fields = ("name", "updated", "namespace", "publish", "annotations", "version")
    return {**{field: package.doc[field] for field in fields}, "binding": package.doc["binding"] or False}


@blueprint.get("/namespaces/<namespace>/packages")
@blueprint.get("/namespaces/<namespace>/packages/")
def list_all(namespace: str) -> Response:
    page_bounds()
    owner = any_namespace(namespace)
    found = platform().store.listing("packages", owner)
    if owner != user().name:
        found = [package for package in found if package.doc["publish"] and package.doc["binding"] == NO_BINDING]
    return page("packages", found, _listed)


@blueprint.get("/namespaces/<namespace>/packages/<name>")
def get(namespace: str, name: str) -> Response:
    store = platform().store
    found = resolve.package(store, user(), any_namespace(namespace), names.check(name))
    inner = resolve.bound(store, user(), found)
    inside = [
        {"name": action.name, "version": action.doc["version"], "annotations": action.doc["annotations"]}
        for action in store.listing("actions", inner.namespace, inner.path)
    ]
    feeds = [action for action in inside if content.has(action["annotations"], "feed")]
    actions = [action for action in inside if action not in feeds]
    parameters = resolve.inherited(found, inner)
    return answer({**found.doc, "parameters": parameters, "actions": actions, "feeds": feeds})


@blueprint.put("/namespaces/<namespace>/packages/<name>")
def put(namespace: str, name: str) -> Response:
    path = names.check(name)
    own, overwrite = own_namespace(namespace, path), flag("overwrite")
    settings = platform().settings
    # Two lists of that size, each with room for escapes.
    body = json_body(allowed=4 * settings.max_parameter_bytes)
    version, publish = content.version(body), content.publish(body)
    parameters = content.pairs(body, "parameters", settings)
    annotations = content.pairs(body, "annotations", settings)
    binding = _binding(body, own)
    if path == names.DEFAULT_PACKAGE:
        raise ApiError(400, f"Package name '{path}' is reserved.")
    provider = _provider(binding) if binding else None
    with platform().store.transaction() as transaction:
        old = transaction.find("packages", own, path)
        if old is not None and not overwrite:
            raise exists()
        if old is not None and binding and old.doc["binding"] == NO_BINDING:
            raise ApiError(409, "A package that is no binding cannot become one; delete it first.")
        if provider is not None and provider.doc["binding"] != NO_BINDING:
            raise ApiError(400, "Cannot bind to another package binding.")
        kept = old.doc if old else {"annotations": [], "parameters": [], "publish": False, "binding": NO_BINDING}
        target = binding or kept["binding"]
        noted = kept["annotations"] if annotations is None else annotations
        noted = [pair for pair in noted if pair["key"] != "binding"]
        if target:
            noted.append({"key": "binding", "value": target})
        doc = {
            "annotations": noted,
            "binding": target,
            "name": path,
            "namespace": own,
            "parameters": kept["parameters"] if parameters is None else parameters,
            "publish": kept["publish"] if publish is None else publish,
            "version": version or (content.bump(old.doc["version"]) if old else "0.0.1"),
        }
        new = transaction.put(Entity("packages", own, path, doc))
    return answer(new.doc)


@blueprint.delete("/namespaces/<namespace>/packages/<name>")
def delete(namespace: str, name: str) -> Response:
    path, force = names.check(name), flag("force")
    own = own_namespace(namespace, path)
    with platform().store.transaction() as transaction:
        old = transaction.get("packages", own, path)
        inside = transaction.size_of(own, path)
        if inside and not force:
            things = "entity" if inside == 1 else "entities"
            raise ApiError(
                409, f"Package not empty (contains {inside} {things}). Set force param or delete package contents."
            )
        transaction.delete_package(own, path)
        transaction.delete(old)
    return answer(old.doc)


def _binding(body: dict[str, Any], own: str) -> dict[str, str] | None:
    given = body.get("binding", NO_BINDING)
    if given == NO_BINDING:
        return None
    if not (isinstance(given, dict) and all(isinstance(given.get(key), str) for key in ("namespace", "name"))):
        raise malformed("'binding' is {namespace, name}")
    namespace = own if given["namespace"] == "_" else given["namespace"]
    return {"name": names.check(given["name"]), "namespace": names.check(namespace)}


def _provider(binding: dict[str, str]) -> Entity:
    """The package to bind to; 403 when the user may not read it, 400 or 409 when there is none."""
    store = platform().store
    try:
        found = resolve.package(store, user(), binding["namespace"], binding["name"])
        resolve.bound(store, user(), found)
    except ApiError as error:
        if error.status != not_found().status:
            raise
        raise ApiError(400, "Binding references a package that does not exist.") from None
    return found
