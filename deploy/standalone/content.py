"""Reading the bodies of PUT: each field is checked and turned into the form in which it is kept.

Two kinds of failure, as in OpenWhisk: a value of the wrong type is malformed content (a Rejection), a value of the
right type that this server does not allow is a plain 400 or 413.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Any

from deploy.standalone import jsontext, names, runtimes
from deploy.standalone.errors import ApiError, malformed, too_large
from deploy.standalone.settings import Settings

Pairs = list[dict[str, Any]]
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,3}\.*", re.ASCII)
# The grammar of github.com/distribution/reference: only a registry's host may have capitals.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:[\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w-]+:\d+)"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z][\w.+-]*:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)


def version(body: dict[str, Any]) -> str | None:
    """A semantic version given by the client, None when it leaves that to the server."""
    value = body.get("version")
    if value is None:
        return None
    numbers = [int(part) for part in value.rstrip(".").split(".")] if _is_version(value) else []
    major, minor, patch = (*numbers[:3], 0, 0, 0)[:3]
    if not major and not minor and not patch:
        raise malformed("a version is MAJOR.MINOR.PATCH, and not 0.0.0")
    return f"{major}.{minor}.{patch}"


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def bump(value: str) -> str:
    major, minor, patch = value.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def publish(body: dict[str, Any]) -> bool | None:
    value = body.get("publish")
    if value is not None and not isinstance(value, bool):
        raise malformed("'publish' is true or false")
    return value


def pairs(body: dict[str, Any], field: str, settings: Settings) -> Pairs | None:
    """``parameters`` or ``annotations``: ``[{"key": str, "value": any, "init"?: bool}]``; later keys win."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, list):
        raise malformed(f"'{field}' is a list of {{key, value}}")
    kept: dict[str, dict[str, Any]] = {}
    for item in value:
        if not (isinstance(item, dict) and isinstance(item.get("key"), str) and "value" in item):
            raise malformed(f"each of '{field}' has a key, which is text, and a value")
        init = item.get("init", False)
        if not isinstance(init, bool):
            raise malformed(f"'init' in '{field}' is true or false")
        kept[item["key"]] = {"key": item["key"], "value": item["value"]}
        if init:
            kept[item["key"]]["init"] = True
    result = list(kept.values())
    size = sum(len(pair["key"]) + len(jsontext.dumps(pair["value"]).encode()) for pair in result)
    if size > settings.max_parameter_bytes:
        raise too_large(f"'{field}'", size, settings.max_parameter_bytes)
    return result


def merge(base: Pairs, over: Pairs) -> Pairs:
    """Both lists as one; for a key in both the place of ``base`` and the value of ``over``."""
    merged = {pair["key"]: pair for pair in base}
    merged.update({pair["key"]: pair for pair in over})
    return list(merged.values())


def value_of(annotations: Pairs, key: str, default: Any = None) -> Any:
    return next((pair["value"] for pair in annotations if pair["key"] == key), default)


def truthy(annotations: Pairs, key: str) -> bool:
    """OpenWhisk's loose reading of an annotation as a switch: set, and neither false, null, 0 nor the empty text."""
    value = value_of(annotations, key)
    return bool(value) or isinstance(value, list | dict)


def is_true(annotations: Pairs, key: str) -> bool:
    """OpenWhisk's strict reading, that of all annotations of web actions: ``true`` and nothing else."""
    return value_of(annotations, key) is True


def has(annotations: Pairs, key: str) -> bool:
    return any(pair["key"] == key for pair in annotations)


def names_to_remove(body: dict[str, Any]) -> set[str]:
    """``delAnnotations`` of an update: the keys of annotations that are to go."""
    value = body.get("delAnnotations")
    if value is None:
        return set()
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        raise malformed("'delAnnotations' is a list of keys")
    return set(value)


def check_resources(annotations: Pairs) -> None:
    """400 unless the annotation ``resources`` is absent or an object of amounts; which ones is the managers' business."""
    resources = value_of(annotations, "resources")
    if resources is None:
        return
    amounts = resources.values() if isinstance(resources, dict) else (None,)
    if any(isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0 for amount in amounts):
        raise ApiError(
            400, "The annotation 'resources' is an object of numbers that are not negative, such as {\"cpu\": 500}."
        )
    cpu_millis(annotations)


