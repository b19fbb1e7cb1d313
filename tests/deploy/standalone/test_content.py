"""Whatever a client sends as the body of a PUT is either taken or refused as its mistake."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone import content, jsontext, names
from deploy.standalone.auth import User, Users
from deploy.standalone.errors import ApiError
from deploy.standalone.settings import Settings

SETTINGS = Settings()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("parameters", "annotations", "limits", "exec", "version", "publish")
EXEC = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["python:3.11", "python:default", "blackbox", "sequence", "x"]) | JSON,
        "code": st.text() | JSON,
        "image": st.text() | JSON,
        "main": JSON,
        "binary": JSON,
        "components": st.lists(st.text()) | JSON,
    },
)
LIMITS = st.dictionaries(st.sampled_from(["timeout", "memory", "logs", "concurrency", "instances", "gpu"]), JSON)
BODY = st.fixed_dictionaries({}, optional={**dict.fromkeys(FIELDS, JSON), "exec": EXEC | JSON, "limits": LIMITS | JSON})


@given(BODY)
def test_any_body_is_taken_or_refused(body: dict[str, Any]) -> None:
    try:
        content.version(body)
        content.publish(body)
        content.pairs(body, "parameters", SETTINGS)
        annotations = content.pairs(body, "annotations", SETTINGS) or []
        content.check_resources(annotations)
        content.truthy(annotations, "final")
        limits = content.limits(body, {"memory": 256}, SETTINGS)
        content.executable(body, "guest", SETTINGS)
    except ApiError as error:
        assert error.status in (400, 413)
        assert error.message
    else:
        assert all(isinstance(value, int) for value in limits.values())


@given(st.text(max_size=300))
def test_valid_names_survive_being_referenced(name: str) -> None:
    if names.valid(name):
        for path in (name, f"pkg/{name}"):
            assert names.dereference(names.reference("guest", path)) == ("guest", path)
            assert names.split(f"/_/{path}", "guest") == ("guest", path)
    else:
        with pytest.raises(ApiError):
            names.check(name)


@given(st.binary(min_size=1))
def test_base64_is_binary_and_its_text_may_be_trimmed(data: bytes) -> None:
    assert content.is_binary(base64.b64encode(data).decode() + "\n")


@pytest.mark.parametrize("value", [7, "500", [1], True, {"cpu": "500"}, {"cpu": 0}, {"gpu": -1}, {"tpu": True}, {"cpu": None}])
def test_resources_that_are_no_amounts(value: object) -> None:
    with pytest.raises(ApiError, match="'resources'") as refusal:
        content.check_resources([{"key": "resources", "value": value}])
    assert refusal.value.status == 400


@pytest.mark.parametrize("value", [None, {}, {"cpu": 250, "gpu": 0, "gpuMemory": 4096, "tpu": 0.5}])
def test_resources_that_are_amounts(value: object) -> None:
    content.check_resources([{"key": "resources", "value": value}])
    content.check_resources([])


@pytest.mark.parametrize("code", ["", "x", "def main(args):\n    return {}\n", "été!"])
def test_source_is_not_binary(code: str) -> None:
    assert not content.is_binary(code)


@given(JSON)
def test_json_comes_back_as_it_was(value: object) -> None:
    try:
        data = jsontext.dumps(value).encode()
    except UnicodeEncodeError:
        return
    assert jsontext.loads(data) == value


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_nests_only_as_deep_as_it_can_be_read_anywhere(opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return opening * levels + b"0" + closing * levels

    assert jsontext.dumps(jsontext.loads(nested(jsontext.MOST_LEVELS))).encode() == nested(jsontext.MOST_LEVELS)
    for levels in (jsontext.MOST_LEVELS + 1, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            jsontext.loads(nested(levels))
    assert jsontext.loads(b'"' + b"[" * 1000 + b'"') == "[" * 1000
    assert jsontext.loads(b"[[]" + b",[]" * 1000 + b"]") == [[]] * 1001


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000])
def test_numbers_beyond_all_bounds_are_told_in_words_for_users(number: bytes) -> None:
    with pytest.raises(ValueError, match="^a number is too large$"):
        jsontext.loads(b"[" + number + b"]")


def test_later_annotations_win_in_the_place_of_the_first() -> None:
    first = [{"key": "a", "value": 1}, {"key": "b", "value": 2}]
    assert content.merge(first, [{"key": "a", "value": 3}]) == [{"key": "a", "value": 3}, {"key": "b", "value": 2}]


@pytest.mark.parametrize("text", ["", "bob", "bob=", "bob=u", "bob=u:short", "b/b=u:" + "x" * 64, "_=u:" + "x" * 64])
def test_users_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        User.parse(text)


@given(st.text(max_size=100))
def test_any_authorization_header_is_survived(header: str) -> None:
    assert Users((User("guest", "u", "k" * 64),)).find(header) is None


def test_keys_do_not_show() -> None:
    assert "k" * 64 not in repr(User("guest", "u", "k" * 64))
