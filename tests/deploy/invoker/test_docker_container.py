"""Containers of a real Docker Engine, as the invoker handles them."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from deploy.standalone.invoker import InvokerSettings, leftovers
from deploy.standalone.invoker.container import ImageUnavailable, StartFailed
from deploy.standalone.invoker.docker_container import DockerContainer
from deploy.standalone.invoker.docker_engine import DockerEngine, EngineError
from deploy.standalone.invoker.flavour import Flavour
from rm_agent.cgroup import CgroupDriver, detect
from rm_agent.telemetry.reports import ReportSocket
from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

START_S = 20.0
Start = Callable[..., DockerContainer]


@pytest.fixture
def engine(in_docker: Engine) -> Iterator[DockerEngine]:
    found = DockerEngine.connect()
    assert found is not None
    yield found
    found.close()


@pytest.fixture
def settings(tmp_path: Path) -> InvokerSettings:
    return InvokerSettings(4096, "http://localhost:3233", tmp_path, container_env={"COLOUR": "green"})


@pytest.fixture
def start(engine: DockerEngine, in_docker: Engine, settings: InvokerSettings) -> Iterator[Start]:
    made: list[DockerContainer] = []

    def start_one(name: str = "wsk0_1_guest_act", image: str = in_docker.image, memory: int = 128) -> DockerContainer:
        made.append(DockerContainer(name, settings, engine, detect(), Flavour(None, image), memory))
        return made[-1]

    yield start_one
    for container in made:
        container.destroy()


def readable(descriptor: int, seconds: float = START_S) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def post(container: DockerContainer, path: str, value: Any) -> tuple[int, Any]:
    client = http.client.HTTPConnection("container")
    client.sock = container.connect()
    client.sock.settimeout(START_S)
    client.request("POST", path, json.dumps({"value": value}), {"Content-Type": "application/json"})
    response = client.getresponse()
    status, result = response.status, json.loads(response.read())
    client.close()
    return status, result


def run(container: DockerContainer, code: str) -> tuple[int, Any]:
    assert readable(container.ready) and os.read(container.ready, 9) == b"1"
    assert post(container, "/init", {"name": "act", "main": "main", "code": code, "binary": False})[0] == 200
    return post(container, "/run", {})


def output(descriptor: int, until: bytes) -> bytes:
    data = b""
    while until not in data:
        assert readable(descriptor)
        data += os.read(descriptor, 65536)
    return data


def gone(sdk: docker.DockerClient) -> bool:
    return not [found for found in sdk.containers.list(all=True, ignore_removed=True) if found.name.startswith("wsk")]


def test_it_gets_what_openwhisk_gives_and_no_log_file(
    start: Start, sdk: docker.DockerClient, engine: DockerEngine
) -> None:
    start("wsk0_7_guest_act", memory=128)
    about = sdk.containers.get("wsk0_7_guest_act").attrs
    host, environment = about["HostConfig"], about["Config"]["Env"]
    assert (host["CpuShares"], host["PidsLimit"], host["NetworkMode"]) == (32, 1024, "bridge")
    assert host["Memory"] == host["MemorySwap"] == 128 << 20
    assert host["CapDrop"] == ["NET_RAW", "NET_ADMIN"]
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 1024, "Soft": 1024}]
    assert host["LogConfig"]["Type"] == "none"
    assert f"__OW_API_HOST=http://{engine.gateway}:3233" in environment
    assert "COLOUR=green" in environment and "OWL_CONTAINER=wsk0_7_guest_act" in environment


def test_it_serves_an_action_and_its_two_streams(start: Start) -> None:
    container = start()
    code = (
        "import sys\ndef main(args):\n    print('to', 'out')\n    print('to err', file=sys.stderr)\n"
        "    return {'ok': 1}\n"
    )
    assert run(container, code) == (200, {"ok": 1})
    assert output(container.streams[0], b"XXX_THE_END").startswith(b"to out\n")
    assert output(container.streams[1], b"XXX_THE_END").startswith(b"to err\n")
    assert not container.out_of_memory()


def test_a_claim_gives_cpu_and_memory_that_docker_update_may_change(start: Start, sdk: docker.DockerClient) -> None:
    container = start()
    container.claim(500, 256)
    host = sdk.containers.get(container.name).attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 256 << 20, 256 << 20)
    container.claim(64_000, 256)  # more than there are: all
    assert sdk.containers.get(container.name).attrs["HostConfig"]["NanoCpus"] == os.cpu_count() * 1_000_000_000


def test_a_paused_container_answers_when_it_is_resumed_and_can_be_destroyed_paused(
    start: Start, sdk: docker.DockerClient
) -> None:
    container = start()
    assert run(container, "def main(args):\n    return {}\n") == (200, {})
    container.pause()
    assert sdk.containers.get(container.name).status == "paused"
    container.resume()
    assert post(container, "/run", {}) == (200, {})
    container.pause()
    container.destroy()
    assert gone(sdk)


def test_memory_beyond_the_limit_is_noticed_before_and_after_the_container_has_ended(start: Start) -> None:
    container = start()
    assert run(container, "def main(args):\n    return {'size': len(bytearray(400 << 20))}\n")[0] != 200
    assert container.out_of_memory()
    container._engine._client.kill(container._id)
    assert readable(container.exited)
    assert container.out_of_memory()


def test_an_exit_is_told(start: Start) -> None:
    container = start()
    assert readable(container.ready)
    assert not readable(container.exited, 0.05)
    container._engine._client.kill(container._id)
    assert readable(container.exited)
    assert not container.out_of_memory()


@pytest.mark.parametrize("image", ["owlbb/none:1", "owlbb/none", "Not An Image!", ":x", "\ud800"])
def test_an_image_that_cannot_be_had(start: Start, image: str) -> None:
    with pytest.raises(ImageUnavailable) as raised:
        start(image=image)
    assert str(raised.value) == f"Failed to pull container image '{image}'."


def test_only_images_of_a_moving_tag_are_pulled_although_they_are_there(
    start: Start, in_docker: Engine, sdk: docker.DockerClient, engine: DockerEngine
) -> None:
    sdk.images.get(in_docker.image).tag("owl-test-moving", "latest")
    try:
        for image in ("owl-test-moving", "owl-test-moving:latest"):
            with pytest.raises(ImageUnavailable):
                engine.provide(image, managed=False)
            engine.provide(image, managed=True)
    finally:
        sdk.images.remove("owl-test-moving:latest")


def test_two_servers_may_number_their_containers_alike(start: Start, sdk: docker.DockerClient) -> None:
    first, second = start("wsk0_1_prewarm_python311"), start("wsk0_1_prewarm_python311")
    names = {found.name for found in sdk.containers.list()}
    assert len(names) == 2 and all(name.endswith("_1_prewarm_python311") for name in names)
    first.destroy()
    assert readable(second.ready) and os.read(second.ready, 1) == b"1"


def test_containers_reach_a_socket_of_this_machine(engine: DockerEngine, start: Start) -> None:
    with engine.listen(0) as listening:
        port = listening.getsockname()[1]
        code = (
            "import socket\ndef main(args):\n"
            f"    return {{'peer': socket.create_connection(('{engine.gateway}', {port}), 5).getpeername()[1]}}\n"
        )
        assert run(start(), code) == (200, {"peer": port})


@contextlib.contextmanager
def listening(path: Path, driver: CgroupDriver, senders: list[str | None]) -> Iterator[None]:
    with contextlib.closing(ReportSocket(path)) as reports:
        handling = (driver.of_pid, lambda report, group, received: senders.append(group))
        threading.Thread(target=reports.listen, args=handling, daemon=True).start()
        yield


@pytest.mark.parametrize(("beside", "shown"), [("other.sock", "node"), ("keys", "node/node.sock")])
def test_of_a_folder_with_more_than_sockets_only_the_socket_is_shown(
    engine: DockerEngine, settings: InvokerSettings, in_docker: Engine, sdk: docker.DockerClient, run_dir: Path,
    beside: str, shown: str,
) -> None:  # fmt: skip
    folder = run_dir / "node"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as other:
        ours.bind(str(folder / "node.sock"))
        other.bind(str(folder / beside)) if beside.endswith("sock") else (folder / beside).touch()
        settings = dataclasses.replace(settings, node_socket=str(folder / "node.sock"))
        container = DockerContainer("wsk0_1_guest_act", settings, engine, None, Flavour(None, in_docker.image), 128)
        try:
            binds = sdk.containers.get(container.name).attrs["HostConfig"]["Binds"]
            assert binds == [f"{run_dir / shown}:{run_dir / shown}:ro"]
        finally:
            container.destroy()


def test_reports_of_the_runtime_come_from_the_servers_group(
    engine: DockerEngine, settings: InvokerSettings, in_docker: Engine, run_dir: Path, eventually: Callable[..., None]
) -> None:
    driver, group = detect(), f"owltest-{os.getpid()}"
    if driver is None:
        pytest.skip("needs writable control groups")
    senders: list[str | None] = []
    path = run_dir / "node" / "node.sock"
    path.parent.mkdir()
    settings = dataclasses.replace(settings, cgroup=group, node_socket=str(path))
    container = DockerContainer("wsk0_1_guest_act", settings, engine, driver, Flavour(None, in_docker.image), 128)
    try:
        with listening(path, driver, senders):
            assert run(container, "def main(args):\n    return {}\n") == (200, {})
            eventually(lambda: len(senders) == 4)
        with listening(path, driver, senders):  # the manager was started anew
            assert post(container, "/run", {}) == (200, {})
            eventually(lambda: len(senders) == 6)
    finally:
        container.destroy()
        leftovers.dissolve(driver, group)
    assert set(senders) == {f"{group}/{container._id}"}
    assert not list(driver.root.glob(f"*/{group}"))


def test_a_previous_servers_containers_are_removed_and_only_those(
    start: Start, engine: DockerEngine, settings: InvokerSettings, sdk: docker.DockerClient, tmp_path: Path
) -> None:
    start(), start("wsk0_2_guest_act").pause()
    assert leftovers.clear_docker(engine, tmp_path / "another", None) == 0
    assert leftovers.clear_docker(engine, settings.run_dir, None) == 2
    assert gone(sdk)


def test_an_engine_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for host in (f"unix://{tmp_path}/none.sock", "tcp://192.0.2.1:2375", "ssh://user@192.0.2.1", "nonsense"):
        monkeypatch.setenv("DOCKER_HOST", host)
        before = time.monotonic()
        assert DockerEngine.connect() is None
        assert time.monotonic() - before < 5


class Relay:
    """Passes bytes between its socket and the engine's, until it is cut."""

    def __init__(self, path: Path, host: str) -> None:
        self.host = f"unix://{path}"
        self._target = host.removeprefix("unix://")
        self._ends: list[socket.socket] = [socket.socket(socket.AF_UNIX)]
        self._ends[0].bind(str(path))
        self._ends[0].listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._ends[0].accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._target)
                self._ends += [client, engine]
                for pair in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_an_engine_that_dies_ends_its_containers_and_every_request_with_an_error(
    in_docker: Engine, settings: InvokerSettings, monkeypatch: pytest.MonkeyPatch, run_dir: Path, engine: DockerEngine
) -> None:
    if not in_docker.host.startswith("unix://"):
        pytest.skip("the engine is not reached by a Unix socket")
    relay = Relay(run_dir / "docker.sock", in_docker.host)
    monkeypatch.setenv("DOCKER_HOST", relay.host)
    monkeypatch.setattr("deploy.standalone.invoker.docker_engine.REMOVAL_TIMEOUT_S", 0.1)
    relayed = DockerEngine.connect()
    assert relayed is not None
    container = DockerContainer("wsk0_1_guest_act", settings, relayed, None, Flavour(None, in_docker.image), 128)
    try:
        assert readable(container.ready)
        relay.cut()
        assert readable(container.exited)
        with pytest.raises(EngineError, match="does not answer"):
            container.pause()
        with pytest.raises(StartFailed):
            DockerContainer("wsk0_2_guest_act", settings, relayed, None, Flavour("python:3.11", in_docker.image), 128)
        container.destroy()
    finally:
        assert leftovers.clear_docker(engine, settings.run_dir, None) == 1