def cpu_millis(annotations: Pairs) -> int | None:
    """The own CPU allocation from ``resources: {"cpu": millicores}``; None where the action names none."""
    resources = value_of(annotations, "resources")
    cpu = resources.get("cpu") if isinstance(resources, dict) else None
    if cpu is None:
        return None
    if isinstance(cpu, bool) or not isinstance(cpu, int | float) or not 1 <= cpu <= 1_000_000:
        raise ApiError(400, "The annotation 'resources' asks for 'cpu' in millicores: a number from 1 to 1000000.")
    return round(cpu)


def limits(body: dict[str, Any], base: dict[str, int], settings: Settings) -> dict[str, int]:
    """``base`` with the limits of ``body`` in place; unknown limits are dropped, as OpenWhisk does."""
    given = body.get("limits")
    if given is None:
        return base
    if not isinstance(given, dict):
        raise malformed("'limits' is an object")
    allowed = {
        "timeout": (settings.min_action_timeout_ms, settings.max_action_timeout_ms, "milliseconds"),
        "memory": (settings.min_action_memory_mib, settings.max_action_memory_mib, "MB"),
        "logs": (0, settings.max_action_logs_mib, "MB"),
        "concurrency": (1, settings.max_action_concurrency, "at once"),
        "instances": (0, settings.concurrent_invocations, "containers"),
    }
    result = dict(base)
    for name, (low, high, unit) in allowed.items():
        value = given.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise malformed(f"the limit '{name}' is a whole number")
        if not low <= value <= high:
            raise ApiError(400, f"The limit '{name}' of {int(value)} {unit} is outside the allowed {low} to {high}.")
        result[name] = int(value)
    return result


@dataclass(frozen=True, slots=True)
class Exec:
    """``exec`` of an action as it is kept: ``doc`` without the code, which is stored beside it."""

    doc: dict[str, Any]
    code: str | None


def executable(body: dict[str, Any], own_namespace: str, settings: Settings) -> Exec | None:
    """``exec`` of a PUT, None when the body has none."""
    given = body.get("exec")
    if given is None:
        return None
    if not isinstance(given, dict) or not isinstance(given.get("kind"), str):
        raise malformed("'exec' is an object with a 'kind'")
    kind = given["kind"].strip().lower()
    if kind == runtimes.SEQUENCE:
        return _sequence(given, own_namespace)
    code, main = given.get("code"), given.get("main")
    if "main" in given and not isinstance(main, str):
        raise malformed("'main' in 'exec' is text")
    if kind == runtimes.BLACKBOX:
        doc = {"kind": kind, "image": _image(given.get("image"))}
        if "code" in given and not isinstance(code, str):
            raise malformed("'code' in 'exec' is text")
        code = code if code and code.strip() else None
    else:
        resolved = runtimes.resolve(kind)
        if resolved is None:
            known = ", ".join((*runtimes.KINDS, runtimes.BLACKBOX, runtimes.SEQUENCE))
            raise malformed(f"the kind '{kind}' is not one of {known}")
        if not isinstance(code, str):
            raise malformed(f"'code' in 'exec' is missing or not text, which '{kind}' needs")
        doc = {"kind": resolved}
    size = len(code.encode()) if code else 0
    if size > settings.max_code_bytes:
        raise too_large("The code is", size, settings.max_code_bytes)
    # What the client says in 'binary' does not count, as in OpenWhisk.
    doc["binary"] = code is not None and is_binary(code)
    if main is not None:
        doc["main"] = main
    return Exec(doc, code)


def is_binary(code: str) -> bool:
    """Whether OpenWhisk takes ``code`` for a base64-encoded file."""
    text = code.strip()
    if not text or len(text) % 4:
        return False
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return False
    return True


def _image(value: object) -> str:
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        raise malformed("'image' in 'exec' names no container image, which 'blackbox' needs")
    return value


def _sequence(given: dict[str, Any], own_namespace: str) -> Exec:
    components = given.get("components")
    if not isinstance(components, list):
        raise malformed("'components' must be defined for sequence kind")
    resolved = ["/{}/{}".format(*names.split(component, own_namespace)) for component in components]
    return Exec({"components": resolved, "kind": runtimes.SEQUENCE}, None)
