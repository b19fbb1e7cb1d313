"""`owl serve` as a process: how it starts, refuses to start and ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-c", "from deploy.cli import main; main()", "serve", "--stem-cells", "0")


@contextmanager
def started(
    *options: str, home: Path, descriptors: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running server, its URL, and the lines it wrote when it started."""
    process = subprocess.Popen(
        [*(("prlimit", f"--nofile={descriptors}") if descriptors else ()), *COMMAND, *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OWL_HOME": str(home)},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://localhost:\d+", line)
        assert found, line
        yield process, found.group(), [line]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def refused(*options: str, home: Path) -> str:
    """What a server that cannot start says; it must be one line."""
    done = subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "OWL_HOME": str(home)},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_start_line_is_the_command_for_wsk(tmp_path: Path) -> None:
    with started("--port", "0", "--ephemeral", home=tmp_path) as (_, url, lines):
        assert f"wsk property set --apihost {url} --auth " in lines[0]


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--port", str(port), "--ephemeral", home=tmp_path)
    assert str(port) in line
    assert "--port" in line


def test_address_of_another_machine(tmp_path: Path) -> None:
    line = refused("--port", "0", "--host", "192.0.2.1", "--ephemeral", home=tmp_path)
    assert "'192.0.2.1' is no address of this machine" in line
    assert "--host" in line


def test_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--data" in refused("--port", "0", "--data", str(tmp_path / "file"), home=tmp_path)


