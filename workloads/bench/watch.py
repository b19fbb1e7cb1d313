"""What the machine and the manager do while a trace is replayed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from rm_agent.journal import activations
from workloads.platform import Platform, PlatformError
from workloads.replay import Invocation


class Watch:
    """Once a second, how busy the machine is and what the manager has lent."""

    def __init__(self, platform: Platform) -> None:
        self.cpu: list[list[float]] = []
        self.timeline: list[list[float]] = []
        self._platform = platform
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        start = time.monotonic()
        psutil.cpu_percent()
        while not self._stop.wait(1.0):
            now = round(time.monotonic() - start, 1)
            self.cpu.append([now, psutil.cpu_percent()])
            if self._platform.managed:
                try:
                    self.timeline.append([now, *_totals(self._platform.state())])
                except PlatformError:
                    # A gap in a plot; an agent that has died is found after the replay.
                    continue


def _totals(state: dict[str, Any]) -> list[float]:
    containers = state["containers"]
    busy, idle = (
        sum(one["own"]["cpu_millis"] for one in containers if one["running"] is running) for running in (True, False)
    )
    return [busy, idle, *(state["totals"][resource]["lent"] for resource in ("cpu_millis", "memory_mib"))]


def attach(invocations: Sequence[Invocation], journal: Path) -> None:
    """Give each invocation what the manager's journal tells about its activation."""
    keys = (
        "own_cpu", "min_cpu", "max_cpu", "own_memory", "min_memory", "max_memory", "peak_cpu", "peak_memory",
        "harvested", "accelerated",
    )  # fmt: skip
    uses = {use.activation: {key: getattr(use, key) for key in keys} for use in activations(journal)}
    for call in invocations:
        call.use = uses.get(call.activation)
