"""`/namespaces/{ns}/rules`: from a trigger to an action. Whether a rule is active is kept at its trigger."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from deploy.standalone import content, names, resolve
from deploy.standalone.errors import ApiError, exists, malformed
from deploy.standalone.rest import (
    answer,
    flag,
    json_body,
    own_namespace,
    page,
    page_bounds,
    platform,
    text_answer,
    user,
)
from deploy.standalone.store import Entity, Store, Transaction

blueprint = Blueprint("rules", __name__)
ACTIVE, INACTIVE = "active", "inactive"


def _listed(rule: Entity) -> dict[str, Any]:
    return rule.doc


def _id(rule: Entity) -> str:
    return f"{rule.namespace}/{rule.path}"


def _status(reader: Store | Transaction, rule: Entity) -> str:
    trigger = _trigger(reader, rule)
    link = trigger.doc.get("rules", {}).get(_id(rule)) if trigger else None
    return link["status"] if link else INACTIVE


def _trigger(reader: Store | Transaction, rule: Entity) -> Entity | None:
    try:
        return reader.get("triggers", *names.dereference(rule.doc["trigger"]))
    except ApiError:
        return None


@blueprint.get("/namespaces/<namespace>/rules")
@blueprint.get("/namespaces/<namespace>/rules/")
def list_all(namespace: str) -> Response:
    page_bounds()
    return page("rules", platform().store.listing("rules", own_namespace(namespace)), _listed)


@blueprint.get("/namespaces/<namespace>/rules/<name>")
def get(namespace: str, name: str) -> Response:
    path = names.check(name)
    store = platform().store
    rule = store.get("rules", own_namespace(namespace, path), path)
    return answer({**rule.doc, "status": _status(store, rule)})


@blueprint.put("/namespaces/<namespace>/rules/<name>")
def put(namespace: str, name: str) -> Response:
    path = names.check(name)
    own, overwrite = own_namespace(namespace, path), flag("overwrite")
    settings = platform().settings
    body = json_body(allowed=4 * settings.max_parameter_bytes)
    version, publish = content.version(body), content.publish(body)
    annotations = content.pairs(body, "annotations", settings)
    trigger, action = _named(body, "trigger", own), _named(body, "action", own)
    if trigger is not None:
        own_namespace(trigger[0], trigger[1])
    if action is not None:
        resolve.entitle(platform().store, user(), *action)
    with platform().store.transaction() as transaction:
        old = transaction.find("rules", own, path)
        if old is not None and not overwrite:
            raise exists()
        if old is not None:
            trigger = trigger or names.dereference(old.doc["trigger"])
            action = action or names.dereference(old.doc["action"])
        if trigger is None or action is None:
            raise ApiError(400, "A rule needs a 'trigger' and an 'action'.")
        _check_ends(transaction, trigger, action)
        status = _status(transaction, old) if old else ACTIVE
        kept = old.doc if old else {"annotations": [], "publish": False}
        doc = {
            "action": names.reference(*action),
            "annotations": kept["annotations"] if annotations is None else annotations,
            "name": path,
            "namespace": own,
            "publish": kept["publish"] if publish is None else publish,
            "trigger": names.reference(*trigger),
            "version": version or (content.bump(old.doc["version"]) if old else "0.0.1"),
        }
        if old is not None:
            _unlink(transaction, old)
        new = transaction.put(Entity("rules", own, path, doc))
        _link(transaction, new, status)
    return answer({**new.doc, "status": status})


@blueprint.post("/namespaces/<namespace>/rules/<name>")
def switch(namespace: str, name: str) -> Response:
    path = names.check(name)
    own = own_namespace(namespace, path)
    status = json_body(allowed=platform().settings.max_parameter_bytes).get("status")
    if status not in (ACTIVE, INACTIVE):
        raise malformed(f"'status' of a rule is {ACTIVE} or {INACTIVE}")
    with platform().store.transaction() as transaction:
        rule = transaction.get("rules", own, path)
        if status != _status(transaction, rule):
            if _trigger(transaction, rule) is None:
                raise ApiError(404, "Only rules with existing triggers can be activated.")
            _link(transaction, rule, status)
    return text_answer("OK")


@blueprint.delete("/namespaces/<namespace>/rules/<name>")
def delete(namespace: str, name: str) -> Response:
    path = names.check(name)
    with platform().store.transaction() as transaction:
        rule = transaction.get("rules", own_namespace(namespace, path), path)
        _unlink(transaction, rule)
        transaction.delete(rule)
    return answer({**rule.doc, "status": INACTIVE})


def _named(body: dict[str, Any], field: str, own: str) -> tuple[str, str] | None:
    return None if body.get(field) is None else names.split(body[field], own)


def _check_ends(transaction: Transaction, trigger: tuple[str, str], action: tuple[str, str]) -> None:
    try:
        transaction.get("triggers", *trigger)
    except ApiError:
        raise ApiError(400, f"The trigger /{'/'.join(trigger)} does not exist.") from None
    try:
        resolve.action(platform().store, user(), *action)
    except ApiError:
        raise ApiError(400, f"The action /{'/'.join(action)} does not exist.") from None


def _link(transaction: Transaction, rule: Entity, status: str) -> None:
    trigger = _trigger(transaction, rule)
    if trigger is not None:
        links = {**trigger.doc.get("rules", {}), _id(rule): {"action": rule.doc["action"], "status": status}}
        transaction.put(trigger.with_doc(rules=links), touch=False)


def _unlink(transaction: Transaction, rule: Entity) -> None:
    trigger = _trigger(transaction, rule)
    if trigger is not None and _id(rule) in trigger.doc.get("rules", {}):
        links = {key: link for key, link in trigger.doc["rules"].items() if key != _id(rule)}
        transaction.put(trigger.with_doc(rules=links), touch=False)
