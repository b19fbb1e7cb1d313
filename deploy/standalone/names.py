"""Names of entities: which are allowed, and how a qualified name is taken apart."""

from __future__ import annotations

import re

from deploy.standalone.errors import ApiError, Rejection, malformed

MAX_LENGTH = 256
DEFAULT_PACKAGE = "default"
_NAME = re.compile(r"\w([\w@ .&-]*[\w@.&-])?", re.ASCII)


def valid(name: str) -> bool:
    return len(name) <= MAX_LENGTH and _NAME.fullmatch(name) is not None


def check(name: str) -> str:
    """``name`` itself when it is allowed; a 400 with the reason otherwise (OpenWhisk's ``EntityName``)."""
    if len(name) > MAX_LENGTH:
        raise Rejection(400, f"A name has at most {MAX_LENGTH} characters, this one has {len(name)}.")
    if not valid(name):
        raise Rejection(400, "The name of the entity contains illegal characters.")
    return name


def split(value: object, own_namespace: str) -> tuple[str, str]:
    """``/ns/name``, ``ns/pkg/name`` or ``{"path", "name"}`` -> (namespace, path); ``_`` is the own namespace."""
    if isinstance(value, dict):
        value = "/".join(part if isinstance(part := value.get(key), str) else "" for key in ("path", "name"))
    parts = [part for part in value.split("/") if part] if isinstance(value, str) else []
    if len(parts) not in (2, 3):
        raise malformed("a qualified name is /namespace/name or /namespace/package/name")
    namespace, *path = parts
    try:
        for part in path:
            check(part)
        if namespace != "_":
            check(namespace)
    except ApiError as error:
        raise malformed(error.message) from None
    return (own_namespace if namespace == "_" else namespace, "/".join(path))


def reference(namespace: str, path: str) -> dict[str, str]:
    """``{"path": "guest/pkg", "name": "action"}``, how rules name what they connect."""
    package, _, name = path.rpartition("/")
    return {"path": f"{namespace}/{package}" if package else namespace, "name": name}


def dereference(value: dict[str, str]) -> tuple[str, str]:
    """The inverse of :func:`reference`."""
    namespace, _, package = value["path"].partition("/")
    return namespace, f"{package}/{value['name']}" if package else value["name"]
