"""Policies: what each container should keep of its own, and what it could use beyond it.

A policy only says what it wants. Finding donors, the order of the writes, the safeguard and the journal are the
same for every policy (:mod:`rm_agent.manager`), so a policy cannot break conservation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rm_agent.harvest import Allocation
from rm_agent.profiles import HEADROOM, SATURATED, Profile

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container as a policy sees it. CPU in millicores, memory in MiB, times in seconds."""

    name: str
    action: str  # "/guest/hello" when reported, "guest_hello" from its name, "" when unknown
    own: Allocation
    allocation: Allocation
    running: bool
    initialising: bool  # running its action's initialisation, of which the profile says nothing
    reports: bool  # its runtime reports starts and ends of calls
    running_s: float  # since the running call started
    idle_s: float  # since the last call ended, or since it was last busy
    cpu: int  # use in the last window
    cpu_recent: int  # highest use in the windows of the last second
    throttled: bool  # in the last window
    memory: int  # working set
    memory_peak: int  # highest since it exists, file pages included
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node at one moment."""

    time_s: float  # monotonic
    cores: int  # millicores of the machine
    memory: int  # MiB of the machine
    containers: Mapping[str, ContainerView]


@dataclass(frozen=True, slots=True)
class Target:
    """``keep`` is the least of its own that a container is left with; ``want`` the most it should have."""

    keep: Allocation
    want: Allocation
    reason: str


class Policy(Protocol):
    name: str

    def decide(self, container: ContainerView, node: NodeView) -> Target:
        """The target of one container; called at the start of each call and for each container in each round.

        It must be quick (at the start of a call the call waits for it) and is called from several threads, one at
        a time.
        """
        ...


def observe(policy: Policy, node: NodeView, only: Iterable[str] | None = None) -> dict[str, Target]:
    """Targets of all containers of the node, or of those named."""
    return {name: policy.decide(node.containers[name], node) for name in (node.containers if only is None else only)}


class FixedPolicy:
    """Every container has its own allocation: what the platform does without a resource manager."""

    name = "fixed"

    def decide(self, container: ContainerView, node: NodeView) -> Target:
        return Target(container.own, container.own, "the fixed policy moves nothing")


@dataclass(frozen=True, slots=True)
class HarvestPolicy:
    """Rules after Libra and Freyr: idle and over-provisioned containers lend, saturated ones borrow."""

    name: str = "harvest"
    hold_s: float = 0.1  # after a call, before what is idle may be lent
    floor_cpu: int = 50  # millicores an idle container keeps, enough to take a call and report its start
    memory_margin: float = 0.25  # of the peak, kept above it
    memory_margin_mib: int = 32  # at least
    observe_s: float = 0.3  # of a call, before it may lend: calls of one action differ by their input
    recalibration_s: float = 2.0  # how long the first call of an action is left alone

    def decide(self, container: ContainerView, node: NodeView) -> Target:
        keep_cpu, want_cpu, cpu_reason = self._cpu(container, node)
        keep_memory, want_memory, memory_reason = self._memory(container, node)
        own = container.own
        return Target(
            own._replace(cpu_millis=min(own.cpu_millis, keep_cpu), memory_mib=min(own.memory_mib, keep_memory)),
            own._replace(cpu_millis=max(own.cpu_millis, want_cpu), memory_mib=max(own.memory_mib, want_memory)),
            f"CPU: {cpu_reason}; memory: {memory_reason}",
        )

    def _cpu(self, container: ContainerView, node: NodeView) -> tuple[int, int, str]:
        own, profile = container.own.cpu_millis, container.profile
        if own == 0:
            return 0, 0, "not limited, so not managed"
        if not container.running:
            if container.idle_s < self.hold_s:
                return own, own, "its call has just ended"
            if container.reports:
                return min(own, self.floor_cpu), own, "idle until its runtime reports a call"
            if not profile.known:
                return own, own, "it does not report its calls and its action is not known yet"
            keep = max(self.floor_cpu, round(HEADROOM * profile.cpu_peak))
            return min(own, keep), own, f"idle by its use, keeps {HEADROOM} x the peak of its action"
        if container.initialising:
            return own, own, "loads its action"
        if profile.calls == 0 and container.running_s < self.recalibration_s:
            return own, own, "first call of its action, run at its own allocation"
        want, why = self._wanted_cpu(container)
        if want > own:
            return own, min(want, node.cores), why
        if container.running_s < self.observe_s:
            return own, own, "its call has just started"
        if profile.known and profile.spared_until <= node.time_s and profile.cpu_peak <= SATURATED * own:
            keep = max(self.floor_cpu, round(HEADROOM * profile.cpu_peak), round(HEADROOM * container.cpu_recent))
            if keep < own:
                return keep, own, f"over-provisioned: its action peaks at {profile.cpu_peak} of {own} millicores"
        return own, own, "uses its own allocation"

    def _wanted_cpu(self, container: ContainerView) -> tuple[int, str]:
        own, has, profile = container.own.cpu_millis, container.allocation.cpu_millis, container.profile
        if has < own:
            return own, ""  # its own comes first: the safeguard gives it back
        if container.throttled or container.cpu >= SATURATED * has:
            return 2 * max(own, has), f"uses {container.cpu} of {has} millicores and wants more"
        demand = profile.cpu_demand
        if container.running_s < 1.0:
            return demand, f"calls of its action could use {demand} millicores"
        if has > own:
            wanted = max(own, 2 * container.cpu_recent)
            return min(has, wanted), f"peaked at {container.cpu_recent} of {has} millicores in the last second"
        return own, ""

    def _memory(self, container: ContainerView, node: NodeView) -> tuple[int, int, str]:
        own, has, profile = container.own.memory_mib, container.allocation.memory_mib, container.profile
        if own == 0:
            return 0, 0, "not limited, so not managed"
        busy = container.running and container.memory >= 0.85 * has
        if container.running and (busy or profile.oom_kills):
            want = max(own, min(2 * has, math.ceil(1.5 * container.memory)) if busy else 2 * own)
            reason = (
                f"working set of {container.memory} of {has} MiB" if busy else "its action ran out of memory before"
            )
            return own, min(want, node.memory), reason
        if container.running and has > own:
            return own, has, "keeps what it borrowed until its call ends"
        if not profile.known or profile.oom_kills:
            return own, own, "the peak of its action is not known" if not profile.known else "its action ran out before"
        peak = max(container.memory, container.memory_peak, profile.memory_peak)
        margin = math.ceil(profile.memory_margin * max(self.memory_margin * peak, self.memory_margin_mib))
        if peak + margin >= own:
            return own, own, f"its action peaks at {peak} of {own} MiB"
        return peak + margin, own, f"its action peaks at {peak} of {own} MiB, keeps {margin} MiB above"


POLICIES: dict[str, type[Policy]] = {"harvest": HarvestPolicy, "fixed": FixedPolicy}
