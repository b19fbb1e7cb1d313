"""The invoker with containers of a real Docker Engine."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from deploy.standalone.invoker.logs import NOT_AS_EXPECTED
from deploy.standalone.invoker.responses import INIT_DIED, OUT_OF_MEMORY
from deploy.standalone.model import Invocation, Status
from tests.deploy.invoker.conftest import MakeInvoker
from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# A runtime of one process, which takes too much memory itself.
GREEDY = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        if self.path == "/run":
            bytearray(b"x") * (400 << 20)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""

# What somebody writes who knows of /init and /run, and not of sentinels; it speaks HTTP/1.0.
PLAIN = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    runs = 0
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/run":
            Handler.runs += 1
            print("run", Handler.runs, flush=True)
        body = b'{"runs": %d}' % Handler.runs
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

print("hello", flush=True)
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""

Make = Callable[..., Invocation]
Eventually = Callable[..., None]


@pytest.fixture
def image_of(in_docker: Engine, sdk: docker.DockerClient) -> Iterator[Callable[[str], str]]:
    """Makes images that run a Python program."""
    made: list[str] = []

    def make(program: str) -> str:
        base = sdk.containers.create(in_docker.image)
        made.append(f"owl-test-program:{len(made) + 1}")
        base.commit(*made[-1].split(":"), changes=f"ENTRYPOINT {json.dumps(['python3', '-c', program])}")
        base.remove()
        return made[-1]

    yield make
    for image in made:
        sdk.images.remove(image, force=True)


def states(sdk: docker.DockerClient) -> list[str]:
    found = sdk.containers.list(all=True, ignore_removed=True)
    return sorted(container.status for container in found if container.name.startswith("wsk"))


def test_an_idle_container_is_paused_serves_again_and_goes_at_last(
    make_invoker: MakeInvoker, invocation: Make, eventually: Eventually, in_docker: Engine, sdk: docker.DockerClient
) -> None:
    invoker = make_invoker(stem_cells=0, pause_grace_s=0.1, idle_s=2.0)
    first = invoker.submit(invocation(payload={"n": 1}, kind="blackbox", image=in_docker.image)).result(30)
    assert (first.status, first.result) == (Status.SUCCESS, {"n": 1})
    eventually(lambda: states(sdk) == ["paused"])
    again = invoker.submit(invocation(payload={"n": 2}, kind="blackbox", image=in_docker.image)).result(30)
    assert (again.result, invoker.stats()["warmStarts"]) == ({"n": 2}, 1)
    eventually(lambda: states(sdk) == [])


def test_calls_at_once_have_a_container_each(
    make_invoker: MakeInvoker, invocation: Make, in_docker: Engine, sdk: docker.DockerClient
) -> None:
    invoker = make_invoker(stem_cells=0, user_memory_mib=1024)
    code = "import time\ndef main(args):\n    time.sleep(1)\n    return args\n"
    calls = [
        invoker.submit(invocation(code, {"n": n}, kind="blackbox", image=in_docker.image, memory=128)) for n in range(6)
    ]
    assert [call.result(60).result for call in calls] == [{"n": n} for n in range(6)]
    assert len(states(sdk)) == 6


def test_want_of_memory_is_told(
    make_invoker: MakeInvoker, invocation: Make, in_docker: Engine, image_of: Callable[[str], str]
) -> None:
    invoker = make_invoker(stem_cells=0)
    code = "def main(args):\n    return {'size': len(bytearray(400 << 20))}\n"
    outcome = invoker.submit(invocation(code, kind="blackbox", image=in_docker.image, memory=128)).result(30)
    assert outcome.status is Status.DEVELOPER_ERROR  # what the runtime says of its executor

    outcome = invoker.submit(invocation(kind="blackbox", image=image_of(GREEDY), memory=128)).result(30)
    assert (outcome.status, outcome.result) == (Status.DEVELOPER_ERROR, {"error": OUT_OF_MEMORY})


def test_a_container_that_is_killed_takes_its_call_with_it_and_no_other(
    make_invoker: MakeInvoker, invocation: Make, eventually: Eventually, in_docker: Engine, sdk: docker.DockerClient
) -> None:
    invoker = make_invoker(stem_cells=0)
    code = "import time\ndef main(args):\n    time.sleep(args['s'])\n    return {}\n"
    blackbox = {"kind": "blackbox", "image": in_docker.image}
    assert invoker.submit(invocation(code, {"s": 0}, **blackbox)).result(30).status is Status.SUCCESS
    lost = invoker.submit(invocation(code, {"s": 20}, **blackbox))
    (container,) = [found for found in sdk.containers.list() if found.name.startswith("wsk")]
    container.kill()
    assert lost.result(30).status is Status.DEVELOPER_ERROR
    assert invoker.submit(invocation(code, {"s": 0}, **blackbox)).result(30).status is Status.SUCCESS


def test_a_call_for_a_container_that_has_just_died_gets_another(
    make_invoker: MakeInvoker, invocation: Make, in_docker: Engine, sdk: docker.DockerClient
) -> None:
    invoker = make_invoker(stem_cells=0)
    blackbox = {"kind": "blackbox", "image": in_docker.image}
    assert invoker.submit(invocation(**blackbox)).result(30).status is Status.SUCCESS
    for container in sdk.containers.list():
        container.kill()
    outcome = invoker.submit(invocation(**blackbox)).result(30)
    assert outcome.status is Status.SUCCESS and outcome.init_ms is not None


def test_an_image_without_sentinels_is_not_waited_for_and_stays_warm(
    make_invoker: MakeInvoker, invocation: Make, image_of: Callable[[str], str], eventually: Eventually
) -> None:
    invoker, image = make_invoker(stem_cells=0, pause_grace_s=1.0), image_of(PLAIN)
    for run, before in enumerate((["stdout: hello"], [], []), start=1):
        outcome = invoker.submit(invocation(kind="blackbox", image=image)).result(30)
        answered = time.time() * 1000 - outcome.end_ms
        assert (outcome.status, outcome.result) == (Status.SUCCESS, {"runs": run})
        assert [line[31:] for line in outcome.logs] == [*before, f"stdout: run {run}"]
        assert answered < 1900  # what is waited for sentinels where there are any is 2 s
    eventually(lambda: invoker.stats()["containerPool_pausedCount"] == 1)


def test_an_image_that_ends_at_once_says_what_it_wrote(
    make_invoker: MakeInvoker, invocation: Make, image_of: Callable[[str], str]
) -> None:
    image = image_of("exit('no luck')")
    outcome = make_invoker(stem_cells=0).submit(invocation(kind="blackbox", image=image)).result(30)
    assert (outcome.status, outcome.result) == (Status.DEVELOPER_ERROR, {"error": INIT_DIED})
    assert [line[31:] for line in outcome.logs] == ["stderr: no luck", f"stderr: {NOT_AS_EXPECTED}"]
    assert outcome.init_ms is not None


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_image_that_never_listens_takes_the_actions_time(
    make_invoker: MakeInvoker,
    invocation: Make,
    image_of: Callable[[str], str],
    eventually: Eventually,
    concurrency: int,
) -> None:
    image = image_of("import time\nprint('I think', flush=True)\ntime.sleep(99)")
    invoker = make_invoker(stem_cells=0, concurrency=concurrency)
    invocations = [
        invocation(kind="blackbox", image=image, timeout=1500, concurrency=concurrency) for _ in range(concurrency)
    ]
    for call in [invoker.submit(one) for one in invocations]:
        outcome = call.result(30)
        assert outcome.status is Status.DEVELOPER_ERROR and outcome.timed_out
        assert outcome.result["error"].endswith("time limits of 1500 milliseconds during initialization.")
        assert 1500 <= outcome.init_ms < 3000
        assert outcome.logs[0].endswith("stdout: I think")
    eventually(lambda: invoker.stats()["containersRemoved"] == concurrency)


def test_an_engine_that_hangs_holds_up_all_calls_once(
    make_invoker: MakeInvoker, invocation: Make, monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    monkeypatch.setattr("deploy.standalone.invoker.docker_engine.CONNECT_TIMEOUT_S", 0.4)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(run_dir / "docker.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{run_dir}/docker.sock")
        invoker = make_invoker(stem_cells=0)
        before = time.monotonic()
        calls = [invoker.submit(invocation(kind="blackbox", image="owner/image:1")) for _ in range(12)]
        assert {call.result(30).status for call in calls} == {Status.DEVELOPER_ERROR}
        assert time.monotonic() - before < 12 * 0.4


def test_without_an_engine_a_blackbox_action_fails_as_for_an_image_that_is_not_there(
    make_invoker: MakeInvoker, invocation: Make, monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{run_dir}/none.sock")
    outcome = make_invoker(stem_cells=0).submit(invocation(kind="blackbox", image="owner/image:1")).result(30)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert outcome.result == {"error": "Failed to pull container image 'owner/image:1'."}
