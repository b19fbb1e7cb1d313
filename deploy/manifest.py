"""Deploys what a manifest in wskdeploy's format describes.

A manifest becomes a flat list of entities in the order in which they must be made, each with the body of its PUT.
Everything is read and checked before the first request is sent.
"""

from __future__ import annotations

import base64
import difflib
import graphlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from deploy.bundle import LARGEST_CODE, BundleError, bundle
from rm_agent.openwhisk import OpenWhisk, OpenWhiskError

Kind = Literal["package", "action", "trigger", "rule"]

KINDS_BY_SUFFIX = {
    ".py": "python:default",
    ".js": "nodejs:default",
    ".go": "go:default",
    ".php": "php:default",
    ".rb": "ruby:default",
    ".rs": "rust:default",
    ".swift": "swift:default",
    ".jar": "java:default",
}
KINDS_BY_CONTENT = {"__main__.py": "python:default", "package.json": "nodejs:default", "index.js": "nodejs:default"}
BINARY_SUFFIXES = (".zip", ".jar")
SKELETON_IMAGE = "openwhisk/dockerskeleton"
LIMITS = {"timeout": "timeout", "memorySize": "memory", "logSize": "logs", "concurrency": "concurrency"}
TYPE_DEFAULTS: dict[str, Any] = {
    "string": "",
    "integer": 0,
    "float": 0.0,
    "number": 0,
    "boolean": False,
    "object": {},
    "json": {},
    "array": [],
}
INPUT_KEYS = frozenset({"type", "description", "value", "default", "required"})
NAME = re.compile(r"\w([\w@ .&-]*[\w@.&-])?", re.ASCII)
VARIABLE = re.compile(r"\$\{(\w+)\}")
WHOLE_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)")


class ManifestError(Exception):
    """The manifest cannot be used: ``str()`` names the file, the key and what to do."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing to make: ``name`` as in the API (``pkg/name``), ``body`` of its PUT. ``title`` is for people."""

    kind: Kind
    name: str
    body: dict[str, Any] = field(repr=False)
    title: str = ""

    def __str__(self) -> str:
        return f"{self.title or self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Manifest:
    path: Path
    entities: tuple[Entity, ...]  # in order of creation

    def named(self, kind: Kind) -> list[str]:
        return [entity.name for entity in self.entities if entity.kind == kind]


Progress = Callable[[Entity, str], None]


