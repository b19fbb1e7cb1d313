from __future__ import annotations

import json
import logging
import socket
import threading
import time
from base64 import b64encode
from urllib.parse import urlsplit

import pytest

from rm_agent.openwhisk import OpenWhisk, OpenWhiskError, StillRunning, Unreachable

RECORD = {
    "activationId": "9252cdee281d497692cdee281d0976bf",
    "annotations": [
        {"key": "path", "value": "guest/shop/hello"},
        {"key": "waitTime", "value": 153},
        {"key": "initTime", "value": 227},
    ],
    "duration": 232,
    "name": "hello",
    "namespace": "guest",
    "response": {"result": {"greeting": "Hello!"}, "size": 32, "status": "success", "success": True},
}


def test_a_blocking_call_returns_its_record(ow, replay):
    replay.says(200, RECORD)
    activation = ow.invoke("shop/hello", {"name": "Owl"}, timeout_ms=500)
    assert replay.requests == [
        {
            "method": "POST",
            "path": "/api/v1/namespaces/_/actions/shop/hello?blocking=true&result=false&timeout=500",
            "auth": "Basic " + b64encode(b"uuid:key").decode(),
            "body": {"name": "Owl"},
        }
    ]
    assert activation == RECORD
    assert activation.success and activation.cold and not activation.pending
    assert (activation.path, activation.wait_ms, activation.init_ms) == ("guest/shop/hello", 153, 227)
    assert activation.result == {"greeting": "Hello!"}


@pytest.mark.parametrize("status", [500, 502])
def test_a_failed_call_returns_its_record_too(ow, replay, status):
    replay.says(status, RECORD | {"response": {"result": {"error": "boom"}, "status": "application error", "success": False}})
    activation = ow.invoke("hello")
    assert not activation.success and activation.status == "application error" and activation.result == {"error": "boom"}


def test_a_call_that_was_only_accepted_has_an_id(ow, replay):
    replay.says(202, {"activationId": RECORD["activationId"]})
    activation = ow.invoke("hello", blocking=False)
    assert activation.pending and activation.id == RECORD["activationId"] and activation.status == "pending"
    replay.says(404, {"error": "The requested resource does not exist."})
    replay.says(200, RECORD)
    assert ow.wait(activation.id, timeout_s=5, interval_s=0.01).success


def test_waiting_ends(ow, replay):
    replay.says(404, {"error": "The requested resource does not exist."})
    with pytest.raises(StillRunning, match="has not finished"):
        ow.wait(RECORD["activationId"], timeout_s=0)


def test_a_bare_list_is_a_result(ow, replay):
    replay.says(200, [1, "two"], x_openwhisk_activation_id=RECORD["activationId"])
    activation = ow.invoke("listing")
    assert activation.success and activation.result == [1, "two"] and activation.id == RECORD["activationId"]


@pytest.mark.parametrize(
    ("status", "body", "message", "exit_code"),
    [
        (404, {"code": "8dspUCn", "error": "The requested resource does not exist."}, "does not exist", 148),
        (409, {"code": "x", "error": "resource already exists"}, "already exists", 153),
        (429, {"code": "x", "error": "Too many requests in the last minute (count: 61, allowed: 60)."}, "allowed: 60", 173),
        (502, {"error": {"statusCode": 418}}, "418", 246),
        (503, "<html>nothing for people</html>", "HTTP 503", 247),
        (400, "plain reason", "plain reason", 144),
        (307, "", "HTTP 307", 51),
    ],
)
def test_a_refusal_tells_why_and_how_wsk_would_exit(ow, replay, status, body, message, exit_code):
    replay.says(status, body)
    with pytest.raises(OpenWhiskError, match=message) as error:
        ow.get_action("missing")
    assert (error.value.status, error.value.exit_code) == (status, exit_code)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, "<!doctype html><title>404 Not Found</title>"), (404, {"detail": "Not Found"}), (404, 5), (200, "<html>welcome</html>"), (405, "no")],
)
def test_a_server_of_another_kind_is_told(ow, replay, status, body):
    replay.says(status, body)
    with pytest.raises(Unreachable, match=rf"is not an OpenWhisk \(HTTP {status}\); name one with --apihost"):
        ow.list_actions()


