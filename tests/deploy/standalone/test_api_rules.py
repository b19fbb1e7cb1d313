"""Triggers and rules through HTTP: how they hang together, also when one of them goes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest


def _pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _rule(guest: Any, name: str, trigger: Any = None, action: Any = None, **body: Any) -> Any:
    ends = {key: value for key, value in (("trigger", trigger), ("action", action)) if value is not None}
    return guest.ns("PUT", f"rules/{name}?overwrite=true", {**ends, **body})


def _status(guest: Any, name: str) -> str:
    return guest.ns("GET", f"rules/{name}").json()["status"]


def _log(guest: Any, trigger: str) -> list[dict[str, Any]]:
    fired = guest.ns("POST", f"triggers/{trigger}", {})
    assert fired.status_code == 202
    until = time.monotonic() + 10
    path = f"activations/{fired.json()['activationId']}"
    while (reply := guest.ns("GET", path)).status_code == 404 and time.monotonic() < until:
        time.sleep(0.02)
    return [json.loads(line) for line in reply.json()["logs"]]


@pytest.fixture
def tick(guest: Any) -> str:
    guest.put_action("target")
    guest.ns("DELETE", "triggers/tick")
    assert guest.ns("PUT", "triggers/tick", {}).status_code == 200
    return "tick"


@pytest.mark.parametrize(
    ("feed", "status"),
    [
        ("/ns/pkg/feed", 200),
        ("feed", 200),
        ("a/b/c/d", 200),
        ("", 400),
        ("/", 400),
        ("a b$", 400),
        (1, 400),
        (None, 400),
    ],
)
def test_feeds_of_new_triggers_must_be_names(guest: Any, feed: Any, status: int) -> None:
    guest.ns("DELETE", "triggers/fed")
    assert guest.ns("PUT", "triggers/fed", {"annotations": _pairs(feed=feed)}).status_code == status


def test_trigger_updates_keep_their_rules(guest: Any, tick: str) -> None:
    _rule(guest, "keeps", "/_/tick", "/_/target")
    body = {"parameters": _pairs(a=1), "annotations": _pairs(x=1), "publish": True, "limits": {"x": 1}}
    changed = guest.ns("PUT", "triggers/tick?overwrite=true", body).json()
    assert changed["rules"] == {"guest/keeps": {"action": {"name": "target", "path": "guest"}, "status": "active"}}
    assert (changed["limits"], changed["version"], changed["publish"]) == ({}, "0.0.2", True)
    kept = guest.ns("PUT", "triggers/tick?overwrite=true", {}).json()
    assert (kept["parameters"], kept["annotations"], kept["publish"]) == (_pairs(a=1), _pairs(x=1), True)
    assert guest.ns("PUT", "triggers/tick?overwrite=true", {"limits": "x"}).status_code == 400


@pytest.mark.parametrize(
    "value", ["/_/tick", "_/tick", "/guest/tick", {"path": "guest", "name": "tick"}, {"path": "_", "name": "tick"}]
)
def test_ends_of_rules_may_be_named_in_many_ways(guest: Any, tick: str, value: Any) -> None:
    created = _rule(guest, "named", value, "/_/target").json()
    assert created["trigger"] == {"path": "guest", "name": "tick"}


@pytest.mark.parametrize(
    ("trigger", "action", "status"),
    [
        ("/_/none", "/_/target", 400),
        ("/_/target", "/_/target", 400),
        ("/_/tick", "/_/none", 400),
        ("/_/tick", "/_/tick", 400),
        ("/_/tick", "/_/none/target", 404),
        ("/_/tick", "/_/target/target", 409),
        ("/alice/tick", "/_/target", 403),
        ("/_/tick", "/alice/target", 403),
        ("/_/tick", "/alice/pkg/target", 403),
        ("/_/tick", None, 400),
        ("tick", "/_/target", 400),
        (1, "/_/target", 400),
        ({"name": "tick"}, "/_/target", 400),
    ],
)
def test_ends_of_rules_that_cannot_be(guest: Any, tick: str, trigger: Any, action: Any, status: int) -> None:
    assert _rule(guest, "impossible", trigger, action).status_code == status
    assert guest.ns("GET", "rules/impossible").status_code == 404


def test_rule_updates_keep_what_they_do_not_name(guest: Any, tick: str) -> None:
    guest.put_action("target2")
    _rule(guest, "updated", "/_/tick", "/_/target", annotations=_pairs(a=1))
    guest.ns("POST", "rules/updated", {"status": "inactive"})
    changed = _rule(guest, "updated", action="/_/target2").json()
    assert (changed["action"]["name"], changed["trigger"]["name"]) == ("target2", "tick")
    assert (changed["status"], changed["annotations"], changed["version"]) == ("inactive", _pairs(a=1), "0.0.2")


def test_a_rule_moves_from_trigger_to_trigger(guest: Any, tick: str) -> None:
    guest.ns("PUT", "triggers/tock?overwrite=true", {})
    _rule(guest, "moves", "/_/tick", "/_/target")
    assert _rule(guest, "moves", trigger="/_/tock").json()["status"] == "active"
    assert guest.ns("GET", "triggers/tick").json()["rules"] == {}
    assert list(guest.ns("GET", "triggers/tock").json()["rules"]) == ["guest/moves"]


def test_switching_a_rule(guest: Any, tick: str) -> None:
    _rule(guest, "switched", "/_/tick", "/_/target")
    for status in ("inactive", "inactive", "active", "active"):
        reply = guest.ns("POST", "rules/switched", {"status": status})
        assert (reply.status_code, reply.text) == (200, "OK")
        assert _status(guest, "switched") == status
    for body in ({}, {"status": "on"}, {"status": None}, {"status": 1}, []):
        assert guest.ns("POST", "rules/switched", body).status_code == 400
    assert guest.ns("POST", "rules/none", {"status": "active"}).status_code == 404


def test_a_rule_outlives_its_trigger(guest: Any, tick: str) -> None:
    _rule(guest, "outlives", "/_/tick", "/_/target")
    guest.ns("DELETE", "triggers/tick")
    assert _status(guest, "outlives") == "inactive"
    assert guest.ns("POST", "rules/outlives", {"status": "inactive"}).status_code == 200
    assert guest.ns("POST", "rules/outlives", {"status": "active"}).status_code == 404
    assert _rule(guest, "outlives", annotations=_pairs(a=1)).status_code == 400
    guest.ns("PUT", "triggers/tick", {})
    assert guest.ns("POST", "rules/outlives", {"status": "inactive"}).status_code == 200
    assert "rules" not in guest.ns("GET", "triggers/tick").json()
    assert guest.ns("POST", "rules/outlives", {"status": "active"}).status_code == 200
    assert _status(guest, "outlives") == "active"
    assert guest.ns("DELETE", "rules/outlives").json()["status"] == "inactive"
    assert guest.ns("GET", "triggers/tick").json()["rules"] == {}


def test_a_trigger_tells_what_became_of_each_rule(guest: Any, tick: str) -> None:
    guest.ns("PUT", "packages/box?overwrite=true", {})
    for name in ("lost", "box/gone"):
        guest.put_action(name)
    for name, action in (("on", "target"), ("off", "target"), ("broken", "lost"), ("emptied", "box/gone")):
        _rule(guest, name, "/_/tick", f"/_/{action}")
    guest.ns("POST", "rules/off", {"status": "inactive"})
    guest.ns("DELETE", "actions/lost")
    guest.ns("DELETE", "packages/box?force=true")
    log = {entry.pop("rule").partition("/")[2]: entry for entry in _log(guest, "tick")}
    assert log["on"].pop("activationId")
    assert log["on"] == {"statusCode": 0, "success": True, "action": "guest/target"}
    missing = "The requested resource does not exist."
    assert log["broken"] == {"statusCode": 1, "success": False, "error": missing, "action": "guest/lost"}
    assert log["emptied"] == {"statusCode": 1, "success": False, "error": missing, "action": "guest/box/gone"}
    off = "Rule 'guest/off' is inactive, action 'guest/target' was not activated."
    assert log["off"] == {"statusCode": 1, "success": False, "error": off, "action": "guest/target"}


def test_a_rule_does_not_set_what_a_final_action_has_fixed(guest: Any, tick: str) -> None:
    guest.put_action("fixed", parameters=_pairs(colour="blue"), annotations=_pairs(final=True))
    assert _rule(guest, "firm", "/_/tick", "/_/fixed").status_code == 200
    (free,) = _log(guest, "tick")
    assert free["success"] and free["statusCode"] == 0
    assert guest.ns("PUT", "triggers/tick?overwrite=true", {"parameters": _pairs(colour="red")}).status_code == 200
    (refused,) = _log(guest, "tick")
    assert not refused["success"] and refused["statusCode"] == 1 and "activationId" not in refused
    assert "not allowed" in refused["error"]


def test_a_trigger_without_active_rule_leaves_no_record(guest: Any, tick: str) -> None:
    reply = guest.ns("POST", "triggers/tick", {"a": 1})
    assert (reply.status_code, reply.content) == (204, b"")
    assert "X-Openwhisk-Activation-Id" not in reply.headers
    for data in (b"[]", b'"s"', b"{"):
        headers = {"Content-Type": "application/json"}
        assert guest.ns("POST", "triggers/tick", data=data, headers=headers).status_code == 400


def test_a_rule_may_start_a_sequence_or_a_bound_action(guest: Any, tick: str) -> None:
    guest.ns("PUT", "packages/base?overwrite=true", {})
    guest.put_action("base/echo")
    bind = {"binding": {"namespace": "_", "name": "base"}}
    guest.ns("PUT", "packages/link?overwrite=true", bind)
    guest.ns("PUT", "actions/line?overwrite=true", {"exec": {"kind": "sequence", "components": ["/_/link/echo"]}})
    _rule(guest, "one", "/_/tick", "/_/link/echo")
    _rule(guest, "two", "/_/tick", "/_/line")
    assert [entry["success"] for entry in _log(guest, "tick")] == [True, True]


def test_lists_of_rules_show_no_status(guest: Any, tick: str) -> None:
    _rule(guest, "listed", "/_/tick", "/_/target")
    newest = guest.ns("GET", "rules?limit=1").json()[0]
    fields = {"action", "annotations", "name", "namespace", "publish", "trigger", "updated", "version"}
    assert (newest["name"], set(newest)) == ("listed", fields)
