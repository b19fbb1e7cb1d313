"""Web actions through HTTP: who may call them, what they are given, which headers come back."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

WEB = "/api/v1/web/guest"
VIEW = """
def main(args):
    args.pop('__ow_headers', None)
    return {'body': args}
"""
HEADERS = """
def main(args):
    return {'body': args['__ow_headers']}
"""
ORIGIN, METHODS = "Access-Control-Allow-Origin", "Access-Control-Allow-Methods"


def _pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key.replace("_", "-"), "value": value} for key, value in values.items()]


@pytest.fixture(scope="module", autouse=True)
def _actions(guest: Any) -> None:
    guest.put_action("view", VIEW, annotations=_pairs(web_export=True))
    guest.put_action("raw", VIEW, annotations=_pairs(web_export=True, raw_http=True))
    guest.put_action("headers", HEADERS, annotations=_pairs(web_export=True))
    guest.put_action("own", VIEW, annotations=_pairs(web_export=True, web_custom_options=True))
    refuse = "def main(args):\n    return {'error': {'statusCode': 403, 'body': 'no'}}\n"
    guest.put_action("refuses", refuse, annotations=_pairs(web_export=True))
    guest.put_action("fixed", VIEW, annotations=_pairs(web_export=True, final=True), parameters=_pairs(a=1, b=None))


@pytest.mark.parametrize("value", ["yes", 1, False, None, "true"])
def test_only_true_exports_an_action(guest: Any, nobody: Any, value: Any) -> None:
    guest.put_action("hidden", VIEW, annotations=_pairs(web_export=value))
    reply = nobody("GET", f"{WEB}/default/hidden")
    assert reply.status_code == 404
    assert ORIGIN not in reply.headers


@pytest.mark.parametrize(
    ("required", "header", "anonymous", "authenticated"),
    [
        (True, None, 401, 200),
        (False, None, 200, 200),
        ("s3cret", "s3cret", 200, 200),
        ("s3cret", "S3cret", 401, 401),
        ("s3cret", None, 401, 401),
        (1234, "1234", 200, 200),
        (1234, "123", 401, 401),
        ("", None, 401, 401),
        (None, None, 401, 401),
        ({}, None, 401, 401),
    ],
)
def test_required_authentication(
    guest: Any, nobody: Any, required: Any, header: str | None, anonymous: int, authenticated: int
) -> None:
    guest.put_action("secured", VIEW, annotations=_pairs(web_export=True, require_whisk_auth=required))
    headers = {"X-Require-Whisk-Auth": header} if header is not None else {}
    path = f"{WEB}/default/secured.json"
    assert nobody("GET", path, headers=headers).status_code == anonymous
    assert guest("GET", path, headers=headers).status_code == authenticated


def test_wrong_keys_are_those_of_nobody(server: Any, client: Any, nobody: Any) -> None:
    wrong = client(server.url)
    wrong.session.auth = ("nobody", "wrong")
    assert "__ow_user" not in wrong("GET", f"{WEB}/default/view").json()


@pytest.mark.parametrize(
    ("path", "query", "seen"),
    [
        ("", "", ""),
        ("/", "", "/"),
        ("/a/b", "?x=1", "/a/b"),
        ("/a//b/", "", "/a//b/"),
        ("/a%20b/%C3%A9", "", "/a%20b/%C3%A9"),
        ("/a%2Fb", "", "/a%2Fb"),
        ("/x.html", "", "/x.html"),
    ],
)
def test_the_rest_of_the_path_is_given_encoded(nobody: Any, path: str, query: str, seen: str) -> None:
    assert nobody("GET", f"{WEB}/default/view{path}{query}").json()["__ow_path"] == seen


def test_the_address_may_be_sent_whole(server: Any) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.putrequest("GET", f"{server.url}{WEB}/default/view/a//b?x=1")
    connection.endheaders()
    arguments = json.loads(connection.getresponse().read())
    connection.close()
    assert (arguments["__ow_path"], arguments["x"]) == ("/a//b", "1")


@pytest.mark.parametrize(
    ("content_type", "data", "given"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/hal+json", b'{"a": 1}', {"a": 1}),
        ("application/json", b"[1]", {"__ow_body": [1]}),
        ("application/json", b"null", {"__ow_body": None}),
        ("application/json", b'"s"', {"__ow_body": "s"}),
        ("application/json", b"", {}),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y&a=2", {"a": "2", "b": "x y"}),
        ("application/x-www-form-urlencoded", b"", {}),
        ("text/plain", "é".encode(), {"__ow_body": "é"}),
        ("text/plain", b"", {"__ow_body": ""}),
        ("application/xml", b"<a/>", {"__ow_body": "<a/>"}),
        ("image/svg+xml", b"<svg/>", {"__ow_body": base64.b64encode(b"<svg/>").decode()}),
        ("multipart/form-data; boundary=x", b"--x--", {"__ow_body": base64.b64encode(b"--x--").decode()}),
        (None, b"\x00\x01", {"__ow_body": "AAE="}),
        (None, b"", {}),
    ],
)
def test_bodies_are_read_by_their_type(nobody: Any, content_type: str | None, data: bytes, given: Any) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    arguments = nobody("POST", f"{WEB}/default/view", data=data, headers=headers).json()
    assert arguments == {**given, "__ow_method": "post", "__ow_path": ""}


@pytest.mark.parametrize(
    ("content_type", "data", "body"),
    [
        ("application/json", b'{"a": 1}', base64.b64encode(b'{"a": 1}').decode()),
        ("application/problem+json", b'{"a": 1}', '{"a": 1}'),
        ("application/hal+json", b"{}", base64.b64encode(b"{}").decode()),
        ("application/x-www-form-urlencoded", b"a=1", "a=1"),
        ("text/csv", b"a,b", "a,b"),
        (None, b"", ""),
    ],
)
def test_raw_actions_get_bodies_as_they_are(nobody: Any, content_type: str | None, data: bytes, body: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert nobody("POST", f"{WEB}/default/raw", data=data, headers=headers).json()["__ow_body"] == body


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("a=1&b=%20x%26", "a=1&b=+x%26"),
        ("flag", "flag"),
        ("flag=", "flag="),
        ("u=http://h/p?x", "u=http://h/p?x"),
        ("__ow_method=evil", "__ow_method=evil"),
        ("", ""),
    ],
)
def test_raw_actions_get_the_query_as_text(nobody: Any, query: str, seen: str) -> None:
    arguments = nobody("GET", f"{WEB}/default/raw?{query}").json()
    assert (arguments["__ow_query"], arguments["__ow_method"]) == (seen, "get")


@pytest.mark.parametrize("name", ["method", "headers", "path", "user", "query", "body"])
def test_reserved_names_cannot_be_given(nobody: Any, name: str) -> None:
    path = f"{WEB}/default/view"
    for reply in (nobody("GET", f"{path}?__ow_{name}=x"), nobody("POST", path, {f"__ow_{name}": 1})):
        assert (reply.status_code, reply.headers[ORIGIN]) == (400, "*")


def test_final_parameters_with_a_value_cannot_be_given(nobody: Any) -> None:
    path = f"{WEB}/default/fixed"
    assert nobody("GET", f"{path}?a=2").status_code == 400
    assert nobody("POST", path, {"a": 2}).status_code == 400
    assert nobody("GET", f"{path}?b=2").json()["b"] == "2"


def test_malformed_json_is_refused_without_cors_headers(nobody: Any) -> None:
    headers = {"Content-Type": "application/json"}
    reply = nobody("POST", f"{WEB}/default/view", data=b"{bad", headers=headers)
    assert reply.status_code == 400
    assert ORIGIN not in reply.headers


def test_bodies_over_a_mebibyte_are_refused_before_anything_else(nobody: Any) -> None:
    for name in ("view", "none"):
        reply = nobody("POST", f"{WEB}/default/{name}", data=b"x" * ((1 << 20) + 1))
        assert reply.status_code == 413
        assert ORIGIN not in reply.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_all_methods_reach_the_action(nobody: Any, method: str) -> None:
    reply = nobody(method, f"{WEB}/default/view")
    assert reply.json()["__ow_method"] == method.lower()
    assert reply.headers[METHODS] == "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"


def test_head_is_an_answer_without_body(nobody: Any) -> None:
    reply = nobody("HEAD", f"{WEB}/default/view")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["X-Openwhisk-Activation-Id"]


def test_options_are_answered_for_the_action(nobody: Any) -> None:
    reply = nobody("OPTIONS", f"{WEB}/default/view", headers={"Access-Control-Request-Headers": "x-a, x-b"})
    assert (reply.status_code, reply.content, reply.headers[ORIGIN]) == (200, b"", "*")
    assert reply.headers["Access-Control-Allow-Headers"] == "x-a, x-b"
    assert "X-Openwhisk-Activation-Id" not in reply.headers
    assert nobody("OPTIONS", f"{WEB}/default/none").status_code == 404


def test_an_action_may_answer_options_itself_even_if_it_requires_a_key(guest: Any, nobody: Any) -> None:
    own = _pairs(web_export=True, web_custom_options=True, require_whisk_auth=True)
    guest.put_action("locked", VIEW, annotations=own)
    reply = nobody("OPTIONS", f"{WEB}/default/locked")
    assert reply.json()["__ow_method"] == "options"
    assert ORIGIN not in reply.headers
    assert nobody("GET", f"{WEB}/default/locked").status_code == 401


def test_headers_of_the_action_stand_beside_those_of_the_server(guest: Any, nobody: Any) -> None:
    code = f"def main(args):\n    return {{'headers': {{'{ORIGIN}': 'https://page.example'}}, 'body': 'x'}}\n"
    guest.put_action("cors", code, annotations=_pairs(web_export=True))
    assert nobody("GET", f"{WEB}/default/cors").headers[ORIGIN] == "*, https://page.example"
    guest.put_action("cors", code, annotations=_pairs(web_custom_options=True))
    assert nobody("GET", f"{WEB}/default/cors").headers[ORIGIN] == "https://page.example"


def test_errors_of_the_action_are_answers(nobody: Any) -> None:
    reply = nobody("GET", f"{WEB}/default/refuses")
    assert (reply.status_code, reply.text, reply.headers[ORIGIN]) == (403, "no", "*")
    assert reply.headers["X-Openwhisk-Activation-Id"]
    assert nobody("GET", f"{WEB}/default/refuses.json").json() == {"body": "no", "statusCode": 403}
    assert nobody("GET", f"{WEB}/default/refuses.text").text == "no"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("text/html, */*;q=0.1", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
    ],
)
def test_answers_are_of_a_type_that_the_client_takes(nobody: Any, accept: str, status: int) -> None:
    reply = nobody("GET", f"{WEB}/default/view.json", headers={"Accept": accept})
    assert reply.status_code == status
    assert (ORIGIN in reply.headers) is (status == 200)


def test_request_headers_are_given_in_lower_case(nobody: Any) -> None:
    sent = {"X-Custom": "Abc", "Content-Type": "text/plain;charset=utf-8"}
    seen = nobody("POST", f"{WEB}/default/headers", data=b"x", headers=sent).json()
    assert (seen["x-custom"], seen["content-type"]) == ("Abc", "text/plain; charset=UTF-8")
    assert "content-length" not in seen


def test_web_actions_are_found_in_packages_and_bindings(guest: Any, alice: Any, nobody: Any) -> None:
    guest.ns("PUT", "packages/site?overwrite=true", {"publish": True, "parameters": _pairs(a=1, b=1)})
    guest.put_action("site/view", VIEW, annotations=_pairs(web_export=True))
    bind = {"binding": {"namespace": "guest", "name": "site"}, "parameters": _pairs(b=2)}
    assert alice.ns("PUT", "packages/mysite?overwrite=true", bind).status_code == 200
    assert nobody("GET", f"{WEB}/site/view").json()["b"] == 1
    bound = nobody("GET", "/api/v1/web/alice/mysite/view").json()
    assert (bound["a"], bound["b"]) == (1, 2)
    assert nobody("GET", f"{WEB}/none/view").status_code == 404


@pytest.mark.parametrize("path", ["/guest/default/b$d", "/gu$st/default/view", "/guest/d%20/view"])
def test_names_that_cannot_be_are_no_route(guest: Any, nobody: Any, path: str) -> None:
    assert nobody("GET", f"/api/v1/web{path}").status_code == 401
    assert guest("GET", f"/api/v1/web{path}").status_code == 404


def test_sequences_may_be_web_actions(guest: Any, nobody: Any) -> None:
    body = {"exec": {"kind": "sequence", "components": ["/_/view"]}, "annotations": _pairs(web_export=True)}
    assert guest.ns("PUT", "actions/webseq?overwrite=true", body).status_code == 200
    assert nobody("GET", f"{WEB}/default/webseq?x=1").json()["x"] == "1"
