"""The image: what its files say, and, where there is an engine, that it serves."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BASE = os.environ.get("OWL_TEST_BASE_IMAGE")


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_manifest_names_the_image_of_the_default_kind(repository: Path) -> None:
    manifest = json.loads((repository / "runtime-image/runtimes.json").read_text())
    (entry,) = manifest["runtimes"]["python"]
    assert (entry["kind"], entry["default"], entry["deprecated"]) == ("python:3.11", True, False)
    assert entry["image"]["tag"] not in ("", "latest")  # OpenWhisk would pull it at each start
    image = "{prefix}/{name}:{tag}".format(**entry["image"])
    assert image in (repository / "runtime-image/Dockerfile").read_text()


@pytest.fixture
def container(repository: Path, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """(id, port) of a container of the image without the LLM packages."""
    context = tmp_path / "context"
    shutil.copytree(repository / "runtime-image", context, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(context / "wheels"), "-r", str(context / "requirements.txt")]
    subprocess.run(fetch, check=True)
    tag = f"owl-test-runtime:{os.getpid()}"
    docker("build", "-q", "-t", tag, "--build-arg", f"BASE={BASE}", "--build-arg", "PACKAGES=", str(context))
    name = docker("run", "-d", "--memory", "128m", "--pids-limit", "1024", "--cap-drop", "ALL", "-p", "127.0.0.1::8080", tag)
    try:
        yield name, int(docker("port", name, "8080/tcp").splitlines()[0].rpartition(":")[2])
    finally:
        docker("rm", "-f", name)
        docker("rmi", "-f", tag)


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
@pytest.mark.skipif(not BASE, reason="OWL_TEST_BASE_IMAGE names no image with Python 3.11 and pip")
def test_the_image_serves_without_root_and_stops_at_once(container: tuple[str, int]) -> None:
    name, port = container
    code = "import os\ndef main(args):\n    print('hello')\n    return {'uid': os.getuid(), 'cwd': os.getcwd()}\n"
    assert post(port, "/init", {"value": {"code": code}}) == (200, {"ok": True})
    assert post(port, "/run", {"value": {}}) == (200, {"uid": 65534, "cwd": "/action/1/bin"})
    assert docker("logs", name).splitlines()[0] == "hello"
    before = time.monotonic()
    docker("stop", "-t", "10", name)
    assert time.monotonic() - before < 5
