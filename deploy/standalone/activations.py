"""`/namespaces/{ns}/activations`."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from deploy.standalone import names, records
from deploy.standalone.errors import ApiError, Rejection, bad_query
from deploy.standalone.rest import answer, answer_after, flag, integer, own_namespace, page_bounds, platform
from deploy.standalone.store import Page

blueprint = Blueprint("activations", __name__)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
# As far as SQLite's integers go.
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_FRESH_S = 0.1


@blueprint.get("/namespaces/<namespace>/activations")
@blueprint.get("/namespaces/<namespace>/activations/")
def list_all(namespace: str) -> Response:
    own = own_namespace(namespace)
    limit, skip = page_bounds()
    with_docs, count = flag("docs"), flag("count")
    since, upto = integer("since", _EARLIEST, _LATEST), integer("upto", _EARLIEST, _LATEST)
    page = Page(_name(), since, upto, limit, min(skip, _LATEST - limit))
    if count and with_docs:
        raise ApiError(400, "The parameters 'docs' and 'count' cannot be used together.")
    store = platform().store

    def shown() -> Response:
        if count:
            return answer({"activations": max(0, store.count_activations(own, page) - skip)})
        found = [activation.doc for activation in store.activations(own, page)]
        return answer(found if with_docs else [records.summary(record) for record in found])

    # A client that calls an action and lists what ran expects to see it; OpenWhisk's own list takes longer than the
    # call. So whatever has just started gets a moment to end.
    fresh = platform().invocations.started_within(own, _FRESH_S)
    return answer_after(fresh, _FRESH_S, shown) if fresh else shown()


@blueprint.get("/namespaces/<namespace>/activations/<activation_id>")
@blueprint.get("/namespaces/<namespace>/activations/<activation_id>/")
def get(namespace: str, activation_id: str) -> Response:
    return answer(_record(namespace, activation_id))


@blueprint.get("/namespaces/<namespace>/activations/<activation_id>/logs")
def logs(namespace: str, activation_id: str) -> Response:
    return answer({"logs": _record(namespace, activation_id)["logs"]})


@blueprint.get("/namespaces/<namespace>/activations/<activation_id>/result")
def result(namespace: str, activation_id: str) -> Response:
    return answer(_record(namespace, activation_id)["response"])


def _record(namespace: str, activation_id: str) -> records.Record:
    if len(activation_id) != 32:
        raise Rejection(400, f"Activation id length is {len(activation_id)} but must be 32.")
    if not _ID.fullmatch(activation_id):
        raise Rejection(400, "The activation id is not valid.")
    own = own_namespace(namespace, activation_id)
    return platform().store.activation(own, activation_id).doc


def _name() -> str | None:
    """``name`` or ``package/name``; a blank name asks for all."""
    value = request.args.get("name", "")
    if not value.strip():
        return None
    parts = [part for part in value.split("/") if part]
    if not 1 <= len(parts) <= 2 or not all(names.valid(part) for part in parts):
        raise bad_query("name", f"'{value[:80]}' is neither a name nor package/name")
    return "/".join(parts)
