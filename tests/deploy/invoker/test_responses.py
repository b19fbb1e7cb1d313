"""What answers mean; statuses and results as a running OpenWhisk gave them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.responses import MAX_RESULT, died, of_init, of_run, timed_out
from deploy.standalone.model import Status


def response(value: Any, status: int = 200) -> Response:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Response(status, body[:MAX_RESULT], len(body), True)


@pytest.mark.parametrize("value", [{}, {"a": 1}, [], [1, "two"], ["\ud800"]])
def test_objects_and_arrays_are_results(value: Any) -> None:
    verdict = of_run(response(value))
    assert (verdict.status, verdict.result, verdict.destroys) == (Status.SUCCESS, value, False)
    assert verdict.size == len(json.dumps(value))


@pytest.mark.parametrize("error", ["no", {"statusCode": 418}, None])
def test_an_error_in_the_result_is_the_applications(error: Any) -> None:
    verdict = of_run(response({"error": error, "other": 1}))
    assert (verdict.status, verdict.result, verdict.destroys) == (Status.APPLICATION_ERROR, {"error": error}, False)


@pytest.mark.parametrize("body", [b"null", b"5", b'"text"', b"{bad", b"", b"[" * 100_000, b"[" * 950 + b"]" * 950, b"[NaN]", b"[1e999]"])
def test_anything_else_is_the_developers(body: bytes) -> None:
    verdict = of_run(response(body))
    assert (verdict.status, verdict.destroys) == (Status.DEVELOPER_ERROR, True)
    assert verdict.result["error"].startswith("The action did not produce a valid JSON response")


def test_the_runtimes_own_words_are_passed_on() -> None:
    verdict = of_run(response({"error": "command exited"}, 400))
    assert (verdict.status, verdict.result, verdict.size) == (Status.DEVELOPER_ERROR, {"error": "command exited"}, 27)
    verdict = of_init(response({"error": "Cannot start action."}, 502))
    assert (verdict.status, verdict.result) == (Status.DEVELOPER_ERROR, {"error": "Cannot start action."})
    assert of_init(response(b"busy", 500)).result == {"error": "The action failed during initialization: busy"}
    assert of_init(response(b"", 500)).result == {"error": "The action failed during initialization."}
    assert of_init(response({"ok": True})) is None


def test_a_full_disk_is_the_platforms_error() -> None:
    verdict = of_init(response({"error": "No space left."}, 507))
    assert (verdict.status, verdict.result) == (Status.INTERNAL_ERROR, {"error": "No space left."})


def test_a_result_beyond_a_megabyte_is_an_error_that_shows_its_beginning() -> None:
    verdict = of_run(response(b'{"blob": "' + b"x" * 1_100_000 + b'"}\n'))
    assert (verdict.status, verdict.size, verdict.destroys) == (Status.APPLICATION_ERROR, 1_100_013, False)
    prefix = (
        "The action produced a response that exceeded the allowed length: 1100013 > 1048576 bytes. "
        'The truncated response was: {"blob": "'
    )
    assert verdict.result["error"] == prefix + "x" * 1_048_566


def test_no_answer_at_all() -> None:
    assert timed_out(500, False).result == {"error": "The action exceeded its time limits of 500 milliseconds."}
    assert "during initialization" in timed_out(500, True).result["error"]
    assert died(False, True).result == {"error": "The action exhausted its memory and was aborted."}
    assert died(False, False).result == {"error": "The action did not produce a valid response and exited unexpectedly."}
    assert died(True, False).result == {"error": "The action did not initialize and exited unexpectedly."}
    assert died(False, False).size is None
