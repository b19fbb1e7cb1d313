"""The image: what its files say, and, where there is an engine, that it serves."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.docker.engine import Engine


def test_manifest_names_the_image_of_the_default_kind(repository: Path) -> None:
    manifest = json.loads((repository / "runtime-image/runtimes.json").read_text())
    (entry,) = manifest["runtimes"]["python"]
    assert (entry["kind"], entry["default"], entry["deprecated"]) == ("python:3.11", True, False)
    assert entry["image"]["tag"] not in ("", "latest")  # OpenWhisk would pull it at each start
    image = "{prefix}/{name}:{tag}".format(**entry["image"])
    assert image in (repository / "runtime-image/Dockerfile").read_text()


@pytest.fixture
def container(docker_engine: Engine) -> Iterator[tuple[Container, int]]:
    """A container of the image without the LLM packages, and its port."""
    client = docker.DockerClient(base_url=docker_engine.host)
    started = client.containers.run(
        docker_engine.image,
        detach=True,
        mem_limit="128m",
        pids_limit=1024,
        cap_drop=["ALL"],
        ports={8080: ("127.0.0.1", None)},
    )
    try:
        started.reload()
        yield started, int(started.ports["8080/tcp"][0]["HostPort"])
    finally:
        started.remove(force=True)
        client.close()


def post(port: int, path: str, value: object) -> tuple[int, object]:
    end = time.monotonic() + 10
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            client.request("POST", path, json.dumps(value))
            response = client.getresponse()
            return response.status, json.loads(response.read())
        except (ConnectionError, http.client.BadStatusLine):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        finally:
            client.close()


@pytest.mark.docker
@pytest.mark.slow
def test_the_image_serves_without_root_and_stops_at_once(container: tuple[Container, int]) -> None:
    started, port = container
    code = "import os\ndef main(args):\n    print('hello')\n    return {'uid': os.getuid(), 'cwd': os.getcwd()}\n"
    assert post(port, "/init", {"value": {"code": code}}) == (200, {"ok": True})
    assert post(port, "/run", {"value": {}}) == (200, {"uid": 65534, "cwd": "/action/1/bin"})
    assert started.logs(stdout=True, stderr=False).splitlines()[0] == b"hello"
    before = time.monotonic()
    started.stop(timeout=10)
    assert time.monotonic() - before < 5