def load(path: Path | str, environ: Mapping[str, str] = os.environ) -> Manifest:
    """Read a manifest and the code it names. Paths in it are relative to its folder.

    Raises:
        ManifestError: a wrong key or value, a missing file, an environment variable that is not set.
    """
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ManifestError(f"{path}: not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    return _Reader(path, environ).manifest(document)


def apply(manifest: Manifest, ow: OpenWhisk, progress: Progress | None = None) -> None:
    """Create or update everything, in order; ``progress(entity, "deployed")`` after each.

    Raises:
        OpenWhiskError: the server refused one; those before it are deployed. The message names it.
    """
    put = {"package": ow.put_package, "action": ow.put_action, "trigger": ow.put_trigger, "rule": ow.put_rule}
    for entity in manifest.entities:
        try:
            put[entity.kind](entity.name, entity.body)
            if entity.kind == "rule":
                ow.set_rule(entity.name, active=True)
        except OpenWhiskError as error:
            raise _about(entity, error) from error
        if progress:
            progress(entity, "deployed")


def remove(manifest: Manifest, ow: OpenWhisk, progress: Progress | None = None) -> None:
    """Delete everything, last first; what is not there is passed over (``progress(entity, "not there")``).

    A package that holds actions from elsewhere is kept (``"kept: not empty"``).
    """
    delete = {
        "package": ow.delete_package,
        "action": ow.delete_action,
        "trigger": ow.delete_trigger,
        "rule": ow.delete_rule,
    }
    for entity in reversed(manifest.entities):
        outcome = "removed"
        try:
            delete[entity.kind](entity.name)
        except OpenWhiskError as error:
            if error.status == 404:
                outcome = "not there"
            elif error.status == 409 and entity.kind == "package":
                outcome = "kept: not empty"
            else:
                raise _about(entity, error) from error
        if progress:
            progress(entity, outcome)


def _about(entity: Entity, error: OpenWhiskError) -> OpenWhiskError:
    if not error.status:
        return error
    return OpenWhiskError(error.status, f"{entity}: {error.message}", error.code)


class _UniqueKeys(yaml.SafeLoader):
    """YAML as JSON would have it: a key given twice is a mistake, not an override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Reader:
    """Walks one manifest. ``where`` is the dotted key that an error names."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.folder = path.parent
        self.environ = environ

    def error(self, where: str, message: str) -> ManifestError:
        return ManifestError(f"{self.path}: {where}: {message}" if where else f"{self.path}: {message}")

    def manifest(self, document: Any) -> Manifest:
        top = self.mapping("", document, {"packages", "project"})
        if "project" in top:
            top = top | self.mapping("project", top["project"], {"name", "namespace", "version", "packages"})
        packages = self.names("packages", top.get("packages"))
        if not packages:
            raise self.error("packages", "nothing to deploy: name at least one package")
        entities = [entity for name, body in packages.items() for entity in self.package(name, body)]
        order: list[Kind] = ["package", "action", "trigger", "rule"]
        return Manifest(self.path, tuple(sorted(entities, key=lambda entity: order.index(entity.kind))))

    def package(self, name: str, document: Any) -> Iterator[Entity]:
        where = f"packages.{name}"
        plain = {"version", "license", "description", "namespace", "public", "inputs", "parameters", "annotations"}
        parts = {"actions", "sequences", "triggers", "rules", "dependencies"}
        body = self.mapping(where, document, plain | parts)
        in_package = name != "default"
        prefix = f"{name}/" if in_package else ""
        if in_package:
            inputs = body.get("inputs", body.get("parameters"))
            yield Entity(
                "package",
                name,
                {
                    "name": name,
                    "version": str(body.get("version", "0.0.1")),
                    "publish": self.boolean(f"{where}.public", body.get("public", False)),
                    "parameters": self.inputs(f"{where}.inputs", inputs),
                    "annotations": self.pairs(f"{where}.annotations", body.get("annotations")),
                },
            )
        for key, value in self.names(f"{where}.dependencies", body.get("dependencies")).items():
            yield self.binding(f"{where}.dependencies.{key}", key, value)
        for key, value in self.names(f"{where}.actions", body.get("actions")).items():
            yield self.action(f"{where}.actions.{key}", prefix + key, value)
        yield from self.sequences(f"{where}.sequences", prefix, body.get("sequences"))
        for key, value in self.names(f"{where}.triggers", body.get("triggers")).items():
            yield self.trigger(f"{where}.triggers.{key}", key, value)
        for key, value in self.names(f"{where}.rules", body.get("rules")).items():
            yield self.rule(f"{where}.rules.{key}", prefix, key, value)

    def binding(self, where: str, name: str, document: Any) -> Entity:
        body = self.mapping(where, document, {"location", "inputs", "parameters", "annotations"})
        location = self.text(f"{where}.location", body.get("location"))
        match = re.fullmatch(r"/([^/]+)/([^/]+)", location)
        if not match:
            raise self.error(f"{where}.location", f"'{location}' is not a package: only /namespace/package can be bound here")
        return Entity(
            "package",
            name,
            {
                "name": name,
                "binding": {"namespace": match[1], "name": match[2]},
                "parameters": self.inputs(f"{where}.inputs", body.get("inputs", body.get("parameters"))),
                "annotations": self.pairs(f"{where}.annotations", body.get("annotations")),
            },
            "binding",
        )

    def action(self, where: str, name: str, document: Any) -> Entity:
        settings = {"inputs", "limits", "annotations", "web", "web-export", "main"}
        origin = {"function", "location", "code", "runtime", "docker", "native", "include", "exclude"}
        ignored = {"version", "description", "namespace", "outputs"}
        body = self.mapping(where, document, settings | origin | ignored)
        annotations = self.pairs(f"{where}.annotations", body.get("annotations"))
        annotations += self.web(f"{where}.web", body.get("web", body.get("web-export")))
        put: dict[str, Any] = {
            "name": name,
            "exec": self.executable(where, body),
            # Also when there are none: an update keeps what is not mentioned.
            "parameters": self.inputs(f"{where}.inputs", body.get("inputs")),
            "annotations": annotations,
            "publish": False,
        }
        if limits := self.limits(f"{where}.limits", body.get("limits")):
            put["limits"] = limits
        return Entity("action", name, put)

    def executable(self, where: str, body: dict[str, Any]) -> dict[str, Any]:
        image = body.get("docker")
        if image is None and self.boolean(f"{where}.native", body.get("native", False)):
            image = SKELETON_IMAGE
        given = body.get("function", body.get("location"))
        if "code" in body:
            code, binary, kind = self.text(f"{where}.code", body["code"]), False, None
        elif given is not None:
            code, binary, kind = self.source(where, self.text(f"{where}.function", given), body)
        elif image is not None:
            code = None
        else:
            raise self.error(where, "no code: give function (a file or a folder), code or docker")
        executable: dict[str, Any] = {}
        if image is not None:
            executable |= {"kind": "blackbox", "image": self.text(f"{where}.docker", image)}
        else:
            runtime = body.get("runtime")
            kind = kind if runtime is None else self.text(f"{where}.runtime", runtime)
            if kind is None:
                raise self.error(where, "what runs it cannot be told: give runtime, for example python:3.11")
            executable["kind"] = kind if ":" in kind else f"{kind}:default"
        if code is not None:
            executable |= {"code": code, "binary": binary}
        if "main" in body:
            executable["main"] = self.text(f"{where}.main", body["main"])
        return executable

    def source(self, where: str, function: str, body: dict[str, Any]) -> tuple[str, bool, str | None]:
        """Code, whether it is base64, and the kind where it can be told."""
        path = self.folder / function
        include, exclude = self.include(where, body), self.strings(where, "exclude", body)
        where = f"{where}.function"
        if path.is_dir():
            try:
                content = bundle(path, include, exclude, self.folder)
            except BundleError as error:
                raise self.error(where, str(error)) from None
            except OSError as error:
                raise self.error(where, f"cannot pack {path}: {error.strerror}") from None
            kinds = [kind for name, kind in KINDS_BY_CONTENT.items() if (path / name).is_file()]
            return base64.b64encode(content).decode(), True, kinds[0] if kinds else None
        if include or exclude:
            raise self.error(where, f"{path} is no folder, which include and exclude need")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise self.error(where, f"there is no file or folder {path}") from None
        except OSError as error:
            raise self.error(where, f"cannot read {path}: {error.strerror}") from None
        if len(content) > LARGEST_CODE:
            raise self.error(where, f"{path} has {len(content) >> 20} MiB, more than OpenWhisk takes (48 MiB)")
        kind = KINDS_BY_SUFFIX.get(path.suffix)
        if path.suffix in BINARY_SUFFIXES:
            return base64.b64encode(content).decode(), True, kind
        try:
            return content.decode(), False, kind
        except UnicodeDecodeError:
            raise self.error(where, f"{path} is not text: pack binaries into a .zip") from None

    def include(self, where: str, body: dict[str, Any]) -> list[tuple[str, str | None]]:
        pairs = []
        for item in body.get("include") or ():
            item = [item] if isinstance(item, str) else item
            if not (isinstance(item, list) and len(item) in (1, 2) and all(isinstance(part, str) for part in item)):
                raise self.error(f"{where}.include", "each entry is [source] or [source, destination]")
            source, destination = self.expand(where, item[0]), item[1] if len(item) == 2 else None
            pairs.append((source, destination))
        return pairs

    def sequences(self, where: str, prefix: str, document: Any) -> Iterator[Entity]:
        found: dict[str, Entity] = {}
        needs: dict[str, list[str]] = {}
        for key, value in self.names(where, document).items():
            here = f"{where}.{key}"
            body = self.mapping(here, value, {"actions", "web", "web-export", "annotations"})
            actions = body.get("actions")
            names = actions.split(",") if isinstance(actions, str) else self.strings(here, "actions", body)
            components = [self.qualified(prefix, self.expand(here, name).strip()) for name in names if name.strip()]
            if not components:
                raise self.error(f"{here}.actions", "name at least one action")
            annotations = self.pairs(f"{here}.annotations", body.get("annotations"))
            annotations += self.web(f"{here}.web", body.get("web", body.get("web-export")))
            put = {
                "name": prefix + key,
                "exec": {"kind": "sequence", "components": components},
                "annotations": annotations,
                "publish": False,
            }
            own = f"/_/{prefix}{key}"
            found[own], needs[own] = Entity("action", prefix + key, put, "sequence"), components
        try:
            ordered = list(graphlib.TopologicalSorter(needs).static_order())
        except graphlib.CycleError as error:
            raise self.error(where, f"these call each other in a circle: {' -> '.join(error.args[1])}") from None
        yield from (found[name] for name in ordered if name in found)

    def trigger(self, where: str, name: str, document: Any) -> Entity:
        body = self.mapping(where, document, {"inputs", "parameters", "annotations", "namespace", "description"})
        return Entity(
            "trigger",
            name,
            {
                "name": name,
                "parameters": self.inputs(f"{where}.inputs", body.get("inputs", body.get("parameters"))),
                "annotations": self.pairs(f"{where}.annotations", body.get("annotations")),
                "publish": False,
            },
        )

    def rule(self, where: str, prefix: str, name: str, document: Any) -> Entity:
        body = self.mapping(where, document, {"trigger", "action", "description"})
        trigger = self.text(f"{where}.trigger", body.get("trigger"))
        action = self.text(f"{where}.action", body.get("action"))
        return Entity(
            "rule",
            name,
            {
                "name": name,
                "status": "",
                "trigger": self.qualified("", trigger),
                "action": self.qualified(prefix, action),
                "publish": False,
            },
        )

    def qualified(self, prefix: str, name: str) -> str:
        if name.startswith("/"):
            return name
        return f"/_/{name}" if "/" in name else f"/_/{prefix}{name}"

    def limits(self, where: str, document: Any) -> dict[str, int]:
        limits = {}
        for key, value in self.mapping(where, document, set(LIMITS)).items():
            if isinstance(value, str) and (text := self.expand(f"{where}.{key}", value)).isdecimal():
                value = int(text)
            if isinstance(value, bool) or not isinstance(value, int):
                unit = {"timeout": "milliseconds", "concurrency": "calls at once"}.get(key, "MB")
                raise self.error(f"{where}.{key}", f"{value!r} is not a whole number of {unit}")
            limits[LIMITS[key]] = value
        return limits

    def web(self, where: str, value: Any) -> list[dict[str, Any]]:
        if value is None:
            return []
        spelled = str(value).lower()
        if spelled not in ("yes", "true", "no", "false", "raw"):
            raise self.error(where, f"{value!r} is unknown: use true, false or raw")
        exported = spelled not in ("no", "false")
        flags = {"web-export": exported, "raw-http": spelled == "raw", "final": exported}
        return [{"key": key, "value": flag} for key, flag in flags.items()]

    def inputs(self, where: str, document: Any) -> list[dict[str, Any]]:
        if document is None:
            return []
        if not isinstance(document, dict):
            raise self.error(where, "expected names and values")
        return [{"key": str(key), "value": self.input(f"{where}.{key}", value)} for key, value in document.items()]

    def input(self, where: str, given: Any) -> Any:
        if isinstance(given, dict) and given.keys() <= INPUT_KEYS and given.keys() & {"type", "value", "default"}:
            for key in ("value", "default"):
                if given.get(key) is not None:
                    return self.value(f"{where}.{key}", given[key])
            if given.get("type") not in TYPE_DEFAULTS:
                raise self.error(f"{where}.type", f"{given.get('type')!r} is unknown: use one of {_listed(TYPE_DEFAULTS)}")
            return TYPE_DEFAULTS[given["type"]]
        if isinstance(given, str) and given in TYPE_DEFAULTS:
            return TYPE_DEFAULTS[given]
        return self.value(where, given)

    def pairs(self, where: str, document: Any) -> list[dict[str, Any]]:
        if document is None:
            return []
        if not isinstance(document, dict):
            raise self.error(where, "expected names and values")
        return [{"key": str(key), "value": self.value(f"{where}.{key}", value)} for key, value in document.items()]

    def value(self, where: str, value: Any) -> Any:
        """A JSON value, with the environment's variables put in."""
        if isinstance(value, str):
            return self.expand(where, value)
        if isinstance(value, list):
            return [self.value(f"{where}[{index}]", item) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {str(key): self.value(f"{where}.{key}", item) for key, item in value.items()}
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return str(value)

    def expand(self, where: str, text: str) -> str:
        """``$NAME`` where that is all, ``${NAME}`` anywhere."""

        def look_up(match: re.Match[str]) -> str:
            if match[1] not in self.environ:
                raise self.error(where, f"the environment variable {match[1]} is not set: export it, or write the value")
            return self.environ[match[1]]

        if whole := WHOLE_VARIABLE.fullmatch(text):
            return look_up(whole)
        return VARIABLE.sub(look_up, text)

    def text(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(where, f"expected a text, not {value!r}" if value is not None else "is missing")
        return value if where.endswith(".code") else self.expand(where, value)

    def boolean(self, where: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.error(where, f"expected true or false, not {value!r}")
        return value

    def strings(self, where: str, key: str, body: dict[str, Any]) -> list[str]:
        values = body.get(key) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.error(f"{where}.{key}", "expected a list of texts")
        return values

    def names(self, where: str, document: Any) -> dict[str, Any]:
        """A mapping whose keys are names of entities."""
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise self.error(where, "expected names with their settings")
        for name in document:
            if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 256:
                raise self.error(where, f"{name!r} is not a name: letters, digits and _ @ . & - are allowed")
        return document

    def mapping(self, where: str, document: Any, known: set[str]) -> dict[str, Any]:
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise self.error(where, "expected keys and values")
        for key in document:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {_listed(known)}"
                raise self.error(where, f"'{key}' is unknown here: {hint}")
        return document


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
