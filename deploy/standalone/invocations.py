"""Running actions: single ones, sequences and compositions, and keeping their records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.standalone import content, names, records, resolve, runtimes
from deploy.standalone.auth import User
from deploy.standalone.errors import ApiError, malformed
from deploy.standalone.jsontext import dumps
from deploy.standalone.model import Invocation, Invoker, Limits, Outcome, Runnable, Status
from deploy.standalone.records import Record
from deploy.standalone.resolve import Resolved
from deploy.standalone.settings import Settings
from deploy.standalone.store import Activation, Store
from deploy.standalone.throttle import ConcurrencyLimit

log = logging.getLogger(__name__)

_COMPONENT_MISSING = "Sequence component does not exist."
_COMPOSITION_TOO_LONG = "Too many actions in the composition."
_MOST_SEQUENCES = 512  # running at once; more wait for their turn
_TOO_DEEP = "Sequence may not refer to itself."
_CLOSING = "The server stopped before the action finished."
_NO_RECORD = "The action has run, but its record could not be kept; the server's log has more under the activation id."
_DEFECT = "The server failed while it ran the action; its log has more under the activation id."


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf and in which request something runs."""

    user: User
    transaction_id: str
    received_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True)
class Started:
    activation_id: str
    record: Future[Record]


@dataclass(slots=True)
class _Composition:
    """How much of one composition, over all conductors nested in it, has run."""

    conductors: int = 0
    components: int = 0


@dataclass(slots=True)
class _Steps:
    """What the parts of one sequence or conductor add up to."""

    logs: list[str] = field(default_factory=list)
    duration: int = 0
    memory: int = 0

    def add(self, record: Record) -> None:
        self.logs.append(record["activationId"])
        self.duration += record["duration"]
        limits = content.value_of(record["annotations"], "limits", {"memory": 0})
        self.memory = max(self.memory, limits["memory"])


