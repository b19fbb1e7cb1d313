"""The command against a platform that it started itself."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from deploy.cli.connection import guest_key
from rm_agent.openwhisk import OpenWhisk, OpenWhiskError

MANIFEST = """
packages:
  shop:
    inputs: {greeting: Hello}
    actions:
      greet:
        code: |
          def main(args):
              print("greeting", args.get("name"))
              return {"greeting": f"{args['greeting']} {args.get('name', 'stranger')}!"}
        runtime: python:3.11
        annotations: {resources: {cpu: 500}}
        limits: {memorySize: 128, timeout: 5000}
      refuse: {code: "def main(args): return {'error': 'no'}", runtime: python:3.11}
      folder: {function: folder}
"""


@pytest.fixture(scope="module")
def shop(platform, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "folder").mkdir()
    (folder / "folder" / "__main__.py").write_text(
        "from helper import answer\ndef main(args):\n    return {'answer': answer()}\n"
    )
    (folder / "folder" / "helper.py").write_text("def answer():\n    return 42\n")
    (folder / "manifest.yaml").write_text(MANIFEST)
    platform.manifest = str(folder)
    assert platform.owl("deploy", "-m", str(folder)).splitlines() == [
        "deployed package shop",
        "deployed action shop/greet",
        "deployed action shop/refuse",
        "deployed action shop/folder",
    ]
    return platform


def test_up_again_says_so(platform):
    output = platform.up("--no-manager")
    assert f"the platform is already up at {platform.url}" in output
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
    assert f"already up at {platform.url}; stop it" in platform.owl("up", "--port", port, "--no-manager", expect=1)
    assert output.splitlines()[-2:].count(f"wsk property set --apihost {platform.url} --auth {guest_key()}") == 1
    assert not (platform.home / "wskprops").exists()
    assert re.search(rf"platform +up +{platform.url} ", platform.owl("status"))


def test_invoking(shop):
    assert json.loads(shop.owl("invoke", "shop/greet", "-p", "name", "Owl", "-r")) == {"greeting": "Hello Owl!"}
    assert json.loads(shop.owl("invoke", "/_/shop/folder", "--result")) == {"answer": 42}
    first, _, record = shop.owl("invoke", "shop/greet", "-P", "-", input='{"name": "file"}').partition("\n")
    record = json.loads(record)
    assert first == f"ok: invoked /_/shop/greet with id {record['activationId']}"
    assert record["response"]["result"] == {"greeting": "Hello file!"}
    accepted = shop.owl("invoke", "shop/greet", "--no-blocking")
    activation = re.fullmatch(r"ok: invoked /_/shop/greet with id ([0-9a-f]{32})\n", accepted)[1]
    assert OpenWhisk(shop.url, guest_key()).wait(activation, 10).success


def test_exit_codes_are_those_of_wsk(shop):
    assert json.loads(shop.owl("invoke", "shop/refuse", "-r", expect=246)) == {"error": "no"}
    assert "error: invoked /_/shop/refuse with id" in shop.owl("invoke", "shop/refuse", expect=246)
    assert "is not a name" in shop.owl("invoke", "a/b/c/d", expect=2)
    assert shop.owl("invoke", "missing", expect=148).startswith("Error: The requested resource does not exist")
    wrong = guest_key()[:-1] + "x"
    refusal = shop.owl("actions", "--auth", wrong, expect=145)
    assert "check the key" in refusal and wrong not in refusal


def test_verbose_shows_requests_but_no_key(shop):
    output = shop.owl("invoke", "shop/greet", "-r", "-v")
    assert re.search(r"POST http://localhost:\d+/api/v1/namespaces/_/actions/shop/greet\?.* -> 200 in \d+ ms", output)
    assert guest_key().split(":")[1] not in output


def test_activations_and_logs(shop):
    activation = json.loads(shop.owl("invoke", "shop/greet", "-p", "name", "log").partition("\n")[2])["activationId"]
    OpenWhisk(shop.url, guest_key()).wait(activation, 10)
    header, newest, *_ = shop.owl("activations", "shop/greet", "--since", "10m", "--limit", "2").splitlines()
    assert header.split() == ["time", "activation", "kind", "start", "wait", "init", "duration", "status", "action"]
    assert re.search(rf"{activation} +python:3.11 +(warm|cold) .* success +guest/shop/greet:0.0.1", newest)
    assert json.loads(shop.owl("activations", "--json", "--limit", "1"))[0]["activationId"] == activation
    assert json.loads(shop.owl("activation", "--last"))["activationId"] == activation
    assert re.fullmatch(r"\d{4}-\S+ +stdout: greeting log\n", shop.owl("logs", activation))
    assert shop.owl("logs", "--last", "--strip") == "greeting log\n"
    assert "404" not in shop.owl("logs", "0" * 32, expect=148)
    assert shop.owl("logs", "shop/greet", "--strip") == "greeting log\n"
    assert json.loads(shop.owl("activation", "/_/shop/greet", "--result")) == {"greeting": "Hello log!"}
    assert json.loads(shop.owl("activations", "-f", "--limit", "1"))[0]["logs"]
    assert len(shop.owl("activations", "--upto", "1h").splitlines()) == 1
    assert "nothing ran that is called missing" in shop.owl("logs", "missing", expect=1)


def test_following_logs(shop):
    follow = subprocess.Popen(
        shop.command("logs", "--follow", "--strip"),
        env=shop.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with follow, ExitStack() as stack:
        stack.callback(follow.kill)
        assert "waiting for activations" in follow.stdout.readline()
        shop.owl("invoke", "shop/greet", "-p", "name", "follower")
        assert re.fullmatch(r"guest/shop/greet [0-9a-f]{32} success .*\n", follow.stdout.readline())
        assert follow.stdout.readline() == "greeting follower\n"
        follow.send_signal(signal.SIGINT)
        assert follow.wait(10) == 0


def test_polling(shop):
    first = json.loads(shop.owl("invoke", "shop/greet", "-p", "name", "before").partition("\n")[2])["activationId"]
    OpenWhisk(shop.url, guest_key()).wait(first, 10)
    shown = shop.owl("activations", "poll", "shop/greet", "--since", "1m", "--exit", "0")
    assert re.search(rf"guest/shop/greet {first} success .*\n\S+ +stdout: greeting before\n", shown)
    assert shop.owl("activations", "poll", "--exit", "0") == "waiting for activations; Ctrl-C ends\n"
    assert "--exit is for" in shop.owl("activations", "--exit", "1", expect=2)
    assert "one NAME at most" in shop.owl("activations", "a", "b", expect=2)


def test_listing_actions(shop):
    rows = shop.owl("actions", "shop").splitlines()
    assert rows[0].split() == ["action", "kind", "cpu", "memory", "timeout", "version", "updated"]
    assert any(re.match(r"/guest/shop/greet +python:3\.11 +500m +128 MB +5 s +0\.0\.1 +20", row) for row in rows)
    assert len(rows) == 4 and len(json.loads(shop.owl("actions", "shop", "--json"))) == 3


def test_deleting_and_undeploying(shop):
    assert shop.owl("delete", "shop/folder") == "ok: deleted /_/shop/folder\n"
    shop.owl("delete", "shop/folder", expect=148)
    assert shop.owl("undeploy", "-m", shop.manifest).splitlines() == [
        "not there action shop/folder",
        "removed  action shop/refuse",
        "removed  action shop/greet",
        "removed  package shop",
    ]
    with pytest.raises(OpenWhiskError):
        OpenWhisk(shop.url, guest_key()).get_package("shop")


def test_a_refused_entity_is_named(platform, tmp_path):
    (tmp_path / "manifest.yaml").write_text(
        "packages: {p: {actions: {a: {code: x, runtime: python:3.11, limits: {memorySize: 999999}}}}}"
    )
    output = platform.owl("deploy", "-m", str(tmp_path), expect=144)
    assert output.splitlines()[0] == "deployed package p" and "Error: action p/a: " in output


def test_another_server_on_the_port_is_told(platform, own_platform):
    refusal = own_platform.owl("up", "--no-manager", "--port", str(platform.port), expect=1)
    assert f"another OpenWhisk already answers at {platform.url}" in refusal


@pytest.mark.slow
def test_what_was_deployed_survives_down_and_up(own_platform, tmp_path):
    (tmp_path / "manifest.yaml").write_text(MANIFEST.replace("      folder: {function: folder}\n", ""))
    own_platform.up("--no-manager", "--wskprops")
    assert own_platform.owl("deploy", "-m", str(tmp_path)).count("deployed") == 3
    assert (own_platform.home / "wskprops").read_text() == f"APIHOST={own_platform.url}\nAUTH={guest_key()}\n"
    assert (own_platform.home / "wskprops").stat().st_mode & 0o777 == 0o600
    own_platform.owl("invoke", "shop/greet")
    service = json.loads((own_platform.home / "server.pid").read_text())
    family = psutil.Process(service["pid"]).children(recursive=True)
    assert own_platform.owl("down") == f"stopped the platform at {own_platform.url}\n"
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert "not running" in own_platform.owl("status", expect=3)
    own_platform.up("--no-manager")
    assert json.loads(own_platform.owl("invoke", "shop/greet", "-r")) == {"greeting": "Hello stranger!"}


def test_a_platform_that_died_is_remembered(own_platform):
    own_platform.up("--no-manager")
    service = json.loads((own_platform.home / "server.pid").read_text())
    psutil.Process(service["pid"]).kill()
    assert re.search(rf"platform +has died +{own_platform.url} ", own_platform.owl("status", expect=3))
    assert f"no OpenWhisk answers at {own_platform.url}" in own_platform.owl("invoke", "hello", expect=1)
    assert own_platform.owl("down") == "nothing is running\n"
    assert "has died" not in own_platform.owl("status", expect=3)


@pytest.mark.root
@pytest.mark.slow
def test_the_manager_comes_and_goes_with_the_platform(own_platform):
    output = own_platform.up()
    assert f"the resource manager is up at http://127.0.0.1:{own_platform.manager_port}" in output
    status = own_platform.owl("status")
    assert re.search(r"resource manager +up", status)
    agent = [sys.executable, "-m", "rm_agent.cli", "status"]
    shown = subprocess.run(agent, env=own_platform.environment, capture_output=True, text=True)
    assert shown.returncode == 0 and f"group owl-{own_platform.port}" in shown.stdout, shown.stderr
    server = json.loads((own_platform.home / "server.pid").read_text())
    psutil.Process(server["pid"]).kill()
    again = own_platform.up()
    assert "stopped the resource manager" in again and "the resource manager is up" in again
    assert own_platform.owl("down").splitlines() == [
        f"stopped the resource manager at http://127.0.0.1:{own_platform.manager_port}",
        f"stopped the platform at {own_platform.url}",
    ]


@pytest.mark.root
def test_a_manager_that_cannot_start_leaves_the_platform_up(own_platform):
    with socket.create_server(("127.0.0.1", own_platform.manager_port)):
        refusal = own_platform.owl(
            "up", "--port", str(own_platform.port), "--manager-port", str(own_platform.manager_port), expect=1
        )
    assert "the resource manager did not start:" in refusal and "the platform itself is up" in refusal
    assert own_platform.owl("down") == f"stopped the platform at {own_platform.url}\n"


@pytest.mark.root
def test_the_manager_of_another_platform_is_not_taken_for_ones_own(own_platform):
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", own_platform.manager_port), Healthy) as another:
        threading.Thread(target=another.serve_forever, daemon=True).start()
        ports = ("--port", str(own_platform.port), "--manager-port", str(own_platform.manager_port))
        refusal = own_platform.owl("up", *ports, expect=1)
        another.shutdown()
    assert "another resource manager already answers" in refusal and "the platform itself is up" in refusal
    assert own_platform.owl("down") == f"stopped the platform at {own_platform.url}\n"


def test_a_server_that_cannot_start_tells_why(own_platform):
    refusal = own_platform.owl("up", "--no-manager", "--port", str(own_platform.port), "--", "--no-such-option", expect=1)
    assert "the platform did not start:" in refusal and "--no-such-option" in refusal and "server.log" in refusal
    assert own_platform.owl("down") == "nothing is running\n"
