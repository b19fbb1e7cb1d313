"""What the machine and the manager do while a trace is replayed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from rm_agent.journal import activations, history
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
    """Give each invocation what the manager's journal tells about its activation.

    ``lender`` is whether its container had lent something of its own, be it while idle, before the call ended.
    """
    keys = (
        "own_cpu", "min_cpu", "max_cpu", "own_memory", "min_memory", "max_memory", "peak_cpu", "peak_memory",
        "harvested", "accelerated",
    )  # fmt: skip
    found = {use.activation: use for use in activations(journal)}
    first_loans = {
        container: _first_loan(journal, container) for container in {use.container for use in found.values()}
    }
    for call in invocations:
        use = found.get(call.activation or "")
        if use is not None:
            call.use = {key: getattr(use, key) for key in keys}
            call.use["lender"] = first_loans[use.container] < use.end_s


def _first_loan(journal: Path, container: str) -> float:
    """When ``container`` was first cut below its own, in seconds since the epoch; infinity for never."""
    own: dict[str, int] = {}
    for step in reversed(history(journal, container, limit=1_000_000)):
        if step.kind == "own":
            own[step.resource] = step.after
        elif step.kind == "resize" and step.after < own.get(step.resource, 0):
            return step.time_s
    return math.inf
