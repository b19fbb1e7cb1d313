"""Sequences and conductors through HTTP: what they may consist of, and how their parts are called."""

from __future__ import annotations

from typing import Any

import pytest

INC = "def main(args):\n    return {'n': args.get('n', 0) + 1}\n"
FAIL = "def main(args):\n    return {'error': 'no'}\n"
# Does what it is told by the caller, then says what it was given.
CONDUCTOR = """
def main(args):
    if args.get('again'):
        return {'params': args}
    return {'action': args.get('call'), 'params': args.get('with', {}), 'state': args.get('state', {'again': True})}
"""


def _sequence(guest: Any, name: str, *components: Any, **body: Any) -> Any:
    executable = {"kind": "sequence", "components": list(components)}
    return guest.ns("PUT", f"actions/{name}?overwrite=true", {"exec": executable, **body})


@pytest.fixture(scope="module", autouse=True)
def _actions(guest: Any, alice: Any) -> None:
    guest.put_action("inc", INC, limits={"memory": 128})
    guest.put_action("fail", FAIL)
    guest.put_action("conductor", CONDUCTOR, annotations=[{"key": "conductor", "value": True}])
    guest.ns("PUT", "triggers/trigger", {})
    for name, publish in (("open", True), ("closed", False)):
        alice.ns("PUT", f"packages/{name}?overwrite=true", {"publish": publish})
        alice.put_action(f"{name}/inc", INC)


@pytest.mark.parametrize(
    ("components", "status"),
    [
        ([], 400),
        (["/_/none"], 400),
        (["/_/none/inc"], 404),
        (["/_/inc/inc"], 409),
        (["/_/trigger"], 409),
        (["/alice/inc"], 403),
        (["/alice/closed/inc"], 403),
        (["/alice/none/inc"], 403),
        (["/alice/open/none"], 400),
        (["/alice/open/inc"], 200),
        (["inc"], 400),
        (["/_/inc"] * 50, 200),
        (["/_/inc"] * 51, 400),
        ([{"path": "guest", "name": "inc"}], 200),
    ],
)
def test_components(guest: Any, components: list[Any], status: int) -> None:
    assert _sequence(guest, "built", *components).status_code == status


def test_components_of_components_count(guest: Any) -> None:
    assert _sequence(guest, "thirty", *["/_/inc"] * 30).status_code == 200
    assert _sequence(guest, "sixty", "/_/thirty", "/_/thirty").status_code == 400
    assert _sequence(guest, "fifty", "/_/thirty", *["/_/inc"] * 20).status_code == 200


def test_a_sequence_shows_its_components_and_takes_no_parameters(guest: Any) -> None:
    created = _sequence(guest, "shown", "/_/inc", "_/inc", parameters=[{"key": "n", "value": 5}]).json()
    components = ["/guest/inc", "/guest/inc"]
    assert created["exec"] == {"kind": "sequence", "components": components}
    assert created["parameters"] == [{"key": "_actions", "value": components}]
    assert guest.invoke("shown", query="&result=true").json() == {"n": 2}


def test_the_first_error_ends_a_sequence(guest: Any) -> None:
    _sequence(guest, "fails", "/_/inc", "/_/fail", "/_/inc")
    reply = guest.invoke("fails")
    assert reply.status_code == 502
    assert reply.json()["response"]["status"] == "application error"
    assert len(reply.json()["logs"]) == 2


def test_an_error_in_the_payload_ends_nothing(guest: Any) -> None:
    _sequence(guest, "goes", "/_/inc")
    assert guest.invoke("goes", {"error": "mine", "n": 1}, "&result=true").json() == {"n": 2}


def test_components_that_are_gone(guest: Any) -> None:
    guest.ns("PUT", "packages/box?overwrite=true", {})
    for name in ("going", "box/going"):
        guest.put_action(name, INC)
    _sequence(guest, "lost", "/_/inc", "/_/going")
    _sequence(guest, "emptied", "/_/inc", "/_/box/going")
    _sequence(guest, "unstarted", "/_/going")
    guest.ns("DELETE", "actions/going")
    guest.ns("DELETE", "packages/box?force=true")
    for name, parts in (("lost", 1), ("unstarted", 0)):
        reply = guest.invoke(name)
        assert (reply.status_code, reply.json()["response"]["status"]) == (502, "application error")
        assert len(reply.json()["logs"]) == parts
        assert ("limits" in {pair["key"] for pair in reply.json()["annotations"]}) is (parts > 0)
    # OpenWhisk looks at packages before it starts anything.
    assert guest.invoke("emptied").status_code == 404


