"""Replay against a small HTTP server that answers as the API does."""

from __future__ import annotations

import threading
import time

import pytest
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

from rm_agent.openwhisk import OpenWhisk
from workloads.replay import Request, from_columns, replay, to_columns

ID = "0123456789abcdef0123456789abcdef"


def record(
    action: str, result: dict, *, success: bool = True, status: str = "success", init: int | None = None
) -> dict:
    annotations = [{"key": "waitTime", "value": 3}] + ([{"key": "initTime", "value": init}] if init is not None else [])
    response = {"result": result, "success": success, "status": status}
    return {"activationId": ID, "name": action, "duration": 12, "response": response, "annotations": annotations}


@pytest.fixture
def openwhisk():
    app = Flask(__name__)
    asked: list[str] = []

    @app.post("/api/v1/namespaces/_/actions/<path:name>")
    def invoke(name: str):
        if name == "slow":
            time.sleep(0.4)
        if name == "late":
            return jsonify(activationId=ID), 202
        if name == "full":
            return jsonify(error="Too many requests in the last minute (count: 61, allowed: 60).", code="x"), 429
        if name == "broken":
            return jsonify(record(name, {"error": "no such file"}, success=False, status="application error")), 502
        params = request.get_json()
        return jsonify(
            record(
                name, {"timings": {"ttft_ms": params.get("n", 0), "note": "text"}}, init=7 if name == "cold" else None
            )
        )

    @app.get("/api/v1/namespaces/_/activations/<activation>")
    def activation(activation: str):
        asked.append(activation)
        if len(asked) < 2:
            return jsonify(error="The requested resource does not exist.", code="x"), 404
        return jsonify(record("late", {}))

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield OpenWhisk(f"http://127.0.0.1:{server.server_port}", "u:k")
    server.shutdown()
    thread.join()


def test_calls_are_sent_at_their_times_and_do_not_wait_for_each_other(openwhisk) -> None:
    done = replay([Request(i, 0.05 * i, "slow", {}) for i in range(6)], openwhisk)
    assert [invocation.index for invocation in done] == list(range(6))
    assert all(0 <= one.sent_s - one.scheduled_s < 0.2 for one in done)
    assert max(one.finished_s for one in done) < 1.5
    assert all(400 <= one.completion_ms < 1200 for one in done)


def test_what_the_record_says_is_kept(openwhisk) -> None:
    (warm, cold) = replay([Request(1, 0.0, "cold", {}), Request(0, 0.0, "warm", {"n": 5})], openwhisk)
    assert (warm.index, warm.action, warm.status, warm.ok, warm.error) == (0, "warm", "success", True, None)
    assert (warm.duration_ms, warm.wait_ms, warm.init_ms, warm.timings) == (12, 3, None, {"ttft_ms": 5})
    assert cold.init_ms == 7


def test_failures_and_refusals_are_results_with_a_reason(openwhisk) -> None:
    broken, full = replay([Request(0, 0.0, "broken", {}), Request(1, 0.0, "full", {})], openwhisk)
    assert (broken.status, broken.error, broken.activation) == ("application error", "no such file", ID)
    assert full.status == "refused" and full.activation is None
    assert full.error.startswith("429 Too many requests")


def test_an_answer_without_the_record_is_waited_for(openwhisk) -> None:
    (late,) = replay([Request(0, 0.0, "late", {})], openwhisk)
    assert late.ok and late.activation == ID


def test_a_server_that_is_gone_is_a_result_too() -> None:
    (done,) = replay([Request(0, 0.0, "a", {})], OpenWhisk("http://127.0.0.1:9", "u:k"))
    assert done.status == "refused" and "127.0.0.1:9" in done.error


def test_too_few_workers_show_in_the_completion_time(openwhisk) -> None:
    done = replay([Request(i, 0.0, "slow", {}) for i in range(2)], openwhisk, workers=1)
    assert max(one.completion_ms for one in done) >= 800


def test_progress_is_told_once_per_call(openwhisk) -> None:
    seen: list[int] = []
    replay([Request(i, 0.0, "warm", {}) for i in range(5)], openwhisk, on_done=lambda one: seen.append(one.index))
    assert sorted(seen) == list(range(5))


def test_columns_hold_all_there_is(openwhisk) -> None:
    done = replay([Request(0, 0.0, "warm", {"n": 1}), Request(1, 0.0, "broken", {})], openwhisk)
    done[0].use = {"harvested": True}
    assert from_columns(to_columns(done)) == done
