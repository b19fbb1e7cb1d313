"""From a name to an action that a user may read and invoke, through packages and bindings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.standalone import content, names, runtimes
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError, forbidden, not_found
from deploy.standalone.store import Entity, Store

NO_BINDING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Resolved:
    """An action with the parameters it inherits; ``binding`` is ``ns/package`` when it was found through one."""

    action: Entity
    parameters: content.Pairs
    binding: str | None = None

    @property
    def shown_path(self) -> str:
        """Under which name its activations are found: that of the binding, where there is one."""
        package = self.binding.partition("/")[2] if self.binding else self.action.package
        return f"{package}/{self.action.name}" if package else self.action.name

    def locked_keys(self) -> set[str]:
        """Parameters that a caller may not set: those with a value, of an action annotated ``final``."""
        if not content.is_true(self.action.doc["annotations"], "final"):
            return set()
        return {pair["key"] for pair in self.parameters if pair["value"] is not None}


def package(store: Store, user: User, namespace: str, name: str) -> Entity:
    """A package the user may read: an own one, or another's published one that is no binding; else 403."""
    if namespace == user.name:
        return store.get("packages", namespace, name)
    found = store.find(namespace, name)
    public = found is not None and found.collection == "packages" and found.doc["publish"]
    if found is None or not public or found.doc["binding"] != NO_BINDING:
        raise forbidden(f"{namespace}/{name}")
    return found


def bound(store: Store, user: User, found: Entity) -> Entity:
    """The package itself, or the one it is bound to."""
    binding = found.doc["binding"]
    if binding == NO_BINDING:
        return found
    return package(store, user, binding["namespace"], binding["name"])


def entitle(store: Store, user: User, namespace: str, path: str) -> None:
    """Whether the user may refer to ``path``, be there an action or not: 403, or 404 or 409 for its package."""
    package_name = path.rpartition("/")[0]
    if package_name:
        bound(store, user, package(store, user, namespace, package_name))
    elif namespace != user.name:
        raise forbidden(f"{namespace}/{path}")


def inherited(found: Entity, target: Entity) -> content.Pairs:
    """Parameters of a package and, over them, of a binding to it."""
    if found is target:
        return found.doc["parameters"]
    return content.merge(target.doc["parameters"], found.doc["parameters"])


def action(store: Store, user: User, namespace: str, path: str) -> Resolved:
    """The action ``path`` (``name`` or ``package/name``) with all its parameters; 403, 404 or 409 otherwise."""
    package_name, _, name = path.rpartition("/")
    if not package_name:
        if namespace != user.name:
            raise forbidden(f"{namespace}/{path}")
        found = store.get("actions", namespace, path)
        return Resolved(found, found.doc["parameters"])
    outer = package(store, user, namespace, package_name)
    inner = bound(store, user, outer)
    found = store.get("actions", inner.namespace, f"{inner.path}/{name}")
    parameters = content.merge(inherited(outer, inner), found.doc["parameters"])
    return Resolved(found, parameters, None if outer is inner else f"{outer.namespace}/{outer.path}")


def admit(store: Store, user: User, target: Resolved, payload: dict[str, Any]) -> None:
    """403 where the user may not refer to a part of a sequence, 400 where ``payload`` sets what ``final`` has fixed."""
    if target.action.doc["exec"]["kind"] == runtimes.SEQUENCE:
        for component in target.action.doc["exec"]["components"]:
            entitle(store, user, *names.split(component, user.name))
    if target.locked_keys() & payload.keys():
        raise ApiError(400, "Request defines parameters that are not allowed (e.g., reserved properties).")


def exported(store: Store, owner: User, path: str) -> Resolved:
    """A web action of ``owner``; 404 for anything else, so that nobody learns what exists."""
    try:
        resolved = action(store, owner, owner.name, path)
    except ApiError:
        raise not_found() from None
    if not content.is_true(resolved.action.doc["annotations"], "web-export"):
        raise not_found()
    return resolved
