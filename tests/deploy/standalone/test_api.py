"""What the API answers, one behaviour a test, through HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.server import Server
from deploy.standalone.store import Activation

GUEST = WELL_KNOWN_USERS[0]
ECHO = "def main(args):\n    return args\n"


def test_ping_needs_no_key(nobody: Any) -> None:
    reply = nobody("GET", "/ping")
    assert (reply.status_code, reply.text) == (200, "pong")
    assert "server" not in reply.headers


def test_description_lists_limits_in_bytes(nobody: Any) -> None:
    described = nobody("GET", "/").json()
    assert described["limits"]["max_action_memory"] == 512 << 20
    kinds = {family: [runtime["kind"] for runtime in of] for family, of in described["runtimes"].items()}
    assert kinds == {"python": ["python:3.11"], "nodejs": ["nodejs:18", "nodejs:20"]}
    assert [runtime["default"] for runtime in described["runtimes"]["nodejs"]] == [False, True]


@pytest.mark.parametrize("path", ["/invokers", "/invokers/healthy/count", "/invokers/ready", "/activation/count"])
def test_operators_see_the_invoker_without_key(nobody: Any, path: str) -> None:
    assert nobody("GET", path).status_code == 200


def test_api_docs_name_the_routes(nobody: Any) -> None:
    paths = nobody("GET", "/api/v1/api-docs").json()["paths"]
    assert "put" in paths["/namespaces/{namespace}/actions/{name}"]


def test_metrics_are_prometheus_text(nobody: Any) -> None:
    text = nobody("GET", "/metrics").text
    assert "gauge_containerPool_activeCount_counter" in text
    assert "counter_loadbalancer_activations_counter_total" in text


def test_key_of_another_length_is_refused(server: Server, client: Any) -> None:
    wrong = client(server.url)
    wrong.session.auth = (GUEST.uuid, "short")
    reply = wrong("GET", "/api/v1/namespaces")
    assert reply.status_code == 401
    assert "WWW-Authenticate" in reply.headers


def test_errors_carry_the_transaction_id(guest: Any) -> None:
    reply = guest.ns("GET", "actions/none")
    assert reply.status_code == 404
    assert reply.json()["code"] == reply.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a": 1} x'],
)
def test_what_is_no_json_object_is_a_400(guest: Any, data: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for method, path in (("PUT", "actions/bad"), ("POST", "triggers/bad"), ("PUT", "packages/bad")):
        assert guest.ns(method, path, data=data, headers=headers).status_code == 400


def test_huge_integers_are_a_400(guest: Any) -> None:
    headers = {"Content-Type": "application/json"}
    reply = guest.ns("POST", "actions/none", data=b'{"n": ' + b"9" * 5000 + b"}", headers=headers)
    assert reply.status_code == 400


def test_payload_over_a_mebibyte_is_a_413(guest: Any) -> None:
    guest.put_action("echo")
    reply = guest.invoke("echo", {"blob": "x" * (1 << 20)})
    assert reply.status_code == 413
    assert "1048576" in reply.json()["error"]


def test_payload_without_length_is_a_413(guest: Any) -> None:
    guest.put_action("echo")

    def chunks() -> Iterator[bytes]:
        yield b'{"blob": "'
        for _ in range(20):
            yield b"x" * (1 << 16)
        yield b'"}'

    headers = {"Content-Type": "application/json"}
    reply = guest.ns("POST", "actions/echo?blocking=true", data=chunks(), headers=headers)
    assert reply.status_code == 413
    assert reply.json()["error"]


def test_code_over_48_mebibytes_is_a_413(guest: Any) -> None:
    reply = guest.ns("PUT", "actions/huge", {"exec": {"kind": "python:3.11", "code": "#" * (49 << 20)}})
    assert reply.status_code == 413
    assert guest.ns("GET", "actions/huge").status_code == 404


def test_long_addresses_are_a_414(guest: Any) -> None:
    assert guest.ns("GET", f"actions?name={'x' * 9000}").status_code == 414


def test_broken_http_is_answered_in_json(server: Server) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(b"POST /ping HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == 400
        assert json.loads(reply.read())["error"]


@pytest.mark.parametrize("name", ["%20a", "a%20", "a%2Fb", "a$b", "%C3%A9", "%FF", "-a", ".a", "x" * 257])
def test_names_that_are_not_allowed(guest: Any, name: str) -> None:
    reply = guest.ns("PUT", f"actions/{name}", {"exec": {"kind": "python:3.11", "code": ECHO}})
    assert reply.status_code == 400


def test_unknown_kind_names_those_there_are(guest: Any) -> None:
    reply = guest.ns("PUT", "actions/cobol", {"exec": {"kind": "cobol:85", "code": "x"}})
    assert reply.status_code == 400
    assert "python:3.11" in reply.json()["error"]


@pytest.mark.parametrize(("code", "binary"), [(ECHO, False), (base64.b64encode(b"zip").decode(), True)])
def test_whether_code_is_binary_is_seen_not_told(guest: Any, code: str, binary: bool) -> None:
    body = {"exec": {"kind": "python:3.11", "code": code, "binary": not binary}}
    reply = guest.ns("PUT", "actions/zip?overwrite=true", body)
    assert (reply.status_code, reply.json()["exec"]["binary"]) == (200, binary)


def test_base64_that_is_no_zip_fails_when_it_runs(guest: Any) -> None:
    guest.put_action("nozip", base64.b64encode(b"not a zip").decode())
    reply = guest.invoke("nozip")
    assert reply.status_code == 502
    assert reply.json()["response"]["status"] == "action developer error"


@pytest.mark.parametrize("cpu", [0, -1, "much", True, 10**9])
def test_own_cpu_must_be_a_sensible_number(guest: Any, cpu: object) -> None:
    body = {
        "exec": {"kind": "python:3.11", "code": ECHO},
        "annotations": [{"key": "resources", "value": {"cpu": cpu}}],
    }
    reply = guest.ns("PUT", "actions/cpu", body)
    assert reply.status_code == 400
    assert "cpu" in reply.json()["error"]


def test_own_cpu_is_kept(guest: Any) -> None:
    action = guest.put_action("cpu", annotations=[{"key": "resources", "value": {"cpu": 250, "gpu": 25}}])
    assert {"key": "resources", "value": {"cpu": 250, "gpu": 25}} in action["annotations"]


def test_names_are_shared_by_all_collections(guest: Any) -> None:
    guest.put_action("taken")
    assert guest.ns("PUT", "packages/taken", {}).status_code == 409
    assert guest.ns("GET", "triggers/taken").status_code == 409


def test_update_keeps_what_it_does_not_name(guest: Any) -> None:
    guest.put_action("kept", parameters=[{"key": "a", "value": 1}], limits={"memory": 128})
    changed = guest.ns("PUT", "actions/kept?overwrite=true", {"limits": {"timeout": 1000}}).json()
    assert changed["limits"] == {"timeout": 1000, "memory": 128, "logs": 10, "concurrency": 1}
    assert changed["parameters"] == [{"key": "a", "value": 1}]
    assert changed["exec"]["code"] == ECHO
    assert changed["version"] == "0.0.2"


def test_new_revision_runs_after_its_put(guest: Any) -> None:
    for number in range(3):
        guest.put_action("revised", f"def main(args):\n    return {{'n': {number}}}\n")
        assert guest.invoke("revised", query="&result=true").json() == {"n": number}


def test_parameters_are_merged_from_package_binding_action_and_call(guest: Any) -> None:
    pairs = lambda **values: [{"key": key, "value": value} for key, value in values.items()]  # noqa: E731
    guest.ns("PUT", "packages/base?overwrite=true", {"parameters": pairs(p=1, b=1, a=1, c=1)})
    guest.put_action("base/echo", parameters=pairs(a=3, c=3))
    binding = {"binding": {"namespace": "_", "name": "base"}, "parameters": pairs(b=2, a=2, c=2)}
    assert guest.ns("PUT", "packages/bound?overwrite=true", binding).status_code == 200
    reply = guest.invoke("bound/echo", {"c": 4}, "&result=true")
    assert reply.json() == {"p": 1, "b": 2, "a": 3, "c": 4}
    listed = guest.ns("GET", "activations?name=bound/echo").json()
    assert [{"key": "binding", "value": "guest/bound"} in record["annotations"] for record in listed] == [True]


def test_others_see_only_what_is_published(guest: Any, alice: Any) -> None:
    guest.ns("PUT", "packages/shelf?overwrite=true", {"publish": False})
    guest.put_action("shelf/echo")
    path = "/api/v1/namespaces/guest/actions/shelf/echo"
    assert alice("GET", path).status_code == 403
    guest.ns("PUT", "packages/shelf?overwrite=true", {"publish": True})
    assert alice("GET", path).status_code == 200
    assert alice("POST", f"{path}?blocking=true&result=true", {"x": 1}).json() == {"x": 1}
    assert alice("PUT", f"{path}?overwrite=true", {"publish": True}).status_code == 403
    assert alice.ns("GET", "activations?name=shelf/echo").json()


def test_key_is_given_only_to_actions_that_ask_for_it(guest: Any) -> None:
    code = "import os\n\ndef main(args):\n    return {'key': os.environ.get('__OW_API_KEY')}\n"
    guest.put_action("keyless", code)
    guest.put_action("keyed", code, annotations=[{"key": "provide-api-key", "value": True}])
    assert guest.invoke("keyless", query="&result=true").json() == {"key": None}
    assert guest.invoke("keyed", query="&result=true").json() == {"key": GUEST.api_key}


def test_record_can_be_read_as_soon_as_its_answer_is_there(guest: Any) -> None:
    guest.put_action("talks", "def main(args):\n    print('hello')\n    return {}\n")
    for _ in range(20):
        answered = guest.invoke("talks").json()
        assert answered["logs"] == []
        record = guest.ns("GET", f"activations/{answered['activationId']}").json()
        assert [line.split(" stdout: ")[1] for line in record["logs"]] == ["hello"]
        newest = guest.ns("GET", "activations?limit=1").json()
        assert newest[0]["activationId"] == answered["activationId"]


def test_record_that_cannot_be_kept_is_a_500_and_frees_its_place(
    server: Server, guest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(activation: Activation) -> None:
        raise TypeError("no record")

    guest.put_action("unkept")
    sequence = {"exec": {"kind": "sequence", "components": ["/_/unkept"]}}
    assert guest.ns("PUT", "actions/unkept-sequence", sequence).status_code == 200
    monkeypatch.setattr(server.platform.store, "add", refuse)
    for name in ("unkept", "unkept-sequence"):
        reply = guest.invoke(name)
        assert reply.status_code == 500
        assert reply.json()["error"].startswith("The action has run, but its record could not be kept")
        assert reply.json()["code"] == reply.headers["X-Request-ID"]
    until = time.monotonic() + 10
    while server.platform.invocations.in_flight:
        assert time.monotonic() < until


def test_lists_and_counts_agree(guest: Any) -> None:
    guest.put_action("counted")
    ids = [guest.invoke("counted").json()["activationId"] for _ in range(7)]
    pages = [guest.ns("GET", f"activations?name=counted&limit=3&skip={skip}").json() for skip in (0, 3, 6)]
    assert [record["activationId"] for page in pages for record in page] == ids[::-1]
    assert guest.ns("GET", "activations?name=counted&count=true").json() == {"activations": 7}
    assert guest.ns("GET", "activations?name=counted&count=true&docs=true").status_code == 400
    time.sleep(0.2)
    assert guest.ns("GET", "activations?name=counted&count=true").json() == {"activations": 7}


def test_client_may_wait_less_than_the_action_takes(guest: Any) -> None:
    guest.put_action("nap", "import time\n\ndef main(args):\n    time.sleep(0.5)\n    return {'slept': True}\n")
    reply = guest.invoke("nap", query="&timeout=100")
    assert reply.status_code == 202
    until = time.monotonic() + 20
    path = f"activations/{reply.json()['activationId']}/result"
    while (result := guest.ns("GET", path)).status_code == 404 and time.monotonic() < until:
        time.sleep(0.05)
    assert result.json()["result"] == {"slept": True}


def test_sequence_hands_results_on(guest: Any) -> None:
    guest.put_action("inc", "def main(args):\n    return {'n': args.get('n', 0) + 1}\n")
    components = ["/_/inc"] * 3
    assert (
        guest.ns(
            "PUT", "actions/three?overwrite=true", {"exec": {"kind": "sequence", "components": components}}
        ).status_code
        == 200
    )
    record = guest.invoke("three", {"n": 1}).json()
    assert record["response"]["result"] == {"n": 4}
    causes = {guest.ns("GET", f"activations/{part}").json()["cause"] for part in record["logs"]}
    assert causes == {record["activationId"]}


def test_sequence_that_a_new_binding_closed_into_a_circle_ends(guest: Any) -> None:
    for package in ("one", "two"):
        guest.ns("PUT", f"packages/{package}?overwrite=true", {})
    guest.put_action("one/step")
    bind = {"binding": {"namespace": "_", "name": "one"}}
    assert guest.ns("PUT", "packages/link?overwrite=true", bind).status_code == 200
    loop = {"exec": {"kind": "sequence", "components": ["/_/link/step"]}}
    assert guest.ns("PUT", "actions/two/step?overwrite=true", loop).status_code == 200
    bind["binding"]["name"] = "two"
    assert guest.ns("PUT", "packages/link?overwrite=true", bind).status_code == 200
    reply = guest.invoke("two/step")
    assert reply.status_code == 502
    assert guest.ns("PUT", "actions/two/step?overwrite=true", loop).status_code == 400


def test_conductor_that_calls_itself_through_a_sequence_ends(guest: Any) -> None:
    code = "def main(args):\n    return {'action': 'round', 'params': {}}\n"
    guest.put_action("leader", code, annotations=[{"key": "conductor", "value": True}], limits={"memory": 128})
    round_trip = {"exec": {"kind": "sequence", "components": ["/_/leader"]}}
    assert guest.ns("PUT", "actions/round?overwrite=true", round_trip).status_code == 200
    reply = guest.invoke("leader", query="&result=true")
    assert reply.status_code == 502
    assert "Too many actions" in reply.json()["error"]


def test_rules_fire_their_actions(guest: Any) -> None:
    guest.put_action("target")
    guest.ns("PUT", "triggers/tick?overwrite=true", {"parameters": [{"key": "a", "value": 1}]})
    rule = {"trigger": "/_/tick", "action": "/_/target"}
    assert guest.ns("PUT", "rules/onTick?overwrite=true", rule).json()["status"] == "active"
    fired = guest.ns("POST", "triggers/tick", {"b": 2})
    assert fired.status_code == 202
    log = json.loads(guest.ns("GET", f"activations/{fired.json()['activationId']}/logs").json()["logs"][0])
    path = f"activations/{log['activationId']}/result"
    until = time.monotonic() + 20
    while (result := guest.ns("GET", path)).status_code == 404 and time.monotonic() < until:
        time.sleep(0.05)
    arguments = result.json()["result"]
    assert arguments.pop("__ow_headers")["content-type"] == "application/json"
    assert arguments == {"a": 1, "b": 2}
    assert guest.ns("POST", "rules/onTick", {"status": "inactive"}).status_code == 200
    assert guest.ns("POST", "triggers/tick", {}).status_code == 204


def test_web_actions_answer_browsers(guest: Any, nobody: Any) -> None:
    answer = "{'headers': {'X-Own': args.get('v', 'x')}, 'body': args.get('__ow_user', 'nobody')}"
    code = f"def main(args):\n    return {answer}\n"
    guest.put_action("page", code, annotations=[{"key": "web-export", "value": True}])
    reply = nobody("GET", "/api/v1/web/guest/default/page.http")
    assert (reply.status_code, reply.text) == (200, "nobody")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert guest("GET", "/api/v1/web/guest/default/page.http").text == "guest"
    assert nobody("GET", "/api/v1/web/guest/default/page.http?v=a%0d%0ab").status_code == 400


@pytest.mark.parametrize(
    "result",
    ["{'statusCode': 'x'}", "{'statusCode': 100}", "{'headers': 3}", "{'headers': {'a b': 'c'}}", "[1]"],
)
def test_web_results_that_are_no_http_are_a_400(guest: Any, nobody: Any, result: str) -> None:
    code = f"def main(args):\n    return {result}\n"
    guest.put_action("odd", code, annotations=[{"key": "web-export", "value": True}])
    assert nobody("GET", "/api/v1/web/guest/default/odd.http").status_code == 400


def test_concurrent_calls_are_all_answered(server: Server, client: Any) -> None:
    client(server.url).put_action("echo", limits={"memory": 128})

    def call(number: int) -> object:
        return client(server.url).invoke("echo", {"n": number}, "&result=true").json()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(48))) == [{"n": number} for number in range(48)]


def test_connections_are_kept_open(server: Server) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/ping")
        own = connection.sock
        assert connection.getresponse().read() == b"pong"
        assert connection.sock is own
    connection.close()


def test_well_known_users_are_there(server: Server, client: Any) -> None:
    for user in WELL_KNOWN_USERS:
        assert client(server.url, user)("GET", "/api/v1/namespaces").json() == [user.name]
