"""Blackbox actions, and managed kinds in Docker, through the API with a real engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from tests.deploy.standalone.test_serve import started
from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HELLO = """
import sys

def main(args):
    print("hello", args.get("name"))
    print("oh", file=sys.stderr)
    return {"name": args.get("name")}
"""
GREEDY = "def main(args):\n    return {'size': len(bytearray(400 << 20))}\n"
NAP = "import time\ndef main(args):\n    time.sleep(9)\n    return {}\n"


@pytest.fixture
def sdk(in_docker: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=in_docker.host)
    yield client
    client.close()


def ours(sdk: docker.DockerClient) -> list[Any]:
    return [found for found in sdk.containers.list(all=True, ignore_removed=True) if found.name.startswith("wsk")]


def annotation(record: dict[str, Any], key: str) -> Any:
    return next((entry["value"] for entry in record["annotations"] if entry["key"] == key), None)


def logs_of(guest: Any, record: dict[str, Any]) -> list[str]:
    """Without their times, by stream: Docker keeps no order between the two."""
    found: list[str] = []

    def stored() -> bool:
        found[:] = guest.ns("GET", f"activations/{record['activationId']}/logs").json().get("logs", [])
        return bool(found)

    eventually(stored)
    return sorted(line[31:] for line in found)


def put(guest: Any, name: str, code: str, image: str, **body: Any) -> None:
    exec_ = {"kind": "blackbox", "image": image, "code": code}
    reply = guest.ns("PUT", f"actions/{name}?overwrite=true", {"exec": exec_, **body})
    assert reply.status_code == 200, reply.text


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def test_blackbox_actions(serving: Any, client: Any, in_docker: Engine, sdk: docker.DockerClient) -> None:
    with serving(stem_cells=0) as server:
        guest = client(server.url)
        put(guest, "hello", HELLO, in_docker.image)

        cold = guest.invoke("hello", {"name": "box"}).json()
        assert cold["response"]["result"] == {"name": "box"}
        assert annotation(cold, "kind") == "blackbox" and annotation(cold, "initTime") > 0
        warm = guest.invoke("hello", {"name": "again"}).json()
        assert warm["response"]["result"] == {"name": "again"} and annotation(warm, "initTime") is None
        assert logs_of(guest, warm) == ["stderr: oh", "stdout: hello again"]
        assert len(ours(sdk)) == 1

        put(guest, "big", GREEDY, in_docker.image, limits={"memory": 128})
        reply = guest.invoke("big")
        assert reply.status_code == 502

        put(guest, "nap", NAP, in_docker.image, limits={"timeout": 300})
        assert "time limits of 300" in guest.invoke("nap").json()["response"]["result"]["error"]

        missing = "owlbb/none:1"
        put(guest, "missing", HELLO, missing)
        reply = guest.invoke("missing")
        assert reply.status_code == 502
        response = reply.json()["response"]
        assert response["status"] == "action developer error"
        assert response["result"] == {"error": f"Failed to pull container image '{missing}'."}

        eventually(lambda: len(ours(sdk)) == 1)
    assert ours(sdk) == []


def test_an_action_in_a_container_reaches_the_api(serving: Any, client: Any, in_docker: Engine) -> None:
    code = (
        "import os, urllib.request\ndef main(args):\n"
        "    answer = urllib.request.urlopen(os.environ['__OW_API_HOST'] + '/ping', timeout=5)\n"
        "    return {'ping': answer.read().decode()}\n"
    )
    with serving(stem_cells=0) as server:
        guest = client(server.url)
        put(guest, "ping", code, in_docker.image)
        assert guest.invoke("ping", query="&result=true").json() == {"ping": "pong"}


def test_managed_kinds_in_docker_start_from_stem_cells_and_get_the_actions_cpu(
    client: Any, in_docker: Engine, sdk: docker.DockerClient, serving: Any
) -> None:
    with serving(containers="docker", images={"python:3.11": in_docker.image}, stem_cells=1) as server:
        eventually(lambda: len(ours(sdk)) == 1)
        guest = client(server.url)
        half = [{"key": "resources", "value": {"cpu": 500}}]
        guest.put_action("hello", HELLO, limits={"memory": 128}, annotations=half)
        record = guest.invoke("hello", {"name": "stem"}).json()
        assert record["response"]["result"] == {"name": "stem"}
        assert annotation(record, "kind") == "python:3.11"
        (claimed,) = [found for found in ours(sdk) if found.attrs["HostConfig"]["NanoCpus"]]
        assert claimed.name == "wsk0_1_prewarm_python311"
        host = claimed.attrs["HostConfig"]
        assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 128 << 20)


@pytest.mark.parametrize("warden_lives", [True, False])
def test_no_container_outlives_a_killed_server_and_its_successor(
    warden_lives: bool, tmp_path: Path, client: Any, in_docker: Engine, sdk: docker.DockerClient
) -> None:
    options = ("--port", "0", "--cgroup", f"owltest-{os.getpid()}")
    with started(*options, home=tmp_path) as (process, url, _):
        guest = client(url)
        put(guest, "hello", HELLO, in_docker.image)
        assert guest.invoke("hello").status_code == 200
        assert len(ours(sdk)) == 1
        for child in psutil.Process(process.pid).children():
            if not warden_lives and "deploy.standalone.warden" in child.cmdline():
                child.kill()
        process.kill()
        process.wait(10)
    if not warden_lives:
        assert len(ours(sdk)) == 1
        with started(*options, home=tmp_path):
            eventually(lambda: not ours(sdk))
    eventually(lambda: not ours(sdk))