class Invocations:
    """Starts what users invoke. ``invoker`` runs single actions; what is made of several runs in threads of its own."""

    def __init__(
        self, settings: Settings, store: Store, invoker: Invoker, kept: Callable[[Record], None] = lambda _: None
    ) -> None:
        """``kept`` hears of each record that was kept, on any thread."""
        self._settings = settings
        self._kept = kept
        self._store = store
        self._invoker = invoker
        self._concurrency = ConcurrencyLimit(settings.concurrent_invocations)
        self._threads = ThreadPoolExecutor(_MOST_SEQUENCES, thread_name_prefix="sequence")
        self._running: dict[str, tuple[str, float, Future[Record]]] = {}  # by id: whose, since when

    @property
    def in_flight(self) -> int:
        return self._concurrency.total

    def close(self) -> None:
        """Wait for sequences that run; their parts end when the invoker closes."""
        self._threads.shutdown(wait=True)

    def start(self, caller: Caller, target: Resolved, payload: dict[str, Any]) -> Started:
        """Run ``target``. 429 when the user has too many running; the future holds the finished record.

        507 when the disk has no room for the record; then nothing was started. Once this returns, the id has exactly
        one record sooner or later, also if the server is killed.
        """
        self._concurrency.enter(caller.user.name)
        try:
            composed = _is_composed(target)
            accepted = self._accept(caller, target, composed)
            if composed:
                record = self._in_a_thread(caller, target, payload, accepted)
            else:
                record = self._single(caller, target, payload, accepted)
        except BaseException:
            self._concurrency.leave(caller.user.name)
            raise
        self._running[accepted.id] = caller.user.name, time.monotonic(), record

        def ended(_: Future[Record]) -> None:
            del self._running[accepted.id]
            self._concurrency.leave(caller.user.name)

        record.add_done_callback(ended)
        return Started(accepted.id, record)

    def started_within(self, namespace: str, seconds: float) -> list[Future[Record]]:
        """What was invoked in the namespace so short a time ago and has not ended."""
        since = time.monotonic() - seconds
        return [record for whose, began, record in list(self._running.values()) if whose == namespace and began > since]

    def _accept(self, caller: Caller, target: Resolved, composed: bool, cause: str | None = None) -> Activation:
        """A new activation, noted on disk before it starts."""
        received_ns = time.time_ns()
        entity = target.action
        annotations: dict[str, Any] = {
            "path": f"{entity.namespace}/{entity.path}",
            "waitTime": 0,
            "kind": entity.doc["exec"]["kind"],
            "limits": entity.doc["limits"],
        }
        if composed:
            annotations |= {"kind": runtimes.SEQUENCE, "topmost": cause is None}
            if _is_conductor(target):
                annotations["conductor"] = True
        else:
            annotations["timeout"] = False
        if target.binding is not None:
            annotations["binding"] = target.binding
        record = records.unfinished(
            activation_id=records.new_id(),
            namespace=caller.user.name,
            name=entity.name,
            version=entity.doc["version"],
            start=received_ns // 1_000_000,
            annotations=annotations,
            cause=cause,
        )
        accepted = Activation(caller.user.name, target.shown_path, received_ns, record)
        self._store.accept(accepted)
        return accepted

    def _in_a_thread(self, caller: Caller, target: Resolved, payload: Any, accepted: Activation) -> Future[Record]:
        try:
            return self._threads.submit(self._composed, caller, target, payload, accepted)
        except RuntimeError:  # the last request before the server stops
            self._keep(accepted, records.ended(accepted.doc, _CLOSING))
            raise ApiError(503, "The server is stopping.") from None

    def _single(self, caller: Caller, target: Resolved, payload: Any, accepted: Activation) -> Future[Record]:
        try:
            invocation = Invocation(
                activation_id=accepted.id,
                transaction_id=caller.transaction_id,
                action=runnable(target, payload),
                payload=_arguments(target, payload),
                received_ms=accepted.doc["start"],
                namespace=caller.user.name,
                api_key=caller.user.api_key,
            )
        except Exception:  # it was accepted: there must be a record of it
            self._keep(accepted, records.ended(accepted.doc, _DEFECT))
            raise
        finished: Future[Record] = Future()

        def finish(done: Future[Outcome]) -> None:
            # Whatever goes wrong, the future must end: a client and a place among the user's calls depend on it.
            try:
                outcome = _outcome(done, invocation)
                record = records.of_action(
                    invocation,
                    target.action.doc["limits"],
                    outcome,
                    cause=accepted.doc.get("cause"),
                    binding=target.binding,
                )
                finished.set_result(self._keep(accepted, record))
            except Exception as error:
                finished.set_exception(error)

        self._invoker.submit(invocation).add_done_callback(finish)
        return finished

    def _composed(
        self,
        caller: Caller,
        target: Resolved,
        payload: Any,
        accepted: Activation,
        composition: _Composition | None = None,
        depth: int = 0,
    ) -> Record:
        """Run a sequence or conductor to its end, in the calling thread."""
        start, steps = records.now_ms(), _Steps()
        activation_id, cause = accepted.id, accepted.doc.get("cause")
        received_ns = caller.received_ns if cause is None else accepted.received_ns
        conductor = target.action.doc["exec"]["kind"] != runtimes.SEQUENCE
        try:
            if conductor:
                response = self._conduct(
                    caller, target, payload, activation_id, steps, composition or _Composition(), depth
                )
            else:
                response = self._in_turn(caller, target, payload, activation_id, steps, composition, depth)
        except ApiError as error:  # the disk takes no more records
            response = records.response(Status.INTERNAL_ERROR, records.error(error.message))
        except Exception:  # its id was given out: there must be a record of it
            log.exception("activation %s: the composition failed", activation_id)
            response = records.response(Status.INTERNAL_ERROR, records.error(_DEFECT))
        limits = target.action.doc["limits"]
        annotations: dict[str, Any] = {
            "topmost": cause is None,
            "path": f"{target.action.namespace}/{target.action.path}",
            "waitTime": max(0, start - received_ns // 1_000_000),
            "kind": runtimes.SEQUENCE,
        }
        # Those of the largest part; a sequence of which nothing could run has none.
        if steps.memory:
            sizes = {"timeout": limits["timeout"], "memory": steps.memory, "logs": limits["logs"], "concurrency": 1}
            annotations["limits"] = sizes
        if conductor:
            annotations["conductor"] = True
        if cause is not None:
            annotations["causedBy"] = "sequence"
        if target.binding is not None:
            annotations["binding"] = target.binding
        record = records.make(
            activation_id=activation_id,
            namespace=caller.user.name,
            subject=caller.user.name,
            name=target.action.name,
            version=target.action.doc["version"],
            start=start,
            end=records.now_ms(),
            duration=steps.duration,
            response=response,
            logs=steps.logs,
            annotations=records.as_pairs(annotations),
            cause=cause,
        )
        return self._keep(accepted, record)

    def _part(
        self,
        caller: Caller,
        target: Resolved,
        payload: Any,
        cause: str,
        depth: int,
        composition: _Composition | None = None,
    ) -> Record:
        composed = _is_composed(target)
        accepted = self._accept(caller, target, composed, cause)
        if composed:
            return self._composed(caller, target, payload, accepted, composition, depth + 1)
        return self._single(caller, target, payload, accepted).result()

    def _in_turn(
        self,
        caller: Caller,
        target: Resolved,
        payload: Any,
        own_id: str,
        steps: _Steps,
        composition: _Composition | None,
        depth: int,
    ) -> dict[str, Any]:
        """Each component gets the result of the one before; the first failure ends the sequence."""
        # PUT refuses cycles, but a package bound anew can close one later.
        if depth > self._settings.sequence_length:
            return records.response(Status.APPLICATION_ERROR, records.error(_TOO_DEEP))
        response = records.response(Status.SUCCESS, payload)
        for component in target.action.doc["exec"]["components"]:
            try:
                part = resolve.action(self._store, caller.user, *names.split(component, caller.user.name))
            except ApiError:
                return records.response(Status.APPLICATION_ERROR, records.error(_COMPONENT_MISSING))
            record = self._part(caller, part, response["result"], own_id, depth, composition)
            steps.add(record)
            response = record["response"]
            if not response["success"]:
                break
        return response

    def _conduct(
        self,
        caller: Caller,
        target: Resolved,
        payload: Any,
        own_id: str,
        steps: _Steps,
        composition: _Composition,
        depth: int,
    ) -> dict[str, Any]:
        """The conductor says after each step which action comes next, until it names none."""
        state: dict[str, Any] = {}
        while composition.conductors <= 2 * self._settings.sequence_length:
            composition.conductors += 1
            given = {**payload, **state} if isinstance(payload, dict) else payload
            accepted = self._accept(caller, target, False, own_id)
            record = self._single(caller, target, given, accepted).result()
            steps.add(record)
            result = record["response"]["result"]
            if not isinstance(result, dict) or "action" not in result:
                final = result.get("params", result) if isinstance(result, dict) else result
                return records.response(records.status_of(record), _boxed(final, "value", lists=True))
            state = _boxed(result.get("state", {}), "state")
            payload = self._next(caller, result, own_id, steps, composition, depth)
        return records.response(Status.APPLICATION_ERROR, records.error(_COMPOSITION_TOO_LONG))

    def _next(
        self,
        caller: Caller,
        result: dict[str, Any],
        own_id: str,
        steps: _Steps,
        composition: _Composition,
        depth: int,
    ) -> Any:
        """Run what the conductor asks for; its result, or the error that the conductor is told."""
        named = result["action"]
        try:
            namespace, path = _component_name(named, caller.user.name)
        except ApiError:
            return records.error(f"Failed to parse action name from json value {dumps(named)} during composition.")
        if composition.components >= self._settings.sequence_length:
            return records.error(_COMPOSITION_TOO_LONG)
        try:
            resolve.entitle(self._store, caller.user, namespace, path)
        except ApiError:
            name = f"{namespace}/{path}"
            return records.error(f"Failed entitlement check for action with name '{name}' during composition.")
        try:
            part = resolve.action(self._store, caller.user, namespace, path)
        except ApiError:
            return records.error(f"Failed to resolve action with name '{namespace}/{path}' during composition.")
        if not _is_conductor(part):
            composition.components += 1
        params = _boxed(result.get("params", {}), "value")
        record = self._part(caller, part, params, own_id, depth, composition)
        steps.add(record)
        return record["response"]["result"]

    def _keep(self, accepted: Activation, record: Record) -> Record:
        """Make ``record`` that of the activation; where that cannot be, one that says so."""
        failed = records.ended(accepted.doc, _NO_RECORD)
        for given in (record, failed):
            try:
                self._store.add(replace(accepted, doc=given))
            except Exception:
                log.exception("activation %s: its record could not be kept", accepted.id)
            else:
                self._kept(given)
                return given
        raise ApiError(500, _NO_RECORD)


def runnable(target: Resolved, payload: Any) -> Runnable:
    """What the invoker needs to know of an action, and what its environment is if a container is initialized for it."""
    entity = target.action
    doc = entity.doc
    limits = doc["limits"]
    return Runnable(
        namespace=entity.namespace,
        path=entity.path,
        version=doc["version"],
        revision=str(entity.revision),
        kind=doc["exec"]["kind"],
        code=entity.code,
        binary=doc["exec"].get("binary", False),
        main=doc["exec"].get("main") or "main",
        limits=Limits(
            timeout_ms=limits["timeout"],
            memory_mib=limits["memory"],
            logs_mib=limits["logs"],
            concurrency=limits["concurrency"],
        ),
        init_env={key: _text(_merged(target, payload)[key]) for key in _init_keys(target)},
        cpu_millis=content.cpu_millis(doc["annotations"]),
        provide_api_key=bool(content.value_of(doc["annotations"], "provide-api-key", True)),
        image=doc["exec"].get("image"),
    )


def _merged(target: Resolved, payload: Any) -> dict[str, Any]:
    """All parameters, those for init among them; what the caller gives goes before what is bound."""
    given = payload if isinstance(payload, dict) else {}
    return {**{pair["key"]: pair["value"] for pair in target.parameters}, **given}


def _init_keys(target: Resolved) -> set[str]:
    return {pair["key"] for pair in target.parameters if pair.get("init")}


def _arguments(target: Resolved, payload: Any) -> Any:
    if not isinstance(payload, dict):
        return payload
    init = _init_keys(target)
    return {key: value for key, value in _merged(target, payload).items() if key not in init}


def _outcome(done: Future[Outcome], invocation: Invocation) -> Outcome:
    if done.exception() is None:
        return done.result()
    now = records.now_ms()
    # Whether it waited or ran is not known: the time counts as run, as after a kill.
    began = min(invocation.received_ms, now)
    return Outcome(Status.INTERNAL_ERROR, records.error(_CLOSING), began, now, 0, None)


def _is_conductor(target: Resolved) -> bool:
    doc = target.action.doc
    return doc["exec"]["kind"] != runtimes.SEQUENCE and content.truthy(doc["annotations"], "conductor")


def _is_composed(target: Resolved) -> bool:
    return target.action.doc["exec"]["kind"] == runtimes.SEQUENCE or _is_conductor(target)


def _component_name(named: object, own_namespace: str) -> tuple[str, str]:
    """``name``, ``pkg/name``, ``/ns/name`` or ``/ns/pkg/name``, also without the slash, as a conductor may write it."""
    if not isinstance(named, str):
        raise malformed("the name of an action is text")
    relative = not named.startswith("/") and named.rstrip("/").count("/") < 2
    return names.split(f"/_/{named}" if relative else named, own_namespace)


def _boxed(value: Any, key: str, *, lists: bool = False) -> Any:
    return value if isinstance(value, dict) or (lists and isinstance(value, list)) else {key: value}


def _text(value: Any) -> str:
    """A value as it stands in the environment."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value)
