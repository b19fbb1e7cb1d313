"""Actions through HTTP: what a PUT makes of its body, what an update keeps, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

ECHO = "def main(args):\n    return args\n"
PYTHON = {"kind": "python:3.11", "code": ECHO}
NODE = "function main(args) { return args; }"
DEFAULTS = {"timeout": 60_000, "memory": 256, "logs": 10, "concurrency": 1}


def _pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _put(guest: Any, name: str, **body: Any) -> Any:
    return guest.ns("PUT", f"actions/{name}?overwrite=true", body)


def _as_dict(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in pairs}


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("python:3.11", "python:3.11"),
        ("python:default", "python:3.11"),
        (" Python:3.11 ", "python:3.11"),
        ("nodejs:default", "nodejs:20"),
        ("nodejs:20", "nodejs:20"),
        ("nodejs:18", "nodejs:18"),
    ],
)
def test_kinds(guest: Any, kind: str, kept: str) -> None:
    created = _put(guest, "kind", exec={"kind": kind, "code": NODE}).json()
    assert created["exec"] == {"kind": kept, "code": NODE, "binary": False}
    assert _as_dict(created["annotations"])["exec"] == kept


@pytest.mark.parametrize(
    "executable",
    [
        {},
        {"kind": None, "code": ECHO},
        {"kind": "python", "code": ECHO},
        {"kind": "python:2", "code": ECHO},
        {"kind": "nodejs:14", "code": NODE},
        {"kind": "python:3.11"},
        {"kind": "python:3.11", "code": None},
        {"kind": "python:3.11", "code": {}},
        {"kind": "python:3.11", "code": ECHO, "main": None},
        {"kind": "python:3.11", "code": ECHO, "main": 1},
        {"kind": "blackbox"},
        {"kind": "blackbox", "image": None},
        {"kind": "blackbox", "image": ""},
        {"kind": "blackbox", "image": "Owl/Image"},
        {"kind": "blackbox", "image": "a b"},
        {"kind": "blackbox", "image": "-a"},
        {"kind": "blackbox", "image": "a", "code": 1},
        {"kind": "blackbox", "image": "a", "code": None},
        {"kind": "sequence"},
        {"kind": "sequence", "components": "x"},
        {"kind": "sequence", "components": ["x"]},
        {"kind": "sequence", "components": [1]},
        "python:3.11",
        [],
    ],
)
def test_what_cannot_be_executed_is_a_400(guest: Any, executable: Any) -> None:
    assert _put(guest, "bad", exec=executable).status_code == 400
    assert guest.ns("GET", "actions/bad").status_code == 404


@pytest.mark.parametrize(
    "image", ["i", "p/i", "p/q/i:t", "docker.io/p/i", "localhost:5000/i:1.0_x", "a__b/c-d.e:V1", "i@sha256:" + "a" * 64]
)
def test_images_of_all_forms(guest: Any, image: str) -> None:
    created = _put(guest, "image", exec={"kind": "blackbox", "image": image, "code": " "}).json()
    assert created["exec"] == {"kind": "blackbox", "image": image, "binary": False}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("1", "1.0.0"),
        ("1.2", "1.2.0"),
        ("1.2.3", "1.2.3"),
        ("01.2.3", "1.2.3"),
        ("1.2.3.4", "1.2.3"),
        ("1.2.", "1.2.0"),
    ],
)
def test_versions_of_few_parts(guest: Any, given: str, kept: str) -> None:
    assert _put(guest, "version", exec=PYTHON, version=given).json()["version"] == kept
    assert _put(guest, "version").json()["version"] == f"{kept[:-1]}{int(kept[-1]) + 1}"


@pytest.mark.parametrize(
    "field",
    [
        {"version": ""},
        {"version": "0.0.0"},
        {"version": "1..2"},
        {"version": "1.-2"},
        {"version": 1},
        {"publish": "yes"},
        {"parameters": [{"key": "a"}]},
        {"parameters": [{"value": 1}]},
        {"parameters": [1]},
        {"parameters": [{"key": "a", "value": 1, "init": "yes"}]},
        {"parameters": [{"key": "a", "value": 1, "init": None}]},
        {"parameters": {"a": 1}},
        {"annotations": [{"key": 1, "value": 1}]},
        {"limits": "x"},
        {"limits": []},
        {"limits": {"memory": "256"}},
        {"limits": {"memory": 256.5}},
        {"limits": {"timeout": True}},
        {"delAnnotations": "x"},
        {"delAnnotations": [1]},
    ],
)
def test_fields_of_the_wrong_form_are_a_400_and_change_nothing(guest: Any, field: dict[str, Any]) -> None:
    before = _put(guest, "formed", exec=PYTHON).json()
    reply = _put(guest, "formed", **field)
    assert reply.status_code == 400
    assert reply.json()["error"]
    assert guest.ns("GET", "actions/formed").json() == before


@pytest.mark.parametrize(
    "field", ["version", "publish", "parameters", "annotations", "limits", "exec", "delAnnotations"]
)
def test_null_stands_for_nothing_given(guest: Any, field: str) -> None:
    before = _put(guest, "nulled", exec=PYTHON, parameters=_pairs(a=1), publish=True).json()
    after = _put(guest, "nulled", **{field: None}).json()
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"version", "updated"}


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"memory": 128}, 200),
        ({"memory": 512.0}, 200),
        ({"memory": 127}, 400),
        ({"memory": 513}, 400),
        ({"timeout": 100}, 200),
        ({"timeout": 99}, 400),
        ({"timeout": 300_001}, 400),
        ({"logs": 0}, 200),
        ({"logs": 11}, 400),
        ({"logs": -1}, 400),
        ({"concurrency": 1}, 200),
        ({"concurrency": 2}, 400),
        ({"concurrency": 0}, 400),
        ({"instances": 0}, 200),
        ({"instances": 300}, 200),
        ({"instances": 301}, 400),
        ({"gpu": 4, "memory": None}, 200),
    ],
)
def test_limits(guest: Any, limits: dict[str, Any], status: int) -> None:
    reply = _put(guest, "limited", exec=PYTHON, limits=limits)
    assert reply.status_code == status
    if status == 200:
        known = {name: value for name, value in limits.items() if name != "gpu" and value is not None}
        assert reply.json()["limits"] == {**DEFAULTS, **known}
        guest.ns("DELETE", "actions/limited")


def test_update_lays_annotations_over_those_there_are(guest: Any) -> None:
    _put(guest, "noted", exec=PYTHON, annotations=_pairs(a=1, b=2, c=3))
    changed = _put(guest, "noted", annotations=_pairs(b=4), delAnnotations=["a", "b", "none"]).json()
    assert _as_dict(changed["annotations"]) == {"b": 4, "c": 3, "provide-api-key": False, "exec": "python:3.11"}


def test_new_actions_have_nothing_to_remove(guest: Any) -> None:
    created = guest.ns("PUT", "actions/fresh", {"exec": PYTHON, "delAnnotations": ["provide-api-key"]}).json()
    assert _as_dict(created["annotations"])["provide-api-key"] is False


def test_annotations_that_the_server_owns_cannot_be_set(guest: Any) -> None:
    created = _put(guest, "owned", exec=PYTHON, annotations=_pairs(exec="cobol")).json()
    assert _as_dict(created["annotations"])["exec"] == "python:3.11"


def test_the_last_of_parameters_with_one_name_counts(guest: Any) -> None:
    given = [*_pairs(a=1, b=2), *_pairs(a=3), {"key": "", "value": 4, "init": False}]
    created = _put(guest, "repeated", exec=PYTHON, parameters=given).json()
    assert _as_dict(created["parameters"]) == {"a": 3, "b": 2, "": 4}


def test_update_replaces_parameters_as_a_whole(guest: Any) -> None:
    _put(guest, "bound", exec=PYTHON, parameters=_pairs(a=1, b=2))
    assert _put(guest, "bound", parameters=_pairs(c=3)).json()["parameters"] == _pairs(c=3)
    assert _put(guest, "bound", exec=PYTHON).json()["parameters"] == _pairs(c=3)


def test_an_action_may_become_a_sequence_and_one_again(guest: Any) -> None:
    _put(guest, "part", exec=PYTHON)
    _put(guest, "changing", exec=PYTHON, parameters=_pairs(a=1), annotations=_pairs(x=1))
    sequence = {"kind": "sequence", "components": ["/_/part"]}
    changed = _put(guest, "changing", exec=sequence, parameters=_pairs(b=2), delAnnotations=["x"]).json()
    assert changed["parameters"] == _pairs(_actions=["/guest/part"])
    assert _as_dict(changed["annotations"]) == {"x": 1, "provide-api-key": False, "exec": "sequence"}
    assert _put(guest, "changing", parameters=_pairs(b=2)).json()["parameters"] == changed["parameters"]
    assert _put(guest, "changing", exec=PYTHON).json()["parameters"] == []


def test_code_is_shown_unless_it_is_not_asked_for(guest: Any) -> None:
    _put(guest, "shown", exec={**PYTHON, "main": "other"})
    assert guest.ns("GET", "actions/shown").json()["exec"] == {**PYTHON, "main": "other", "binary": False}
    bare = guest.ns("GET", "actions/shown?code=false").json()["exec"]
    assert bare == {"kind": "python:3.11", "main": "other", "binary": False}
    assert guest.ns("GET", "actions/shown?code=maybe").status_code == 400
    assert guest.ns("GET", "actions/shown?code=").json()["exec"]["code"] == ECHO


def test_an_empty_main_is_kept_and_means_main(guest: Any) -> None:
    _put(guest, "empty-main", exec={**PYTHON, "main": ""})
    assert guest.ns("GET", "actions/empty-main").json()["exec"]["main"] == ""
    reply = guest.ns("POST", "actions/empty-main?blocking=true&result=true", {"a": 1})
    assert (reply.status_code, reply.json()) == (200, {"a": 1})


@pytest.mark.parametrize(("flag", "status"), [("", 409), ("false", 409), ("0", 409), ("TRUE", 200), ("x", 400)])
def test_overwrite(guest: Any, flag: str, status: int) -> None:
    _put(guest, "there", exec=PYTHON)
    assert guest.ns("PUT", f"actions/there?overwrite={flag}", {"exec": PYTHON}).status_code == status


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 200),
        ("limit=200", 200),
        ("limit=201", 400),
        ("limit=-1", 400),
        ("limit=", 400),
        ("limit=1_0", 400),
        ("limit=1.5", 400),
        ("skip=2147483647", 200),
        ("skip=2147483648", 400),
        ("skip=-1", 400),
        ("count=x", 400),
        ("count=true&skip=1", 200),
    ],
)
def test_bounds_of_lists(guest: Any, query: str, status: int) -> None:
    for collection in ("actions", "packages", "triggers", "rules", "activations"):
        assert guest.ns("GET", f"{collection}?{query}").status_code == status


def test_lists_show_packaged_actions_without_code(guest: Any) -> None:
    guest.ns("PUT", "packages/listed?overwrite=true", {})
    _put(guest, "listed/one", exec=PYTHON)
    newest = guest.ns("GET", "actions?limit=1").json()[0]
    assert (newest["namespace"], newest["name"], newest["exec"]) == ("guest/listed", "one", {"binary": False})
    assert set(newest) == {"annotations", "exec", "limits", "name", "namespace", "publish", "updated", "version"}
    assert [action["name"] for action in guest.ns("GET", "actions/listed/").json()] == ["one"]
    assert guest.ns("GET", "actions/listed/?count=true").json() == {"actions": 1}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "none/actions", 403),
        ("GET", "a$b/actions", 400),
        ("GET", "a$b/packages", 400),
        ("GET", "a$b/limits", 400),
        ("GET", "_/limits/", 200),
        ("GET", "_/limits/memory", 400),
        ("GET", "_/actions/", 200),
        ("GET", "_/actions/none/", 404),
        ("GET", "_/actions/none/none", 404),
        ("GET", "_/actions/a/b/c", 404),
        ("PUT", "_/actions/", 404),
        ("POST", "_/actions", 404),
        ("PATCH", "_/actions/x", 404),
        ("HEAD", "_/actions", 404),
        ("GET", "_/nothing", 404),
        ("GET", "_/packages/x/", 404),
        ("GET", "_/apis", 404),
    ],
)
def test_routes(guest: Any, method: str, path: str, status: int) -> None:
    assert guest(method, f"/api/v1/namespaces/{path}").status_code == status


@pytest.mark.parametrize("path", ["alice/actions/x", "whisk.system/actions/x", "none/actions/x", "alice/triggers/x"])
def test_default_packages_of_others_are_private(guest: Any, path: str) -> None:
    for method, body in (("GET", None), ("PUT", {"exec": PYTHON}), ("POST", {}), ("DELETE", None)):
        assert guest(method, f"/api/v1/namespaces/{path}", body).status_code == 403


def test_without_an_api_gateway_its_actions_are_not_there(guest: Any) -> None:
    # What `wsk api` asks for; nobody is told which packages others have.
    assert guest("GET", "/api/v1/web/whisk.system/apimgmt/getApi.http").status_code == 404
    assert guest("GET", "/api/v1/namespaces/whisk.system/actions/apimgmt/getApi").status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [("timeout=1", 202), ("timeout=60000", 200), ("timeout=60001", 400), ("timeout=0", 400), ("timeout=", 400)],
)
def test_how_long_a_caller_waits(guest: Any, query: str, status: int) -> None:
    code = "import time\n\ndef main(args):\n    time.sleep(0.05)\n    return {}\n"
    _put(guest, "short", exec={"kind": "python:3.11", "code": code})
    assert guest.ns("POST", f"actions/short?blocking=true&{query}", {}).status_code == status


@pytest.mark.parametrize(
    ("content_type", "data", "status"),
    [
        ("application/json", b"", 200),
        ("application/json", b"{}", 200),
        ("application/json; charset=utf-8", '{"é": 1}'.encode(), 200),
        (None, b"", 200),
        ("text/plain", b"", 415),
        ("application/x-www-form-urlencoded", b"", 415),
        (None, b"{}", 415),
        ("text/plain", b"{}", 415),
        ("application/json", b"null", 400),
        ("application/json", b"1", 400),
    ],
)
def test_payloads(guest: Any, content_type: str | None, data: bytes, status: int) -> None:
    _put(guest, "echo", exec=PYTHON)
    headers = {"Content-Type": content_type} if content_type else {}
    assert guest.ns("POST", "actions/echo?blocking=true", data=data, headers=headers).status_code == status


def test_init_parameters_are_in_the_environment_and_nowhere_else(guest: Any) -> None:
    code = "import os\n\ndef main(args):\n    return {**args, 'env': [os.environ.get(key) for key in 'abcd']}\n"
    init = [{"key": key, "value": value, "init": True} for key, value in {"a": 1, "b": None, "c": {"x": True}}.items()]
    _put(guest, "environed", exec={"kind": "python:3.11", "code": code}, parameters=[*init, *_pairs(z=1)])
    reply = guest.invoke("environed", {"c": "mine", "d": 4}, "&result=true")
    assert reply.json() == {"env": ["1", "", "mine", None], "z": 1, "d": 4}
