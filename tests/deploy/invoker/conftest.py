"""An invoker with real containers, and a short way to say which action to run."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.standalone.invoker import InvokerSettings, ProcessInvoker
from deploy.standalone.model import Invocation, Limits, Runnable
from rm_agent.cgroup import detect
from tests.docker.engine import Engine

if TYPE_CHECKING:
    import docker

ECHO = "def main(args):\n    return args\n"
MakeInvoker = Callable[..., ProcessInvoker]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short enough for Unix sockets, which pytest's own temporary folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="inv-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_invoker(run_dir: Path) -> Iterator[MakeInvoker]:
    """Makes invokers with control groups where these are writable, and closes them."""
    made: list[ProcessInvoker] = []
    group = f"owltest-{uuid.uuid4().hex[:8]}" if os.geteuid() == 0 and detect() else None

    def make(**changes: Any) -> ProcessInvoker:
        settings = {
            "user_memory_mib": 2048,
            "api_host": "http://localhost:3233",
            "run_dir": run_dir,
            "stem_cells": 1,
            "cgroup": group,
        }
        made.append(ProcessInvoker(InvokerSettings(**(settings | changes))))
        return made[-1]

    yield make
    for invoker in made:
        invoker.close(0)


@pytest.fixture
def sdk(in_docker: Engine) -> Iterator[docker.DockerClient]:
    """A client of the engine that containers are made by."""
    import docker

    client = docker.DockerClient(base_url=in_docker.host)
    yield client
    client.close()


@pytest.fixture(scope="session")
def invocation() -> Callable[..., Invocation]:
    """Makes an invocation of the given code with the given payload."""
    return _invocation


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits for what happens in the background."""
    return _eventually


def _invocation(code: str = ECHO, payload: Any = None, *, name: str = "act", revision: str = "1", **more: Any) -> Invocation:
    """``more``: memory, timeout, logs (limits), or fields of Runnable and Invocation."""
    limits = Limits(more.pop("timeout", 20_000), more.pop("memory", 256), more.pop("logs", 10), more.pop("concurrency", 1))
    api_key, user = more.pop("api_key", None), more.pop("user", "guest")
    action = Runnable("guest", name, "0.0.1", revision, more.pop("kind", "python:3.11"), code, False, "main", limits, **more)
    return Invocation(
        activation_id=uuid.uuid4().hex,
        transaction_id="tid",
        action=action,
        payload={} if payload is None else payload,
        received_ms=time.time_ns() // 1_000_000,
        namespace=user,
        api_key=api_key,
    )


def _eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)
