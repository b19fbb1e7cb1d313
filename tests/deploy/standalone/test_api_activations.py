"""Activations through HTTP: how they are found, counted and shown."""

from __future__ import annotations

import time
from typing import Any

import pytest

SUMMARY = {
    "activationId",
    "annotations",
    "duration",
    "end",
    "name",
    "namespace",
    "publish",
    "start",
    "statusCode",
    "version",
}


@pytest.fixture(scope="module")
def ids(guest: Any) -> list[str]:
    """Activations of ``said``, oldest first, with milliseconds between them."""
    guest.put_action("said", "def main(args):\n    print('hello')\n    return args\n")
    found = []
    for number in range(3):
        found.append(guest.invoke("said", {"n": number}).json()["activationId"])
        time.sleep(0.01)
    return found


def _list(guest: Any, query: str) -> list[str]:
    return [record["activationId"] for record in guest.ns("GET", f"activations?{query}").json()]


def test_names_find_actions_of_packages_and_bindings(guest: Any) -> None:
    guest.ns("PUT", "packages/pkg?overwrite=true", {})
    guest.put_action("pkg/named")
    guest.put_action("named")
    bind = {"binding": {"namespace": "_", "name": "pkg"}}
    guest.ns("PUT", "packages/link?overwrite=true", bind)
    ids = {name: guest.invoke(name).json()["activationId"] for name in ("named", "pkg/named", "link/named")}
    for name, activation_id in ids.items():
        assert _list(guest, f"name={name}") == [activation_id]
    for name in ("/named", "named/", "pkg//named"):
        assert len(_list(guest, f"name={name}")) == 1
    for name in ("default/named", "guest/named", "other"):
        assert _list(guest, f"name={name}") == []


@pytest.mark.parametrize("name", ["a/b/c", "a$", "/", "a/ b", "x" * 257])
def test_names_that_cannot_be(guest: Any, name: str) -> None:
    assert guest.ns("GET", f"activations?name={name}").status_code == 400


@pytest.mark.parametrize("name", ["", "%20"])
def test_a_blank_name_finds_all(guest: Any, ids: list[str], name: str) -> None:
    assert set(ids) <= set(_list(guest, f"name={name}&limit=200"))


def test_since_and_upto_include_their_ends(guest: Any, ids: list[str]) -> None:
    starts = [guest.ns("GET", f"activations/{activation_id}").json()["start"] for activation_id in ids]
    assert _list(guest, f"name=said&since={starts[1]}") == [ids[2], ids[1]]
    assert _list(guest, f"name=said&upto={starts[1]}") == [ids[1], ids[0]]
    assert _list(guest, f"name=said&since={starts[1]}&upto={starts[1]}") == [ids[1]]
    assert _list(guest, f"name=said&since={starts[2] + 1}") == []
    assert _list(guest, "name=said&since=-1") == ids[::-1]
    assert _list(guest, "name=said&upto=-1") == []


@pytest.mark.parametrize("query", ["since=x", "upto=1.5", "since=", "upto=99999999999999999999", "docs=x"])
def test_queries_that_are_malformed(guest: Any, query: str) -> None:
    assert guest.ns("GET", f"activations?{query}").status_code == 400


def test_pages_and_counts(guest: Any, ids: list[str]) -> None:
    assert _list(guest, "name=said&limit=2") == [ids[2], ids[1]]
    assert _list(guest, "name=said&limit=2&skip=2") == [ids[0]]
    assert guest.ns("GET", "activations?name=said&count=true&skip=1").json() == {"activations": 2}
    assert guest.ns("GET", "activations?name=said&count=true&skip=9").json() == {"activations": 0}
    assert guest.ns("GET", "activations?name=said&count=true&docs=false").status_code == 200


def test_lists_show_summaries_or_whole_records(guest: Any, ids: list[str]) -> None:
    (summary,) = guest.ns("GET", "activations?name=said&limit=1").json()
    assert set(summary) == SUMMARY
    assert summary["statusCode"] == 0
    (record,) = guest.ns("GET", "activations?name=said&limit=1&docs=true").json()
    assert set(record) == SUMMARY - {"statusCode"} | {"logs", "response", "subject"}
    assert record == guest.ns("GET", f"activations/{ids[2]}").json()


def test_parts_of_a_record(guest: Any, ids: list[str]) -> None:
    record = guest.ns("GET", f"activations/{ids[0]}/").json()
    assert guest.ns("GET", f"activations/{ids[0]}/logs").json() == {"logs": record["logs"]}
    assert guest.ns("GET", f"activations/{ids[0]}/result").json() == record["response"]
    assert record["response"]["result"] == {"n": 0}
    assert guest.ns("GET", f"activations/{ids[0]}/other").status_code == 404
    assert guest.ns("GET", f"activations/{ids[0]}/logs/").status_code == 404


@pytest.mark.parametrize(
    ("activation_id", "status"),
    [("0" * 32, 404), ("0" * 31, 400), ("0" * 33, 400), ("g" * 32, 400), ("A" * 32, 400), ("x", 400)],
)
def test_identifiers(guest: Any, activation_id: str, status: int) -> None:
    for part in ("", "/logs", "/result"):
        assert guest.ns("GET", f"activations/{activation_id}{part}").status_code == status


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_records_can_only_be_read(guest: Any, ids: list[str], method: str) -> None:
    assert guest.ns(method, f"activations/{ids[0]}").status_code == 404


def test_records_are_their_users(guest: Any, alice: Any, ids: list[str]) -> None:
    assert alice("GET", f"/api/v1/namespaces/guest/activations/{ids[0]}").status_code == 403
    assert alice.ns("GET", f"activations/{ids[0]}").status_code == 404
    assert alice("GET", "/api/v1/namespaces/guest/activations").status_code == 403


@pytest.mark.parametrize(
    ("code", "status", "text", "number"),
    [
        ("return {}", 200, "success", 0),
        ("return {'error': 1}", 502, "application error", 1),
        ("return 3", 502, "action developer error", 2),
        ("import os; os._exit(1)", 502, "action developer error", 2),
    ],
)
def test_how_an_action_ended(guest: Any, code: str, status: int, text: str, number: int) -> None:
    guest.put_action("ends", f"def main(args):\n    {code}\n")
    reply = guest.invoke("ends")
    assert (reply.status_code, reply.json()["response"]["status"]) == (status, text)
    assert reply.json()["response"]["success"] is (number == 0)
    (summary,) = guest.ns("GET", "activations?name=ends&limit=1").json()
    assert summary["statusCode"] == number


def test_a_list_shows_what_was_started_just_before_and_waits_for_nothing_long(guest: Any) -> None:
    guest.put_action("briefly", "import time\ndef main(args):\n    time.sleep(args['s'])\n    return {}\n")
    guest.invoke("briefly", {"s": 0})
    short = guest.ns("POST", "actions/briefly", {"s": 0.02}).json()["activationId"]
    assert short in _list(guest, "name=briefly")
    long = guest.ns("POST", "actions/briefly", {"s": 3}).json()["activationId"]
    assert long not in _list(guest, "name=briefly")
