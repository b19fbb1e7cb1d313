"""The processes of a container under test."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from tests.action_runtime.container import Container


def processes(container: Container) -> list[psutil.Process]:
    """The proxy, the zygote, and what else it has started."""
    proxy = psutil.Process(container.process.pid)
    return [proxy, *proxy.children(recursive=True)]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def gone(found: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in found)