def test_records_of_sequences_name_cause_and_limits(guest: Any) -> None:
    guest.put_action("big", INC, limits={"memory": 512})
    _sequence(guest, "inner", "/_/inc", "/_/big")
    _sequence(guest, "outer", "/_/inner")
    outer = guest.invoke("outer").json()
    inner = guest.ns("GET", f"activations/{outer['logs'][0]}").json()
    for record, topmost in ((outer, True), (inner, False)):
        annotations = {pair["key"]: pair["value"] for pair in record["annotations"]}
        assert annotations["topmost"] is topmost
        assert annotations["kind"] == "sequence"
        assert annotations["limits"]["memory"] == 512
        assert ("causedBy" in annotations) is not topmost
    assert inner["cause"] == outer["activationId"]
    assert "cause" not in outer
    assert outer["duration"] == inner["duration"]


@pytest.mark.parametrize(
    ("named", "result"),
    [
        ("inc", {"n": 2}),
        ("/_/inc", {"n": 2}),
        ("/guest/inc", {"n": 2}),
        ("alice/open/inc", {"n": 2}),
        ("fail", {"error": "no"}),
        ("none", {"error": "Failed to resolve action with name 'guest/none' during composition."}),
        ("/alice/inc", {"error": "Failed entitlement check for action with name 'alice/inc' during composition."}),
        ("none/inc", {"error": "Failed entitlement check for action with name 'guest/none/inc' during composition."}),
        ("/inc", {"error": 'Failed to parse action name from json value "/inc" during composition.'}),
        ("a/b/c/d", {"error": 'Failed to parse action name from json value "a/b/c/d" during composition.'}),
        ({}, {"error": "Failed to parse action name from json value {} during composition."}),
        (None, {"error": "Failed to parse action name from json value null during composition."}),
    ],
)
def test_a_conductor_names_its_next_action_and_gets_its_result(guest: Any, named: Any, result: dict[str, Any]) -> None:
    reply = guest.invoke("conductor", {"call": named, "with": {"n": 1}}, "&result=true")
    assert (reply.status_code, reply.json()) == (200, {**result, "again": True})


def test_what_is_no_object_is_put_into_one_for_and_by_a_conductor(guest: Any) -> None:
    guest.put_action("echo")
    reply = guest.invoke("conductor", {"call": "echo", "with": 3}, "&result=true")
    assert reply.json() == {"value": 3, "again": True}
    code = "def main(args):\n    return args if 'state' in args else {'action': 'echo', 'state': 7}\n"
    guest.put_action("boxing", code, annotations=[{"key": "conductor", "value": "yes"}])
    assert guest.invoke("boxing", query="&result=true").json() == {"state": 7}


@pytest.mark.parametrize("value", [False, 0, "", None])
def test_a_conductor_that_is_none(guest: Any, value: Any) -> None:
    code = "def main(args):\n    return {'action': 'inc'}\n"
    guest.put_action("plain", code, annotations=[{"key": "conductor", "value": value}])
    assert guest.invoke("plain", query="&result=true").json() == {"action": "inc"}


def test_records_of_compositions(guest: Any) -> None:
    record = guest.invoke("conductor", {"call": "inc"}).json()
    annotations = {pair["key"]: pair["value"] for pair in record["annotations"]}
    assert (annotations["conductor"], annotations["topmost"], annotations["kind"]) == (True, True, "sequence")
    parts = [guest.ns("GET", f"activations/{part}").json() for part in record["logs"]]
    assert [part["name"] for part in parts] == ["conductor", "inc", "conductor"]
    assert {part["cause"] for part in parts} == {record["activationId"]}
    assert record["duration"] == sum(part["duration"] for part in parts)


def test_a_conductor_in_a_sequence_and_a_sequence_in_a_conductor(guest: Any) -> None:
    _sequence(guest, "twice", "/_/inc", "/_/inc")
    reply = guest.invoke("conductor", {"call": "twice", "with": {"n": 1}}, "&result=true")
    assert reply.json() == {"n": 3, "again": True}
    guest.put_action("prepare", "def main(args):\n    return {'call': 'inc', 'with': {'n': 4}}\n")
    _sequence(guest, "led", "/_/prepare", "/_/conductor")
    assert guest.invoke("led", query="&result=true").json() == {"n": 5, "again": True}
