"""CPU threads of this container: as many as make decoding faster now.

Import this module before torch. What is best changes while a container runs, with its quota (which the resource manager
moves) and with what others leave of the cores. Measured on two cores with SmolLM2-135M, decoding at batch 1: under a
quota of one core one thread makes 24 tokens/s and two make 16, since what the second spends on waiting is charged too;
with both cores free two threads make 36; with one of them busy two make 12, since every parallel region waits for the
thread that was not scheduled. So the quota sets the most, and time decides.

Waiting threads spin for some microseconds before they sleep in the kernel (without that, two threads make 26 tokens/s
instead of 36); by default they would spin on, and be throttled for it.
"""

from __future__ import annotations

import math
import os
import statistics
import threading
from collections.abc import Callable
from functools import cache

from action_runtime.slices import CpuQuota

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

WINDOW = 4
"""Decoding steps over which a number of threads is judged."""

PATIENCE = 24, 192
"""Decoding steps between trials of another number: at first, and at most after trials in vain, which double it."""

WORTH = 0.9
"""More threads must take less than this share of the time of fewer: they cost CPU time that others could use."""


class ThreadTuner:
    """Chooses a number of threads for each step from how long recent steps took.

    Numbers tried are 1, 2, 4, ... up to ``most()``; a trial of a neighbouring number lasts :data:`WINDOW` steps.
    Thread-safe; steps that run at the same time slow each other, and what they took is judged like any contention.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._limit = 0
        self._settled = 1
        self._trial: int | None = None
        self._settled_s: float | None = None
        self._window: list[float] = []
        self._since_trial = 0
        self._patience = PATIENCE[0]
        self._upwards = True
        self._lock = threading.Lock()

    def count(self) -> int:
        """Threads for the next step."""
        with self._lock:
            return self._next()

    def took(self, count: int, seconds: float) -> None:
        """A step of one token with ``count`` threads, which :meth:`count` had named, took so long."""
        with self._lock:
            if count == (self._trial or self._settled):  # else it began before the number was changed
                self._learn(seconds)

    def _next(self) -> int:
        limit = self._most()
        if limit != self._limit:
            # A new quota is a new situation: settle below it, and look upwards as soon as the present is measured.
            self._settled, self._limit = min(self._settled, limit), limit
            self._start_window(None)
            self._settled_s, self._since_trial, self._patience, self._upwards = None, PATIENCE[0], PATIENCE[0], True
        return self._trial or self._settled

    def _learn(self, seconds: float) -> None:
        self._window.append(seconds)
        if self._trial is not None and sum(self._window) > (WINDOW + 1) * (self._settled_s or math.inf):
            self._conclude(math.inf)  # whatever comes, it has lost
        elif len(self._window) > WINDOW:
            measured = statistics.median(self._window[1:])  # the first after a change pays for it
            if self._trial is not None:
                self._conclude(measured)
                return
            self._settled_s = measured
            self._since_trial += WINDOW
            self._window = self._window[-1:]
            if self._since_trial >= self._patience:
                self._try_neighbour()

    def _conclude(self, trial_s: float) -> None:
        assert self._trial is not None and self._settled_s is not None
        times = {self._trial: trial_s, self._settled: self._settled_s}
        fewer, more = sorted(times)
        better = more if times[more] < WORTH * times[fewer] else fewer
        moved = better != self._settled
        self._patience = PATIENCE[0] if moved else min(2 * self._patience, PATIENCE[1])
        self._upwards = better > self._settled if moved else not self._upwards
        self._settled, self._settled_s = better, times[better]
        self._start_window(None)

    def _try_neighbour(self) -> None:
        self._since_trial = 0
        up, down = min(2 * self._settled, self._limit), max(1, self._settled // 2)
        candidate = up if self._upwards else down
        if candidate == self._settled:
            candidate = down if self._upwards else up
        if candidate != self._settled:
            self._start_window(candidate)

    def _start_window(self, trial: int | None) -> None:
        self._trial = trial
        self._window = []


def use(count: int) -> None:
    """Let torch compute with ``count`` threads on the calling thread."""
    import torch

    if count != torch.get_num_threads():
        torch.set_num_threads(count)


@cache
def tuner() -> ThreadTuner:
    """The one of this process."""
    quota = CpuQuota()
    return ThreadTuner(lambda: max(1, math.floor(quota.cores() + 0.5)))
