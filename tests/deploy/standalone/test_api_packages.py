"""Packages and bindings through HTTP: who sees what, what an update keeps, what a binding may be bound to."""

from __future__ import annotations

from typing import Any

import pytest

ECHO = "def main(args):\n    return args\n"


def _pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _put(client: Any, name: str, **body: Any) -> Any:
    return client.ns("PUT", f"packages/{name}?overwrite=true", body)


def _bind(client: Any, name: str, package: str, namespace: str = "_", **body: Any) -> Any:
    return _put(client, name, binding={"namespace": namespace, "name": package}, **body)


def test_update_keeps_what_it_does_not_name_and_replaces_the_rest(guest: Any) -> None:
    _put(guest, "kept", parameters=_pairs(a=1), annotations=_pairs(x=1, y=2), publish=True)
    changed = _put(guest, "kept", annotations=_pairs(z=3)).json()
    assert changed["annotations"] == _pairs(z=3)
    assert (changed["parameters"], changed["publish"], changed["version"]) == (_pairs(a=1), True, "0.0.2")


def test_annotation_of_bindings_is_the_servers(guest: Any) -> None:
    plain = _put(guest, "plain", annotations=_pairs(binding="mine", a=1)).json()
    assert plain["annotations"] == _pairs(a=1)
    bound = _bind(guest, "bound", "plain", annotations=_pairs(binding="mine", a=1)).json()
    assert bound["annotations"] == _pairs(a=1, binding={"namespace": "guest", "name": "plain"})


@pytest.mark.parametrize(
    "binding",
    [None, [], "guest/x", {"name": "x"}, {"namespace": "guest"}, {"namespace": "_", "name": "a b$"}, {"a": 1}],
)
def test_bindings_of_the_wrong_form_are_a_400(guest: Any, binding: Any) -> None:
    assert guest.ns("PUT", "packages/malformed", {"binding": binding}).status_code == 400


def test_what_a_binding_may_be_bound_to(guest: Any, alice: Any) -> None:
    _put(guest, "provider", publish=True)
    _put(guest, "secret", publish=False)
    guest.put_action("no-package", ECHO)
    _bind(guest, "first", "provider", publish=True)
    assert _bind(guest, "second", "none").status_code == 400
    assert _bind(guest, "second", "no-package").status_code == 409
    assert _bind(guest, "second", "first").status_code == 400
    assert _bind(guest, "first", "first").status_code == 400
    assert _bind(guest, "provider", "first").status_code == 409
    assert _bind(alice, "theirs", "provider", "guest").status_code == 200
    for hidden in ("secret", "none", "no-package", "first"):
        assert _bind(alice, "theirs", hidden, "guest").status_code == 403


def test_a_binding_can_be_bound_anew(guest: Any) -> None:
    for name in ("old", "new"):
        _put(guest, name)
        guest.put_action(f"{name}/which", f"def main(args):\n    return {{'is': '{name}'}}\n")
    _bind(guest, "turning", "old", parameters=_pairs(a=1))
    moved = _bind(guest, "turning", "new").json()
    assert (moved["binding"]["name"], moved["parameters"]) == ("new", _pairs(a=1))
    assert guest.invoke("turning/which", query="&result=true").json() == {"is": "new"}
    assert _put(guest, "turning", parameters=_pairs(b=2)).json()["binding"]["name"] == "new"


def test_a_binding_whose_package_went_is_lost(guest: Any, alice: Any) -> None:
    _put(guest, "going", publish=True)
    guest.put_action("going/echo")
    _bind(guest, "own", "going")
    _bind(alice, "others", "going", "guest")
    assert alice.invoke("others/echo").status_code == 200
    _put(guest, "going", publish=False)
    assert alice.ns("GET", "packages/others").status_code == 403
    assert alice.invoke("others/echo").status_code == 403
    guest.ns("DELETE", "packages/going?force=true")
    for method, path in (("GET", "packages/own"), ("GET", "actions/own/echo"), ("POST", "actions/own/echo")):
        assert guest.ns(method, path).status_code == 404
    assert guest.ns("DELETE", "packages/own").status_code == 200
    assert alice.ns("DELETE", "packages/others").status_code == 200


def test_published_bindings_are_still_private(guest: Any, alice: Any) -> None:
    _put(guest, "public", publish=True)
    guest.put_action("public/echo")
    _bind(guest, "link", "public", publish=True)
    assert alice("GET", "/api/v1/namespaces/guest/packages/link").status_code == 403
    assert alice("GET", "/api/v1/namespaces/guest/actions/link/").status_code == 403
    names = [package["name"] for package in alice("GET", "/api/v1/namespaces/guest/packages").json()]
    assert "public" in names
    assert "link" not in names
    assert alice("GET", "/api/v1/namespaces/guest/packages?count=true").json() == {"packages": len(names)}


def test_actions_cannot_be_put_into_or_deleted_from_a_binding(guest: Any) -> None:
    _put(guest, "real")
    guest.put_action("real/echo")
    _bind(guest, "unreal", "real")
    body = {"exec": {"kind": "python:3.11", "code": ECHO}}
    assert guest.ns("PUT", "actions/unreal/other", body).status_code == 400
    assert guest.ns("DELETE", "actions/unreal/echo").status_code == 400
    assert guest.ns("GET", "actions/unreal/echo?code=false").json()["binding"] == "guest/unreal"
    assert "binding" not in guest.ns("GET", "actions/unreal/echo").json()
    assert guest.ns("PUT", "actions/none/other", body).status_code == 404
    guest.put_action("no-packet")
    assert guest.ns("PUT", "actions/no-packet/other", body).status_code == 409


def test_feeds_are_told_apart_by_their_annotation(guest: Any) -> None:
    _put(guest, "feeding")
    for name, value in (("f", True), ("g", False), ("h", "")):
        guest.put_action(f"feeding/{name}", annotations=_pairs(feed=value))
    guest.put_action("feeding/a")
    shown = guest.ns("GET", "packages/feeding").json()
    assert [action["name"] for action in shown["actions"]] == ["a"]
    assert {feed["name"] for feed in shown["feeds"]} == {"f", "g", "h"}
    assert set(shown["feeds"][0]) == {"name", "version", "annotations"}


def test_parameters_of_package_and_binding_are_shown_merged(guest: Any) -> None:
    _put(guest, "merged", parameters=_pairs(a=1, b=1))
    _bind(guest, "over", "merged", parameters=_pairs(b=2, c=2))
    shown = guest.ns("GET", "packages/over").json()["parameters"]
    assert {pair["key"]: pair["value"] for pair in shown} == {"a": 1, "b": 2, "c": 2}


def test_a_package_goes_with_its_actions_only_by_force(guest: Any) -> None:
    _put(guest, "full")
    guest.put_action("full/echo")
    assert guest.ns("DELETE", "packages/full").status_code == 409
    assert guest.ns("DELETE", "packages/full?force=x").status_code == 400
    assert guest.ns("DELETE", "packages/full?force=true").status_code == 200
    assert guest.ns("GET", "actions/full/echo").status_code == 404


def test_final_parameters_count_those_of_packages(guest: Any) -> None:
    _put(guest, "fixing", parameters=_pairs(a=1, b=None))
    guest.put_action("fixing/echo", annotations=_pairs(final=True))
    assert guest.invoke("fixing/echo", {"a": 2}).status_code == 400
    assert guest.invoke("fixing/echo", {"b": 2}).status_code == 200
