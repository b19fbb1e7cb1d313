"""What holds for every request: keys, headers, addresses, names."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from deploy.standalone.auth import WELL_KNOWN_USERS

GUEST = WELL_KNOWN_USERS[0]
ALLOWED = "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent"
ORIGIN, METHODS, HEADERS = (f"Access-Control-Allow-{what}" for what in ("Origin", "Methods", "Headers"))


def _basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer abc",
        f"Token {GUEST.api_key}",
        _basic(""),
        _basic("nocolon"),
        _basic("nobody:wrong"),
        _basic(f"{GUEST.uuid}:"),
        _basic(GUEST.api_key[:-1]),
        _basic(GUEST.api_key + "x"),
        _basic(f"{GUEST.uuid}:{WELL_KNOWN_USERS[1].key}"),
    ],
)
def test_requests_without_a_valid_key_are_a_401(nobody: Any, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("namespaces", "namespaces/_/actions", "namespaces/none/packages", "nothing"):
        reply = nobody("GET", f"/api/v1/{path}", headers=headers)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="OpenWhisk secure realm",charset=UTF-8'
        assert reply.json()["code"] == reply.headers["X-Request-ID"]
        assert ORIGIN not in reply.headers


def test_the_scheme_of_the_key_may_be_written_in_any_case(nobody: Any) -> None:
    headers = {"Authorization": _basic(GUEST.api_key).replace("Basic", "bASIC")}
    assert nobody("GET", "/api/v1/namespaces", headers=headers).json() == ["guest"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1", 200),
        ("GET", "/api/v1/", 200),
        ("GET", "/api/v1/namespaces", 200),
        ("GET", "/api/v1/namespaces/", 200),
        ("GET", "/api/v1/namespaces/_", 404),
        ("GET", "/api/v1/namespaces/guest", 404),
        ("POST", "/api/v1/namespaces", 404),
        ("DELETE", "/api/v1/namespaces/_", 404),
        ("HEAD", "/api/v1/namespaces", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 405),
        ("POST", "/ping", 405),
    ],
)
def test_addresses(guest: Any, method: str, path: str, status: int) -> None:
    reply = guest(method, path)
    assert reply.status_code == status
    if status == 405:
        assert reply.headers["Allow"] == "OPTIONS"


def test_answers_about_resources_carry_cors_headers(guest: Any) -> None:
    expected = {ORIGIN: "*", METHODS: "GET, DELETE, POST, PUT, HEAD", HEADERS: ALLOWED}
    for method, path, status in (
        ("GET", "namespaces", 200),
        ("GET", "namespaces/_/actions", 200),
        ("GET", "namespaces/_/actions/none", 404),
        ("GET", "namespaces/alice/actions", 403),
        ("PUT", "namespaces/_/actions/none", 400),
    ):
        reply = guest(method, f"/api/v1/{path}", {} if method == "PUT" else None)
        assert reply.status_code == status
        assert {name: reply.headers.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("GET", "actions?limit=x", None),
        ("GET", "actions/a$b", None),
        ("GET", "activations/x", None),
        ("PUT", "actions/x", b"{"),
        ("PUT", "actions/x", b"[]"),
        ("PATCH", "actions/x", b"{}"),
    ],
)
def test_requests_that_reach_no_resource_get_no_cors_headers(
    guest: Any, method: str, path: str, data: bytes | None
) -> None:
    reply = guest.ns(method, path, data=data, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 404)
    assert ORIGIN not in reply.headers


@pytest.mark.parametrize(
    ("accept", "status"), [("*/*", 200), ("text/html,*/*;q=0.8", 200), ("", 200), ("text/html", 406)]
)
def test_answers_are_json_for_those_who_take_it(guest: Any, accept: str, status: int) -> None:
    for path in ("", "/namespaces", "/namespaces/_/actions"):
        assert guest("GET", f"/api/v1{path}", headers={"Accept": accept}).status_code == status


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api/v1", "/api/v1/namespaces", "/api/v1/namespaces/_/actions/x", "/api/v1/nothing"]
)
def test_options_need_no_key(nobody: Any, path: str) -> None:
    reply = nobody("OPTIONS", path, headers={"Origin": "http://page.example"})
    assert (reply.status_code, reply.text, reply.headers[ORIGIN]) == (200, "OK", "*")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a", 200),
        ("0", 200),
        ("_", 200),
        ("a%20b", 200),
        ("a.b-c_d@e&f", 200),
        ("default", 200),
        ("x" * 256, 200),
        ("x" * 257, 400),
        ("%20a", 400),
        ("a%20", 400),
        ("a%2Fb", 400),
        ("a%0Ab", 400),
        ("a+b", 400),
        ("a:b", 400),
        ("-a", 400),
        (".dot", 400),
        ("%C3%A9", 400),
        ("%D0%B8%D0%BC%D1%8F", 400),
        ("%E5%90%8D", 400),
        ("%FF", 400),
    ],
)
def test_names(guest: Any, name: str, status: int) -> None:
    assert guest.ns("PUT", f"triggers/{name}?overwrite=true", {}).status_code == status
    assert guest.ns("GET", f"triggers/{name}").status_code == status


def test_default_is_no_name_for_a_package_alone(guest: Any) -> None:
    assert guest.ns("PUT", "packages/default", {}).status_code == 400


def test_values_of_all_scripts_come_back(guest: Any) -> None:
    value = {"имя": "名前 🐍", "quote": '"\\\n\t\u0001'}
    created = guest.ns("PUT", "triggers/scripts?overwrite=true", {"parameters": [{"key": "é", "value": value}]}).json()
    assert created["parameters"] == [{"key": "é", "value": value}]
    guest.put_action("scripted")
    assert guest.invoke("scripted", value, "&result=true").json() == value


@pytest.mark.parametrize("collection", ["actions", "packages", "triggers"])
@pytest.mark.parametrize("field", ["parameters", "annotations"])
def test_lists_of_pairs_have_at_most_a_mebibyte(guest: Any, collection: str, field: str) -> None:
    body = {field: [{"key": "k", "value": "x" * (1 << 20)}]}
    if collection == "actions":
        body["exec"] = {"kind": "python:3.11", "code": "x"}  # type: ignore[assignment]
    assert guest.ns("PUT", f"{collection}/heavy", body).status_code == 413
    assert guest.ns("GET", f"{collection}/heavy").status_code == 404


def test_limits_of_the_user(guest: Any, alice: Any) -> None:
    assert guest.ns("GET", "limits").json() == {
        "concurrentInvocations": 300,
        "firesPerMinute": 60_000,
        "invocationsPerMinute": 60_000,
        "maxActionConcurrency": 1,
        "maxActionInstances": 300,
        "maxActionLogs": 10,
        "maxActionMemory": 512,
        "maxActionTimeout": 300_000,
        "maxParameterSize": "1048576 B",
        "minActionConcurrency": 1,
        "minActionLogs": 0,
        "minActionMemory": 128,
        "minActionTimeout": 100,
    }
    assert alice("GET", "/api/v1/namespaces/guest/limits").status_code == 403


@pytest.mark.parametrize("namespace", ["alice", "none"])
def test_of_others_only_public_packages_are_listed(guest: Any, namespace: str) -> None:
    for collection in ("actions", "triggers", "rules", "activations"):
        assert guest("GET", f"/api/v1/namespaces/{namespace}/{collection}").status_code == 403
    assert guest("GET", f"/api/v1/namespaces/{namespace}/packages").json() == []


def test_entities_are_created_listed_and_deleted_alike(guest: Any) -> None:
    common = {"name", "namespace", "version", "publish", "annotations", "updated"}
    guest.put_action("life-action")
    guest.ns("PUT", "triggers/life-trigger", {})
    bodies = {
        "actions": ({"exec": {"kind": "python:3.11", "code": "x"}}, {"exec", "limits"}, {"parameters"}),
        "packages": ({}, {"binding"}, {"parameters"}),
        "triggers": ({}, set(), {"limits", "parameters"}),
        "rules": ({"trigger": "/_/life-trigger", "action": "/_/life-action"}, {"trigger", "action"}, {"status"}),
    }
    for collection, (body, listed, shown) in bodies.items():
        path = f"{collection}/life-{collection}"
        created = guest.ns("PUT", path, body).json()
        assert set(created) == common | listed | shown
        assert (created["version"], created["namespace"], created["publish"]) == ("0.0.1", "guest", False)
        assert guest.ns("PUT", path, body).status_code == 409
        assert set(guest.ns("GET", f"{collection}?limit=1").json()[0]) == common | listed
        extra = {"actions", "feeds"} if collection == "packages" else set()
        assert set(guest.ns("GET", path).json()) == common | listed | shown | extra
        deleted = guest.ns("DELETE", path).json()
        assert deleted == {**created, **({"status": "inactive"} if collection == "rules" else {})}
        for method in ("GET", "DELETE"):
            assert guest.ns(method, path).status_code == 404
        assert guest.ns("PUT", path, body).json()["version"] == "0.0.1"
        guest.ns("DELETE", path)


def test_the_newest_is_listed_first(guest: Any) -> None:
    for name in ("n1", "n2", "n3"):
        guest.ns("PUT", f"triggers/{name}", {})
    guest.ns("PUT", "triggers/n1?overwrite=true", {})
    names = [trigger["name"] for trigger in guest.ns("GET", "triggers?limit=3").json()]
    assert names == ["n1", "n3", "n2"]
