"""What the agent knows of one container: its calls and its use, from reports and samples."""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from dataclasses import dataclass, field

from rm_agent.cgroup import Cgroup, Usage
from rm_agent.harvest import Allocation
from rm_agent.journal import ActivationUse
from rm_agent.policy import MIB
from rm_agent.profiles import SATURATED, Call, Profile

WINDOW_S = 0.1
MOST_CALLS = 500  # under way in one container, OpenWhisk's highest concurrency; beyond it, ends were lost
BUSY_MILLIS = 20  # use of a window from which a container that does not report counts as busy
QUIET_S = 0.5  # without such a window, after which its call is taken to have ended

_NAME = re.compile(r"wsk[^_]*_\d+_(?P<rest>.+)")


def action_of(name: str) -> str:
    """``guest_hello`` of ``wsk0_3_guest_hello``; nothing for a stem cell, which may have become any action."""
    match = _NAME.fullmatch(name)
    return "" if match is None or match["rest"].startswith("prewarm_") else match["rest"]


@dataclass(slots=True)
class Running:
    """A call under way."""

    activation: str
    initialising: bool  # the action's code is being loaded; no call yet
    started: float  # monotonic seconds
    started_wall: float
    low: Allocation
    high: Allocation
    windows: list[int] = field(default_factory=list)  # millicores used
    saturated: int = 0  # windows
    memory_peak: int = 0

    def peak(self) -> int:
        ranked = sorted(self.windows)
        return ranked[math.ceil(0.95 * len(ranked)) - 1] if ranked else 0


class Container:
    """Thread-safe by its own lock, which is never held while anything else is waited for."""

    def __init__(self, group: Cgroup, own: Allocation, now: float) -> None:
        self.group = group
        self.name = name = group.name
        self.path = group.path
        self.own = own
        self.action = action_of(name)
        self.reports = False
        self.stamp = 0  # changes whenever a call starts or ends
        self.calls: dict[str, Running] = {}
        self.ended = now
        self.busy_at = 0.0
        self.sampled_at = 0.0
        self.checked_at = now
        self.last: Usage | None = None
        self.cpu = 0
        self.throttled = False
        self.recent: deque[int] = deque(maxlen=10)
        self.seen_oom_kills = 0
        self.lock = threading.Lock()

    def running(self, now: float) -> bool:
        with self.lock:
            return bool(self.calls) or now - self.busy_at < 3 * WINDOW_S

    def start(self, activation: str, initialising: bool, alone: bool, has: Allocation, now: float, wall: float) -> None:
        """A call starts; ``alone`` when the runtime says it is the only one, which ends those whose end was lost."""
        with self.lock:
            if alone:
                self.calls.clear()
            self.stamp += 1
            self.recent.clear()
            self.throttled = False
            while len(self.calls) >= MOST_CALLS:
                del self.calls[next(iter(self.calls))]
            self.calls[activation] = Running(activation, initialising, now, wall, has, has)

    def end(self, activation: str, none_left: bool, now: float) -> Running | None:
        with self.lock:
            self.stamp += 1
            run = self.calls.pop(activation, None)
            if none_left:
                self.calls.clear()
            if not self.calls:
                self.ended = now
                self.busy_at = 0.0
            return run

    def resized(self, has: Allocation) -> None:
        """Its allocation changed while calls may be running."""
        with self.lock:
            for run in self.calls.values():
                run.low = Allocation(*map(min, run.low, has))
                run.high = Allocation(*map(max, run.high, has))

    def sample(self, usage: Usage, cpu_allocated: int, shortest_s: float = 0.05) -> bool:
        """Take in a sample; ``False`` when it follows the last one too closely to mean anything.

        Use is over at least one quota period, within which a container may run faster than its quota.
        """
        with self.lock:
            last, now = self.last, usage.time_ns / 1e9
            if last is None:
                self.last, self.sampled_at, self.seen_oom_kills = usage, now, usage.oom_kills
                return False
            seconds = (usage.time_ns - last.time_ns) / 1e9
            if seconds < shortest_s:
                return False
            self.last, self.sampled_at = usage, now
            self.cpu = round((usage.cpu_usec - last.cpu_usec) / max(seconds, WINDOW_S) / 1e3)
            self.throttled = usage.throttled_periods > last.throttled_periods
            self.recent.append(self.cpu)
            # A window that began before the last call ended shows that call's use.
            if self.cpu >= BUSY_MILLIS and last.time_ns / 1e9 > self.ended:
                self.busy_at = now
            saturated = self.throttled or (cpu_allocated > 0 and self.cpu >= SATURATED * cpu_allocated)
            for run in self.calls.values():
                run.windows.append(self.cpu)
                run.saturated += saturated
                run.memory_peak = max(run.memory_peak, usage.memory_peak_bytes // MIB)
            return True

    def rebase(self, usage: Usage) -> None:
        """A call is about to use the container: its first window starts here."""
        with self.lock:
            if self.last is None:
                self.seen_oom_kills = usage.oom_kills
            self.last, self.sampled_at = usage, usage.time_ns / 1e9

    def infer_call(self, has: Allocation, now: float, wall: float) -> Running | None:
        """Follow the calls of a container that does not report them; returns one that has just ended."""
        with self.lock:
            if self.reports:
                return None
            if not self.calls and now - self.busy_at < WINDOW_S:
                self.calls[""] = Running("", False, now, wall, has, has, [self.cpu])
                self.stamp += 1
            elif self.calls and now - self.busy_at > QUIET_S:
                self.stamp += 1
                self.ended = now
                return self.calls.pop("", None)
            return None

    def new_oom_kills(self) -> int:
        with self.lock:
            if self.last is None:
                return 0
            new = self.last.oom_kills - self.seen_oom_kills
            self.seen_oom_kills = self.last.oom_kills
            return new


def finished(run: Running, now: float) -> Call:
    """The call as its action's profile remembers it."""
    return Call(
        duration_s=now - run.started,
        cpu_peak=run.peak(),
        cpu_allocated=run.high.cpu_millis,
        saturated=4 * run.saturated >= max(1, len(run.windows)),
        memory_peak=run.memory_peak,
    )


def use_of(container: Container, run: Running, call: Call, wall: float) -> ActivationUse:
    return ActivationUse(
        activation=run.activation,
        action=container.action,
        container=container.name,
        start_s=run.started_wall,
        end_s=wall,
        own_cpu=container.own.cpu_millis,
        min_cpu=run.low.cpu_millis,
        max_cpu=run.high.cpu_millis,
        own_memory=container.own.memory_mib,
        min_memory=run.low.memory_mib,
        max_memory=run.high.memory_mib,
        peak_cpu=call.cpu_peak,
        peak_memory=call.memory_peak,
        saturated=call.saturated,
    )


def learn_from(uses: list[ActivationUse]) -> dict[str, Profile]:
    """Profiles as the recorded calls left them."""
    profiles: dict[str, Profile] = {}
    for use in uses:
        call = Call(use.end_s - use.start_s, use.peak_cpu, use.max_cpu, use.saturated, use.peak_memory)
        profiles.setdefault(use.action, Profile()).learn(call)
    return profiles
