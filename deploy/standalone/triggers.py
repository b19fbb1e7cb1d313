"""`/namespaces/{ns}/triggers`: what rules hang on. A trigger keeps its rules, and whether each is active."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, request

from deploy.standalone import content, names, records, resolve
from deploy.standalone.errors import ApiError, exists, malformed
from deploy.standalone.invocations import Caller
from deploy.standalone.jsontext import dumps
from deploy.standalone.model import Status
from deploy.standalone.rest import (
    answer,
    flag,
    json_body,
    no_content,
    own_namespace,
    page,
    page_bounds,
    platform,
    transaction_id,
    user,
)
from deploy.standalone.store import Activation, Entity

blueprint = Blueprint("triggers", __name__)


def _listed(trigger: Entity) -> dict[str, Any]:
    fields = ("name", "updated", "namespace", "publish", "annotations", "version")
    return {field: trigger.doc[field] for field in fields}


@blueprint.get("/namespaces/<namespace>/triggers")
@blueprint.get("/namespaces/<namespace>/triggers/")
def list_all(namespace: str) -> Response:
    page_bounds()
    return page("triggers", platform().store.listing("triggers", own_namespace(namespace)), _listed)


@blueprint.get("/namespaces/<namespace>/triggers/<name>")
def get(namespace: str, name: str) -> Response:
    path = names.check(name)
    return answer(platform().store.get("triggers", own_namespace(namespace, path), path).doc)


@blueprint.put("/namespaces/<namespace>/triggers/<name>")
def put(namespace: str, name: str) -> Response:
    path = names.check(name)
    own, overwrite = own_namespace(namespace, path), flag("overwrite")
    settings = platform().settings
    body = json_body(allowed=4 * settings.max_parameter_bytes)
    version, publish = content.version(body), content.publish(body)
    given = {
        "annotations": content.pairs(body, "annotations", settings),
        "parameters": content.pairs(body, "parameters", settings),
        "publish": publish,
    }
    if not isinstance(body.get("limits"), dict | None):
        raise malformed("'limits' is an object")
    with platform().store.transaction() as transaction:
        old = transaction.find("triggers", own, path)
        if old is not None and not overwrite:
            raise exists()
        if old is None:
            _check_feed(given["annotations"] or [])
        kept = old.doc if old else {"annotations": [], "parameters": [], "publish": False, "limits": {}}
        doc = {
            **kept,
            **{field: value for field, value in given.items() if value is not None},
            "name": path,
            "namespace": own,
            "version": version or (content.bump(old.doc["version"]) if old else "0.0.1"),
        }
        new = transaction.put(Entity("triggers", own, path, doc))
    return answer(new.doc)


@blueprint.delete("/namespaces/<namespace>/triggers/<name>")
def delete(namespace: str, name: str) -> Response:
    path = names.check(name)
    with platform().store.transaction() as transaction:
        old = transaction.get("triggers", own_namespace(namespace, path), path)
        transaction.delete(old)
    return answer(old.doc)


@blueprint.post("/namespaces/<namespace>/triggers/<name>")
def fire(namespace: str, name: str) -> Response:
    path = names.check(name)
    platform().fire_rate.check(user().name)
    own = own_namespace(namespace, path)
    payload = json_body(allowed=platform().settings.max_parameter_bytes, optional=True)
    trigger = platform().store.get("triggers", own, path)
    rules = trigger.doc.get("rules", {})
    if not any(rule["status"] == "active" for rule in rules.values()):
        return no_content()
    start, received_ns = records.now_ms(), time.time_ns()
    activation_id = records.new_id()
    arguments = {
        **{pair["key"]: pair["value"] for pair in trigger.doc["parameters"]},
        **payload,
        "__ow_headers": {key.lower(): value for key, value in request.headers},
    }
    accepted = records.make(
        activation_id=activation_id,
        namespace=own,
        subject=own,
        name=path,
        version=trigger.doc["version"],
        start=start,
        response=records.killed(),
        logs=[],
        annotations=[],
    )
    platform().store.accept(Activation(own, path, received_ns, accepted))
    record = {
        **accepted,
        "response": records.response(Status.SUCCESS, payload),
        "logs": [dumps(_activate(rule, link, arguments)) for rule, link in rules.items()],
    }
    platform().store.add(Activation(own, path, received_ns, record))
    return answer({"activationId": activation_id}, 202, {"X-Openwhisk-Activation-Id": activation_id})


def _check_feed(annotations: content.Pairs) -> None:
    """The annotation ``feed`` of a new trigger names an action; OpenWhisk looks only whether it could."""
    if not content.has(annotations, "feed"):
        return
    feed = content.value_of(annotations, "feed")
    parts = [part for part in feed.split("/") if part] if isinstance(feed, str) else []
    if not parts or not all(names.valid(part) for part in parts):
        raise ApiError(400, "The annotation 'feed' is not the name of an action, as /namespace/package/name.")


def _activate(rule: str, link: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Start the action of one rule; the line about it in the trigger's logs."""
    action = f"{link['action']['path']}/{link['action']['name']}"
    if link["status"] != "active":
        return _failed(rule, action, f"Rule '{rule}' is inactive, action '{action}' was not activated.")
    try:
        platform().invocation_rate.check(user().name)
        target = resolve.action(platform().store, user(), *names.dereference(link["action"]))
        resolve.admit(platform().store, user(), target, arguments)
        started = platform().start(Caller(user(), transaction_id()), target, arguments)
    except ApiError as error:
        return _failed(rule, action, error.message, Status.INTERNAL_ERROR if error.status >= 500 else None)
    return {
        "statusCode": int(Status.SUCCESS),
        "success": True,
        "activationId": started.activation_id,
        "rule": rule,
        "action": action,
    }


def _failed(rule: str, action: str, error: str, status: Status | None = None) -> dict[str, Any]:
    return {
        "statusCode": int(status or Status.APPLICATION_ERROR),
        "success": False,
        "rule": rule,
        "error": error,
        "action": action,
    }
