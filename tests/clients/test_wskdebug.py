"""wskdebug takes an action over: its calls run in a container here, and come back as if they had run in the server."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.server import Server
from deploy.standalone.settings import Settings

GUEST = WELL_KNOWN_USERS[0]
CODE = "import os\n\ndef main(args):\n    return {'n': args['n'], 'host': os.uname().nodename}\n"
IMAGE = "owl-test-debugged:1"
READY_S, END_S = 60, 30

pytestmark = [pytest.mark.slow, pytest.mark.node, pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture
def image(docker_engine: Any) -> Iterator[str]:
    """The runtime without an entry point: wskdebug gives containers a command line of its own."""
    dockerfile = f'FROM {docker_engine.image}\nENTRYPOINT []\nCMD ["python3", "-m", "action_runtime"]\n'
    client = docker.DockerClient(base_url=docker_engine.host)
    try:
        client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=IMAGE, rm=True)
        yield IMAGE
    finally:
        client.images.remove(IMAGE, force=True)
        client.close()


@contextmanager
def debugging(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[list[str]]:
    """wskdebug once it is ready; the list grows by what it prints."""
    lines: list[str] = []
    ready = threading.Event()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ready for activations" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(READY_S) and process.poll() is None, "".join(lines)
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


@pytest.mark.parametrize("concurrency", [200, 1], ids=["agent that waits", "agent that polls"])
def test_calls_of_a_debugged_action_run_here(
    concurrency: int, docker_engine: Any, image: str, packages: Path, tmp_path: Path
) -> None:
    # The agents that wskdebug installs require the package openwhisk, which OpenWhisk's own Node.js image brings.
    settings = Settings(
        port=0,
        invocations_per_minute=60_000,
        user_memory_mib=4096,
        max_action_concurrency=concurrency,
        container_env={"NODE_PATH": str(packages)},
    )
    with Server(settings) as server, requests.Session() as guest:
        guest.auth = (GUEST.uuid, GUEST.key)
        action = f"{server.url}/api/v1/namespaces/_/actions/debugged"
        created = guest.put(action, json={"exec": {"kind": "python:3.11", "code": CODE}}, timeout=30).json()

        def called(n: int) -> Any:
            return guest.post(f"{action}?blocking=true&result=true", json={"n": n}, timeout=60).json()

        here = os.uname().nodename
        assert called(0) == {"n": 0, "host": here}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "OW_APIHOST": server.url,
            "OW_AUTH": GUEST.api_key,
            "OW_NAMESPACE": GUEST.name,
            "DOCKER_HOST": docker_engine.host,
        }
        command = ["node", str(packages / ".bin" / "wskdebug"), "debugged", "--image", image, "--cleanup",
                   "--port", "5678", "--internal-port", "5678", "--command", "exec python3 -m action_runtime"]  # fmt: skip
        with debugging(command, environment, tmp_path) as lines:
            results = [called(n) for n in (1, 2)]
            assert [result["n"] for result in results] == [1, 2], "".join(lines)
            assert here not in [result["host"] for result in results]
        restored = guest.get(action, timeout=30).json()
        assert restored["exec"] == created["exec"]
        assert called(3) == {"n": 3, "host": here}