def test_each_method_asks_what_the_api_expects(ow, replay):
    prefix = "/api/v1/namespaces/_"
    rule = {"trigger": "/_/order", "action": "/_/shop/greet"}
    calls = [
        (lambda: ow.put_action("a b", {"exec": {}}), "PUT", f"{prefix}/actions/a%20b?overwrite=true"),
        (lambda: ow.put_action("new", {}, overwrite=False), "PUT", f"{prefix}/actions/new?overwrite=false"),
        (lambda: ow.get_action("/guest/p/a", code=True), "GET", "/api/v1/namespaces/guest/actions/p/a?code=true"),
        (lambda: ow.delete_action("p/a"), "DELETE", f"{prefix}/actions/p/a"),
        (lambda: ow.put_package("p", {}), "PUT", f"{prefix}/packages/p?overwrite=true"),
        (lambda: ow.get_package("p"), "GET", f"{prefix}/packages/p"),
        (lambda: ow.delete_package("p", force=True), "DELETE", f"{prefix}/packages/p?force=true"),
        (lambda: ow.put_trigger("order", {}), "PUT", f"{prefix}/triggers/order?overwrite=true"),
        (lambda: ow.get_trigger("order"), "GET", f"{prefix}/triggers/order"),
        (lambda: ow.delete_trigger("order"), "DELETE", f"{prefix}/triggers/order"),
        (lambda: ow.put_rule("r", rule), "PUT", f"{prefix}/rules/r?overwrite=true"),
        (lambda: ow.set_rule("r", active=False), "POST", f"{prefix}/rules/r"),
        (lambda: ow.get_rule("r"), "GET", f"{prefix}/rules/r"),
        (lambda: ow.delete_rule("r"), "DELETE", f"{prefix}/rules/r"),
        (lambda: ow.result("id"), "GET", f"{prefix}/activations/id/result"),
        (lambda: ow.limits(), "GET", f"{prefix}/limits"),
        (lambda: ow.namespaces(), "GET", "/api/v1/namespaces"),
    ]
    for call, method, path in calls:
        replay.says(200, {})
        call()
        assert (replay.requests[-1]["method"], replay.requests[-1]["path"]) == (method, path)
    lists = [
        (lambda: ow.list_actions(limit=5, skip=2), f"{prefix}/actions?limit=5&skip=2"),
        (lambda: ow.list_actions(package="p"), f"{prefix}/actions/p/?limit=200&skip=0"),
        (lambda: ow.list_packages(), f"{prefix}/packages?limit=200&skip=0"),
        (
            lambda: ow.activations("p/a", since=1, limit=3, docs=True),
            f"{prefix}/activations?limit=3&skip=0&name=p%2Fa&since=1&docs=true",
        ),
    ]
    for call, path in lists:
        replay.says(200, [])
        assert call() == [] and replay.requests[-1]["path"] == path


def test_firing_a_trigger(ow, replay):
    replay.says(202, {"activationId": RECORD["activationId"]})
    assert ow.fire("order") == RECORD["activationId"]
    replay.says(204, "")
    assert ow.fire("order", {"n": 1}) is None


def test_the_server_itself_is_asked_without_a_key(ow, replay):
    replay.says(200, {"description": "OpenWhisk"})
    replay.says(200, "pong")
    assert ow.info()["description"] == "OpenWhisk" and ow.ping()
    assert [request["auth"] for request in replay.requests] == [None, None]


def test_the_key_never_reaches_a_log(ow, replay, caplog):
    replay.says(200, {})
    with caplog.at_level(logging.DEBUG):
        ow.get_action("hello")
    assert "GET http://127.0.0.1" in caplog.text and "key" not in caplog.text.replace("keyword", "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_there():
    ow = OpenWhisk(f"localhost:{free_port()}", "uuid:key")
    assert not ow.ping()
    with pytest.raises(Unreachable, match="no OpenWhisk answers at http://localhost:.*owl up") as error:
        ow.invoke("hello")
    assert error.value.exit_code == 1


def test_a_server_that_comes_up_in_between_is_found_by_idempotent_requests():
    port = free_port()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def serve() -> None:
        time.sleep(0.15)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n["guest"]')

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert OpenWhisk(f"127.0.0.1:{port}", "uuid:key").namespaces() == ["guest"]
    finally:
        thread.join()
        listener.close()


def test_a_call_is_never_sent_twice(ow, replay):
    with pytest.raises(Unreachable, match="closed the connection"):
        ow.invoke("hello")
    assert len(replay.requests) == 1


def test_a_server_that_hangs_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ow = OpenWhisk(f"127.0.0.1:{listener.getsockname()[1]}", "uuid:key", timeout=0.1)
        with pytest.raises(Unreachable, match="did not answer in 0.1 s"):
            ow.namespaces()


def test_numbers_that_json_does_not_know_are_refused_here(ow):
    with pytest.raises(ValueError):
        ow.invoke("hello", {"n": float("nan")})


@pytest.mark.shared
def test_every_recorded_answer_is_understood(ow, replay, shared_dir):
    seen = set()
    for file in sorted((shared_dir / "transcripts").glob("0[3-7]-*.json")):
        for step in json.loads(file.read_text())["steps"]:
            for exchange in step.get("exchanges", ()):
                request, answer = exchange["request"], exchange["response"]
                path = urlsplit(request["path"]).path
                known = answer["status"] in (200, 202, 500, 502) and isinstance(answer.get("body", {}).get("json"), dict)
                if request["method"] != "POST" or "/actions/" not in path or "result=true" in request["path"]:
                    continue
                replay.answers.append(answer)
                if known and "activationId" in answer["body"]["json"]:
                    activation = ow.invoke("any")
                    assert activation == answer["body"]["json"]
                    assert activation.pending == (answer["status"] == 202)
                elif answer["status"] == 200:
                    assert ow.invoke("any").result == answer["body"]["json"]
                else:
                    with pytest.raises(OpenWhiskError) as error:
                        ow.invoke("any")
                    assert error.value.status == answer["status"] and error.value.message
                seen.add(answer["status"])
    assert {200, 202, 400, 502} <= seen