def test_entities_survive_and_a_second_server_is_refused(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", home=tmp_path) as (first, url, _):
        client(url).put_action("kept")
        assert "Another server" in refused("--port", "0", home=tmp_path)
        first.kill()
        first.wait(10)
    with started("--port", "0", home=tmp_path) as (_, url, _):
        assert client(url).ns("GET", "actions/kept").json()["version"] == "0.0.1"
    assert (tmp_path / "server" / "owl.db").exists()


def test_sigterm_lets_what_runs_finish(tmp_path: Path, client: Any) -> None:
    nap = "import time\n\ndef main(args):\n    time.sleep(1)\n    return {'slept': True}\n"
    with started("--port", "0", home=tmp_path) as (process, url, _):
        guest = client(url)
        guest.put_action("nap", nap)
        guest.invoke("nap")
        guest.session.close()
        activation = guest.ns("POST", "actions/nap", {}).json()["activationId"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with started("--port", "0", home=tmp_path) as (_, url, _):
        assert client(url).ns("GET", f"activations/{activation}/result").json()["result"] == {"slept": True}


NAP = "import time\n\ndef main(args):\n    time.sleep(args['s'])\n    return {'slept': args['s']}\n"


@contextmanager
def in_background(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(call)


def running(guest: Any, calls: int = 1) -> None:
    """Wait until so many invocations run."""
    until = time.monotonic() + 20
    while guest("GET", "/activation/count").json() < calls:
        assert time.monotonic() < until
        time.sleep(0.01)


def stopping(process: subprocess.Popen[str], guest: Any) -> None:
    """Send SIGTERM and wait until the server acts on it."""
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 20
    while guest("GET", "/ping").status_code != 503:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_sigterm_answers_who_waits_and_refuses_who_comes(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", "--ephemeral", home=tmp_path) as (process, url, _):
        guest, other, late = client(url), client(url), client(url)
        guest.put_action("nap", NAP)
        other("GET", "/ping")  # a connection from before
        with in_background(lambda: guest.invoke("nap", {"s": 2.5})) as waiting:
            running(other)
            stopping(process, client(url))
            for refused_one in (other.ns("GET", "actions"), late.ns("POST", "actions/nap", {"s": 0})):
                assert refused_one.status_code == 503
                assert refused_one.headers["Connection"] == "close"
                assert "stopping" in refused_one.json()["error"]
            assert waiting.result(20).json()["response"]["result"] == {"slept": 2.5}
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "ending: 1 activation still running, 10 s to finish" in said


def test_what_runs_has_as_long_as_it_is_told(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", "--drain", "0.5", home=tmp_path) as (process, url, _):
        guest, other = client(url), client(url)
        guest.put_action("nap", NAP)
        with in_background(lambda: guest.invoke("nap", {"s": 30})) as waiting:
            running(other)
            process.send_signal(signal.SIGTERM)
            assert waiting.result(20).status_code == 500
            assert process.wait(20) == 0


def test_a_second_sigterm_waits_for_nothing(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", home=tmp_path) as (process, url, _):
        guest, other = client(url), client(url)
        guest.put_action("nap", NAP)
        with in_background(lambda: guest.invoke("nap", {"s": 30})) as waiting:
            running(other)
            accepted = other.ns("POST", "actions/nap", {"s": 30}).json()["activationId"]
            stopping(process, other)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            answer = waiting.result(20)
            assert time.monotonic() - began < 8
            assert answer.status_code == 500
            assert "stopped before" in answer.json()["response"]["result"]["error"]
            assert process.wait(20) == 0
    with started("--port", "0", home=tmp_path) as (_, url, _):
        record = client(url).ns("GET", f"activations/{accepted}").json()
        assert record["response"]["status"] == "whisk internal error"
        assert record["duration"] > 0
        assert {"key": "waitTime", "value": 0} in record["annotations"]
        assert len(client(url).ns("GET", "activations").json()) == 2


@pytest.mark.slow
def test_idle_connections_do_not_slow_a_server(tmp_path: Path, client: Any) -> None:
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with started("--port", "0", "--ephemeral", home=tmp_path) as (_, url, _), ExitStack() as idle:
        guest = client(url)
        guest.put_action("quick", "def main(args):\n    return {}\n")
        guest.invoke("quick")
        address = ("127.0.0.1", urlsplit(url).port)
        for _ in range(min(5000, room - 500)):
            idle.enter_context(socket.create_connection(address))
        times = []
        for _ in range(40):
            began = time.perf_counter()
            assert guest.invoke("quick").status_code == 200
            times.append(time.perf_counter() - began)
        assert statistics.median(times) < 0.05


def test_with_few_descriptors_the_longest_idle_make_room(tmp_path: Path, client: Any) -> None:
    with ExitStack() as stack:
        few = stack.enter_context(started("--port", "0", "--ephemeral", home=tmp_path, descriptors=256))
        url = few[1]
        address = ("127.0.0.1", urlsplit(url).port)
        first, *others = [stack.enter_context(socket.create_connection(address)) for _ in range(300)]
        assert client(url)("GET", "/ping").text == "pong"
        first.settimeout(10)
        assert first.recv(1) == b""
        others[-1].sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert others[-1].recv(100).startswith(b"HTTP/1.1 200")


def test_logs_are_lines_with_the_id_of_the_request_and_no_secrets(tmp_path: Path, client: Any) -> None:
    secret = "s3cret-of-a-user"
    with started("--port", "0", "--ephemeral", "--verbose", "--log-format", "json", home=tmp_path) as (process, url, first):
        guest = client(url)
        guest.put_action("told", "def main(args):\n    return args\n", parameters=[{"key": "p", "value": secret}])
        tid = {"X-Request-ID": "tid-of-the-test"}
        answer = guest.ns("POST", "actions/told?blocking=true", {"word": secret}, headers=tid)
        guest.session.close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    lines = [json.loads(line) for line in (*first, *log.splitlines())]
    assert lines[0]["message"].startswith(f"OpenWhisk at {url}")
    ours = [line for line in lines if line.get("tid") == "tid-of-the-test"]
    activation = answer.json()["activationId"]
    assert [line["message"] for line in ours] == ["started", "ended", "request"]
    assert [line.get("activation") for line in ours] == [activation, activation, None]
    assert ours[1]["status"] == "success"
    assert (ours[2]["status"], ours[2]["method"], ours[2]["user"]) == (200, "POST", "guest")
    assert {line["level"] for line in ours} == {"info"}
    assert all(line["time"].endswith("Z") for line in lines)
    for kept_out in (secret, guest.session.auth[1], guest.session.auth[0]):
        assert kept_out not in log


def test_logs_as_text_stay_one_line_each(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", "--ephemeral", "--verbose", home=tmp_path) as (process, url, _):
        guest = client(url)
        guest("GET", "/api/v1/namespaces/_/actions/a%0Atid=forged%20b")
        guest.session.close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    (line,) = [line for line in log.splitlines() if "/actions/" in line]
    assert re.search(r" INFO owl\.access: request tid=\w+ user=guest method=GET path=\".*\" status=400 ms=", line)
    assert "\\n" in line


def test_limits_are_those_of_the_flags(tmp_path: Path, client: Any) -> None:
    flags = ("--max-action-logs", "20", "--action-concurrency", "8", "--max-action-memory", "1024")
    with started("--port", "0", "--ephemeral", *flags, home=tmp_path) as (_, url, _):
        guest = client(url)
        limits = guest("GET", "/").json()["limits"]
        assert (limits["max_action_logs"], limits["max_action_memory"]) == (20 << 20, 1024 << 20)
        assert guest.put_action("many", limits={"concurrency": 8, "logs": 20})["limits"]["concurrency"] == 8
        code = {"kind": "python:3.11", "code": "def main(args):\n    return {}\n"}
        assert guest.ns("PUT", "actions/more", {"exec": code, "limits": {"concurrency": 9}}).status_code == 400


@pytest.mark.parametrize(
    "flags",
    [
        ("--action-concurrency", "0"),
        ("--containers", "pods"),
        ("--image", "python:3.11"),
        ("--image", "cobol:85=image"),
        ("--keep-activations", "-1"),
        ("--log-format", "xml"),
    ],
)
def test_flags_that_make_no_sense(flags: tuple[str, str]) -> None:
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert flags[0] in done.stderr


def test_docker_containers_without_an_engine_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with started("--port", "0", "--ephemeral", "--containers", "docker", home=tmp_path) as (process, url, _):
        assert process.stderr is not None
        note = next(line for line in process.stderr if line.startswith("note: Docker"))
    assert note == "note: Docker: no engine answers, so no action can run; start Docker Engine or set DOCKER_HOST\n"


def test_ephemeral_leaves_nothing(tmp_path: Path) -> None:
    with started("--port", "0", "--ephemeral", home=tmp_path) as (process, _, _):
        pass
    assert process.returncode == 0
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("user", ["bob", "bob=uuid:short"])
def test_users_that_are_none(tmp_path: Path, user: str) -> None:
    done = subprocess.run([*COMMAND, "--user", user], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert "user" in done.stderr


def test_more_users_and_other_keys(tmp_path: Path, client: Any) -> None:
    from deploy.standalone.auth import User

    bob = User("bob", "0b0b0b0b-71f6-4ed5-8c54-816aa4f8c502", "b" * 64)
    with started("--port", "0", "--ephemeral", "--user", f"bob={bob.api_key}", home=tmp_path) as (_, url, _):
        assert client(url, bob)("GET", "/api/v1/namespaces").json() == ["bob"]
