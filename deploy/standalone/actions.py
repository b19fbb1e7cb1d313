"""`/namespaces/{ns}/actions`."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from deploy.standalone import content, names, records, resolve, runtimes
from deploy.standalone.errors import ApiError, bad_query, exists, not_found
from deploy.standalone.invocations import Caller
from deploy.standalone.model import Limits, Status
from deploy.standalone.records import Record
from deploy.standalone.resolve import NO_BINDING
from deploy.standalone.rest import (
    answer,
    answer_of,
    any_namespace,
    flag,
    integer,
    json_body,
    own_namespace,
    page,
    page_bounds,
    platform,
    transaction_id,
    user,
)
from deploy.standalone.store import Entity, Transaction

blueprint = Blueprint("actions", __name__)
_DEFAULTS = Limits()
_DEFAULT_LIMITS = {
    "timeout": _DEFAULTS.timeout_ms,
    "memory": _DEFAULTS.memory_mib,
    "logs": _DEFAULTS.logs_mib,
    "concurrency": _DEFAULTS.concurrency,
}
_HTTP_STATUS = {
    Status.SUCCESS: 200,
    Status.APPLICATION_ERROR: 502,
    Status.DEVELOPER_ERROR: 502,
    Status.INTERNAL_ERROR: 500,
}


def shown(action: Entity, *, code: bool = True, **changes: Any) -> dict[str, Any]:
    """An action as GET, PUT and DELETE answer it."""
    doc = {**action.doc, **changes}
    if code and action.code is not None:
        doc["exec"] = {**doc["exec"], "code": action.code}
    return doc


def _listed(action: Entity) -> dict[str, Any]:
    fields = ("name", "updated", "limits", "namespace", "publish", "annotations", "version")
    return {
        **{field: action.doc[field] for field in fields},
        "exec": {"binary": action.doc["exec"].get("binary", False)},
    }


@blueprint.get("/namespaces/<namespace>/actions")
@blueprint.get("/namespaces/<namespace>/actions/")
def list_all(namespace: str) -> Response:
    page_bounds()
    return page("actions", platform().store.listing("actions", own_namespace(namespace)), _listed)


@blueprint.get("/namespaces/<namespace>/actions/<package>/")
def list_package(namespace: str, package: str) -> Response:
    page_bounds()
    store = platform().store
    outer = resolve.package(store, user(), any_namespace(namespace), names.check(package))
    inner = resolve.bound(store, user(), outer)
    return page("actions", store.listing("actions", inner.namespace, inner.path), _listed)


@blueprint.get("/namespaces/<namespace>/actions/<name>")
@blueprint.get("/namespaces/<namespace>/actions/<package>/<name>")
def get(namespace: str, name: str, package: str = "") -> Response:
    with_code = flag("code", default=True)
    found = resolve.action(platform().store, user(), any_namespace(namespace), _path(package, name))
    changes: dict[str, Any] = {"parameters": found.parameters}
    if found.binding and not with_code:
        changes["binding"] = found.binding
    return answer(shown(found.action, code=with_code, **changes))


@blueprint.put("/namespaces/<namespace>/actions/<name>")
@blueprint.put("/namespaces/<namespace>/actions/<package>/<name>")
def put(namespace: str, name: str, package: str = "") -> Response:
    path = _path(package, name)
    own = own_namespace(namespace, path)
    overwrite = flag("overwrite")
    body = json_body(allowed=platform().settings.max_body_bytes)
    update = _Update(body, own)
    with platform().store.transaction() as transaction:
        _writable_package(transaction, own, package)
        old = transaction.find("actions", own, path)
        if old is not None and not overwrite:
            raise exists()
        new = transaction.put(update.apply(old, own, path))
    return answer(shown(new))


@blueprint.delete("/namespaces/<namespace>/actions/<name>")
@blueprint.delete("/namespaces/<namespace>/actions/<package>/<name>")
def delete(namespace: str, name: str, package: str = "") -> Response:
    path = _path(package, name)
    own = own_namespace(namespace, path)
    with platform().store.transaction() as transaction:
        _writable_package(transaction, own, package)
        old = transaction.get("actions", own, path)
        transaction.delete(old)
    return answer(shown(old))


@blueprint.post("/namespaces/<namespace>/actions/<name>")
@blueprint.post("/namespaces/<namespace>/actions/<package>/<name>")
def invoke(namespace: str, name: str, package: str = "") -> Response:
    path, owner = _path(package, name), any_namespace(namespace)
    # Whatever is wrong with it otherwise, each call counts.
    platform().invocation_rate.check(user().name)
    resolve.entitle(platform().store, user(), owner, path)
    blocking, only_result, timeout_s = flag("blocking"), flag("result"), _timeout_s()
    payload = json_body(allowed=platform().settings.max_parameter_bytes, optional=True)
    target = resolve.action(platform().store, user(), owner, path)
    resolve.admit(platform().store, user(), target, payload)
    started = platform().start(Caller(user(), transaction_id()), target, payload)
    header = {"X-Openwhisk-Activation-Id": started.activation_id}

    def shown(record: Record | None) -> Response:
        if record is None:
            return answer({"activationId": started.activation_id}, 202, header)
        return answer(_invoked(record, only_result), _HTTP_STATUS[records.status_of(record)], header)

    return answer_of(started, timeout_s, shown) if blocking else shown(None)


def _invoked(record: Record, only_result: bool) -> Any:
    result = record["response"]["result"]
    if only_result or isinstance(result, list):
        return result
    # Logs are collected after the answer; a sequence's are the ids of its parts, known by then.
    composed = content.value_of(record["annotations"], "topmost") is not None
    return record if composed else {**record, "logs": []}


def _timeout_s() -> float:
    longest = platform().settings.blocking_timeout_s
    if "timeout" not in request.args:
        return longest
    try:
        milliseconds = integer("timeout", 1, int(longest * 1000))
    except ApiError:
        raise bad_query("timeout", f"it is a number of milliseconds up to {int(longest * 1000)}") from None
    return (milliseconds or 0) / 1000


def _path(package: str, name: str) -> str:
    return f"{names.check(package)}/{names.check(name)}" if package else names.check(name)


def _writable_package(transaction: Transaction, namespace: str, package: str) -> None:
    if package and transaction.get("packages", namespace, package).doc["binding"] != NO_BINDING:
        raise ApiError(400, "Operation not permitted on package binding.")


class _Update:
    """The checked body of a PUT, to be laid over what is there."""

    def __init__(self, body: dict[str, Any], namespace: str) -> None:
        settings = platform().settings
        self._version = content.version(body)
        self._publish = content.publish(body)
        self._parameters = content.pairs(body, "parameters", settings)
        self._annotations = content.pairs(body, "annotations", settings) or []
        removed = content.names_to_remove(body)
        self._exec = content.executable(body, namespace, settings)
        sequence = self._exec is not None and self._exec.doc["kind"] == runtimes.SEQUENCE
        # OpenWhisk forgets them where the same PUT brings a sequence.
        self._removed = set() if sequence else removed
        self._body = body
        content.limits(body, _DEFAULT_LIMITS, settings)
        content.check_resources(self._annotations)

    def apply(self, old: Entity | None, namespace: str, path: str) -> Entity:
        package, _, name = path.rpartition("/")
        if old is None and self._exec is None:
            raise ApiError(400, "A new action needs 'exec'.")
        executable = self._exec.doc if self._exec else old.doc["exec"]
        code = self._exec.code if self._exec else old.code
        if self._exec and executable["kind"] == runtimes.SEQUENCE:
            _check_sequence(executable["components"], f"/{namespace}/{path}")
        doc = {
            "annotations": self._merged_annotations(old, executable["kind"]),
            "exec": executable,
            "limits": content.limits(self._body, old.doc["limits"] if old else _DEFAULT_LIMITS, platform().settings),
            "name": name,
            "namespace": f"{namespace}/{package}" if package else namespace,
            "parameters": self._merged_parameters(old, executable),
            "publish": self._publish if self._publish is not None else old.doc["publish"] if old else False,
            "version": self._version or (content.bump(old.doc["version"]) if old else "0.0.1"),
        }
        return Entity("actions", namespace, path, doc, code)

    def _merged_parameters(self, old: Entity | None, executable: dict[str, Any]) -> content.Pairs:
        if executable["kind"] == runtimes.SEQUENCE:
            return [{"key": "_actions", "value": executable["components"]}]
        if self._parameters is not None:
            return self._parameters
        # What a sequence had are its components, of no use to what it becomes.
        return old.doc["parameters"] if old and old.doc["exec"]["kind"] != runtimes.SEQUENCE else []

    def _merged_annotations(self, old: Entity | None, kind: str) -> content.Pairs:
        kept = [{"key": "provide-api-key", "value": False}]
        if old:
            kept = [pair for pair in old.doc["annotations"] if pair["key"] not in self._removed]
        return content.merge(content.merge(kept, self._annotations), [{"key": "exec", "value": kind}])


def _check_sequence(components: list[str], own: str) -> None:
    """400 for a sequence that is empty, too long, refers to itself or to what is not there."""
    for component in components:
        resolve.entitle(platform().store, user(), *names.split(component, user().name))
    if not components:
        raise ApiError(400, "No component specified for the sequence.")
    store, caller, longest = platform().store, user(), platform().settings.sequence_length
    if len(components) > longest:
        raise ApiError(400, f"A sequence has at most {longest} actions.")
    left, waiting = longest, list(components)
    itself = ApiError(400, "Sequence may not refer to itself.")
    while waiting:
        component = waiting.pop()
        if component == own:
            raise itself
        try:
            found = resolve.action(store, caller, *names.split(component, caller.name)).action
        except ApiError as error:
            if error.status != not_found().status:
                raise
            raise ApiError(400, f"The sequence component {component} does not exist.") from None
        if f"/{found.namespace}/{found.path}" == own:
            raise itself
        if found.doc["exec"]["kind"] == runtimes.SEQUENCE:
            waiting.extend(found.doc["exec"]["components"])
        else:
            left -= 1
        if left < 0 or len(waiting) > longest:
            raise ApiError(400, f"A sequence has at most {longest} actions, those of sequences in it included.")
