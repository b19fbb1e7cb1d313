"""What the machine and the manager do while a trace is replayed."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

import psutil

from workloads.platform import Platform, PlatformError


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
