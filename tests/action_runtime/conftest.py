"""Containers for the tests of the action runtime."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.action_runtime.container import Container


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Starts containers; keyword arguments are their environment, but for ``kind``."""
    containers: list[Container] = []

    def start_one(kind: str | None = None, **env: str) -> Container:
        folder = tmp_path / str(len(containers))
        folder.mkdir()
        containers.append(Container(folder, kind, **env))
        return containers[-1]

    yield start_one
    for container in containers:
        container.close()


@pytest.fixture
def container(start: Callable[..., Container]) -> Container:
    return start()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a resource manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "node"))
        listener.settimeout(5)
        yield listener
