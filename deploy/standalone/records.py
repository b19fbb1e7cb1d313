"""Activation records: how they are made, listed and answered."""

from __future__ import annotations

import os
import time
from typing import Any

from deploy.standalone.model import Invocation, Outcome, Status

_STATUS = {status.text: status for status in Status}
_SUMMARY = (
    "activationId",
    "annotations",
    "cause",
    "duration",
    "end",
    "name",
    "namespace",
    "publish",
    "start",
    "version",
)
_KILLED = "The server was stopped before the action finished (it was killed or the machine went down)."

Record = dict[str, Any]


def new_id() -> str:
    return os.urandom(16).hex()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def error(message: str) -> dict[str, Any]:
    return {"error": message}


def response(status: Status, result: Any, size: int | None = None) -> dict[str, Any]:
    body = {"result": result, "status": status.text, "success": status is Status.SUCCESS}
    return body if size is None else {**body, "size": size}


def killed() -> dict[str, Any]:
    """The response of what was accepted and did not get to its end."""
    return response(Status.INTERNAL_ERROR, error(_KILLED))


def status_of(record: Record) -> Status:
    return _STATUS[record["response"]["status"]]


def make(
    *,
    activation_id: str,
    namespace: str,
    subject: str,
    name: str,
    version: str,
    start: int,
    response: dict[str, Any],
    logs: list[str],
    annotations: list[dict[str, Any]],
    end: int | None = None,
    duration: int | None = None,
    cause: str | None = None,
) -> Record:
    """A record; a trigger's has neither ``end`` nor ``duration``."""
    record = {
        "activationId": activation_id,
        "annotations": annotations,
        "logs": logs,
        "name": name,
        "namespace": namespace,
        "publish": False,
        "response": response,
        "start": start,
        "subject": subject,
        "version": version,
    }
    if end is not None:
        record["end"] = end
        record["duration"] = end - start if duration is None else duration
    if cause is not None:
        record["cause"] = cause
    return record


def unfinished(
    *,
    activation_id: str,
    namespace: str,
    name: str,
    version: str,
    start: int,
    annotations: dict[str, Any],
    cause: str | None = None,
) -> Record:
    """The record of an action that was accepted, as it stays if the server is killed before the action ends."""
    if cause is not None:
        annotations["causedBy"] = "sequence"
    return make(
        activation_id=activation_id,
        namespace=namespace,
        subject=namespace,
        name=name,
        version=version,
        start=start,
        end=start,
        response=killed(),
        logs=[],
        annotations=as_pairs(annotations),
        cause=cause,
    )


def ended(record: Record, message: str) -> Record:
    """An ``unfinished`` record that is final, now and with this error."""
    end = max(record["start"], now_ms())
    return {
        **record,
        "end": end,
        "duration": end - record["start"],
        "response": response(Status.INTERNAL_ERROR, error(message)),
    }


def of_action(
    invocation: Invocation, limits: dict[str, int], outcome: Outcome, *, cause: str | None, binding: str | None
) -> Record:
    """The record of one run of an action, with the annotations OpenWhisk gives it."""
    action = invocation.action
    annotations: dict[str, Any] = {
        "path": action.fqn[1:],
        "waitTime": outcome.wait_ms,
        "kind": action.kind,
        "timeout": outcome.timed_out,
        "limits": limits,
    }
    if outcome.init_ms is not None:
        annotations["initTime"] = outcome.init_ms
    if cause is not None:
        annotations["causedBy"] = "sequence"
    if binding is not None:
        annotations["binding"] = binding
    return make(
        activation_id=invocation.activation_id,
        namespace=invocation.namespace,
        subject=invocation.namespace,
        name=action.path.rpartition("/")[2],
        version=action.version,
        start=outcome.start_ms,
        end=outcome.end_ms,
        response=response(outcome.status, outcome.result, outcome.size),
        logs=outcome.logs,
        annotations=as_pairs(annotations),
        cause=cause,
    )


def as_pairs(annotations: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in annotations.items()]


def summary(record: Record) -> Record:
    """What a list shows of a record."""
    shown = {key: record[key] for key in _SUMMARY if key in record}
    return {**shown, "statusCode": int(status_of(record))}
