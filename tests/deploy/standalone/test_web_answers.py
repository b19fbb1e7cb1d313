"""What becomes of a web action's result, without a server."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone import media, web_answers
from deploy.standalone.errors import ApiError
from deploy.standalone.model import Status

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
RESULT = JSON | st.fixed_dictionaries(
    {},
    optional={
        "statusCode": st.sampled_from([200, "204", 204.0, 999, 418, True, "x"]) | JSON,
        "headers": st.dictionaries(st.sampled_from(["Content-Type", "X-A", "a b"]), JSON) | JSON,
        "body": st.sampled_from(["", "text", "R0lGODlh"]) | JSON,
        "text": JSON,
    },
)
GIF = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def _record(result: Any, status: Status = Status.SUCCESS) -> dict[str, Any]:
    return {"response": {"result": result, "status": status.text, "success": status is Status.SUCCESS}}


def _answer(extension: str, result: Any, status: Status = Status.SUCCESS) -> tuple[int, str | None, bytes]:
    try:
        response = web_answers.answer(extension, _record(result, status))
    except ApiError as error:
        return error.status, None, b""
    return response.status_code, response.headers.get("Content-Type"), response.get_data()


@pytest.mark.parametrize(
    ("extension", "result", "status", "data"),
    [
        (".text", {"text": "t", "body": "b"}, 200, b"b"),
        (".html", {"html": "h", "body": "b"}, 200, b"b"),
        (".svg", {"svg": "s", "body": "b"}, 200, b"b"),
        (".text", {"text": True}, 200, b"true"),
        (".text", {"text": None}, 200, b"null"),
        (".text", {"text": 7}, 200, b"7"),
        (
            ".text",
            {"text": {"b": [1, {"c": 2}], "a": "é"}},
            200,
            '{\n  "a": "é",\n  "b": [1, {\n    "c": 2\n  }]\n}'.encode(),
        ),
        (".text", {"text": [1, "x"]}, 200, b'[1, "x"]'),
        (".text", [1, 2], 200, b"[1, 2]"),
        (".text", {"other": 1}, 404, b""),
        (".html", {"other": 1}, 400, b""),
        (".html", {"html": 1}, 400, b""),
        (".svg", [], 400, b""),
        (".json", {"a": 1}, 200, b'{"a":1}'),
        (".json", [1], 200, b"[1]"),
        (".http", [1], 400, b""),
    ],
)
def test_extensions_choose_what_is_shown(extension: str, result: Any, status: int, data: bytes) -> None:
    assert _answer(extension, result)[::2] == (status, data)


@pytest.mark.parametrize(
    ("extension", "error", "status", "data"),
    [
        (".http", {"statusCode": 404, "body": "gone"}, 404, b"gone"),
        (".http", "text", 400, b""),
        (".json", {"code": 1}, 200, b'{"code":1}'),
        (".json", [1], 200, b"[1]"),
        (".json", "text", 400, b""),
        (".text", "text", 200, b"text"),
        (".text", {"text": "t"}, 200, b"t"),
        (".html", "<p/>", 200, b"<p/>"),
        (".svg", "<svg/>", 200, b"<svg/>"),
        (".html", 3, 400, b""),
    ],
)
def test_an_error_is_shown_in_place_of_a_result(extension: str, error: Any, status: int, data: bytes) -> None:
    assert _answer(extension, {"error": error}, Status.APPLICATION_ERROR)[::2] == (status, data)


@pytest.mark.parametrize("status", [Status.DEVELOPER_ERROR, Status.INTERNAL_ERROR])
@pytest.mark.parametrize("extension", web_answers.EXTENSIONS)
def test_failures_of_the_action_are_a_400(extension: str, status: Status) -> None:
    assert _answer(extension, {"error": {"statusCode": 200, "body": "x"}}, status)[0] == 400


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (200, 200),
        ("201", 201),
        (418, 418),
        (599, 599),
        (200.0, 200),
        (200.5, 400),
        (299, 400),
        (600, 400),
        (100, 400),
        (True, 400),
        (None, 400),
        ("x", 400),
        ({}, 400),
        (10**30, 400),
    ],
)
def test_only_known_status_codes_are_taken(code: Any, status: int) -> None:
    assert _answer(".http", {"statusCode": code, "body": "b"})[0] == status


@pytest.mark.parametrize("nothing", [{}, {"body": ""}, {"body": None}])
def test_no_body_is_a_204_without_type(nothing: dict[str, Any]) -> None:
    assert _answer(".http", {**nothing, "headers": {"Content-Type": "text/html"}}) == (204, None, b"")
    assert _answer(".http", {**nothing, "statusCode": 200}) == (200, None, b"")


def test_answers_that_may_have_no_body_get_none() -> None:
    assert _answer(".http", {"statusCode": 304, "body": "b"}) == (304, None, b"")


@pytest.mark.parametrize(
    ("given", "body", "content_type", "data"),
    [
        (None, "é", "text/html; charset=UTF-8", "é".encode()),
        ("text/plain", "t", "text/plain; charset=UTF-8", b"t"),
        ("text/plain; charset=iso-8859-1", "é", "text/plain; charset=UTF-8", "é".encode()),
        ("application/xml", "<a/>", "application/xml; charset=UTF-8", b"<a/>"),
        ("application/json", '{"a": 1}', "application/json", b'{"a": 1}'),
        ("application/json", base64.b64encode(b'{"a":1}').decode(), "application/json", b'{"a":1}'),
        ("application/problem+json", '{"a": 1}', "application/problem+json", b'{"a": 1}'),
        ("image/gif", GIF, "image/gif", base64.b64decode(GIF)),
        ("image/svg+xml", base64.b64encode(b"<svg/>").decode(), "image/svg+xml", b"<svg/>"),
        (None, {"a": 1}, "application/json", b'{"a":1}'),
        ("application/json; charset=utf-8", [1], "application/json", b"[1]"),
        ("application/hal+json", {"b": 1, "a": 2}, "application/hal+json", b'{\n  "a": 2,\n  "b": 1\n}'),
        (None, False, "application/json", b"false"),
        (None, 0, "application/json", b"0"),
    ],
)
def test_the_type_decides_how_a_body_is_read(given: str | None, body: Any, content_type: str, data: bytes) -> None:
    headers = {} if given is None else {"content-TYPE": given}
    assert _answer(".http", {"headers": headers, "body": body}) == (200, content_type, data)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/gif", "no base64!"),
        ("image/svg+xml", "<svg/>"),
        ("application/hal+json", '{"a": 1}'),
        ("text/html", {"a": 1}),
        ("image/gif", [1]),
        ("nonsense", "b"),
        ("nonsense", {"a": 1}),
    ],
)
def test_a_body_that_does_not_fit_its_type_is_a_400(content_type: str, body: Any) -> None:
    assert _answer(".http", {"headers": {"Content-Type": content_type}, "body": body})[0] == 400


def test_headers_may_have_many_values_of_any_plain_type() -> None:
    headers = {"Set-Cookie": ["a=1", ["b=2"]], "X-N": 1, "X-B": True, "Content-Length": 5}
    response = web_answers.answer(".http", _record({"headers": headers, "body": "b"}))
    assert response.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert (response.headers["X-N"], response.headers["X-B"]) == ("1", "true")
    assert response.headers.get("Content-Length") == "1"


@pytest.mark.parametrize("name", ["Service-Worker-Allowed", "service-worker-allowed"])
def test_no_script_of_an_action_gets_to_stand_in_front_of_the_page(name: str) -> None:
    headers = {name: "/", "Content-Type": "text/javascript"}
    response = web_answers.answer(".http", _record({"headers": headers, "body": "b"}))
    assert response.get_data() == b"b"
    assert name not in response.headers


@pytest.mark.parametrize("extension", [".text", ".http"])
def test_a_result_too_deep_for_people_is_a_400(extension: str) -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    headers = {"Content-Type": "application/hal+json"}
    assert _answer(extension, {"headers": headers, "body": value})[0] == 400


@pytest.mark.parametrize("headers", [None, 3, [], {"a": None}, {"a": {"b": 1}}, {"a b": "c"}, {"a": "b\r\nc"}])
def test_headers_that_are_none_are_a_400(headers: Any) -> None:
    assert _answer(".http", {"headers": headers, "body": "b"})[0] == 400


@given(RESULT, st.sampled_from(list(web_answers.EXTENSIONS)), st.sampled_from(Status))
def test_any_result_is_an_answer_or_the_actions_fault(result: Any, extension: str, status: Status) -> None:
    code, _, data = _answer(extension, result, status)
    assert code in web_answers._STATUSES
    assert isinstance(data, bytes)


@given(st.text(max_size=60) | st.from_regex(r"[a-z]+/[a-z+]+(; ?charset=[a-z0-9-]+)?", fullmatch=True))
def test_any_content_type_is_survived(content_type: str) -> None:
    normal = media.normalized(content_type)
    assert media.normalized(normal) == normal
    assert media.is_text(content_type) in (True, False)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("Text/Plain;charset=utf-8", "text/plain; charset=UTF-8"),
        ("application/json; charset=utf-8", "application/json"),
        ("multipart/form-data;boundary=Ab", "multipart/form-data; boundary=Ab"),
    ],
)
def test_types_of_requests_are_told_in_one_form(given: str, normal: str) -> None:
    assert media.normalized(given) == normal
