"""What is known of an action from its completed calls, learnt while the agent runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SATURATED = 0.9  # share of an allocation from which a call is taken to want more
HEADROOM = 1.25  # over the highest use seen, where the use was not limited
KNOWN_CALLS = 3  # completed calls from which an action counts as known


@dataclass(slots=True)
class Call:
    """One completed call, or one busy period of a container that does not report its calls."""

    duration_s: float
    cpu_peak: int  # millicores: 95th percentile over windows of 100 ms
    cpu_allocated: int  # millicores: the most it had
    saturated: bool
    memory_peak: int  # MiB


@dataclass(slots=True)
class Profile:
    """History of one action."""

    calls: int = 0
    recent: deque[Call] = field(default_factory=lambda: deque(maxlen=32))
    memory_peak: int = 0  # MiB, highest ever
    oom_kills: int = 0
    spared_until: float = 0.0  # time before which its running calls are not harvested again
    memory_margin: float = 1.0  # grows with each OOM kill

    @property
    def known(self) -> bool:
        return self.calls >= KNOWN_CALLS

    @property
    def duration_s(self) -> float:
        """Mean duration of recent calls."""
        return sum(call.duration_s for call in self.recent) / len(self.recent) if self.recent else 0.0

    @property
    def cpu_peak(self) -> int:
        """Highest peak of recent calls, in millicores."""
        return max((call.cpu_peak for call in self.recent), default=0)

    @property
    def cpu_demand(self) -> int:
        """Millicores it could use: its peak with headroom, or twice what was not enough."""
        calls = list(self.recent)[-8:]
        met = max((call.cpu_allocated for call in calls if not call.saturated), default=0)
        demand = 0
        for call in calls:
            if not call.saturated:
                demand = max(demand, round(HEADROOM * call.cpu_peak))
            elif call.cpu_allocated > met:
                demand = max(demand, 2 * call.cpu_allocated)
        return demand

    def learn(self, call: Call) -> None:
        self.calls += 1
        self.recent.append(call)
        self.memory_peak = max(self.memory_peak, call.memory_peak)

    def suffered_oom(self) -> None:
        self.oom_kills += 1
        self.memory_margin = min(4.0, 1.5 * self.memory_margin)
