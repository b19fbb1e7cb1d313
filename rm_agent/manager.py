"""The resource manager of one node: connects what is seen, what the policy wants, and what is enforced.

Three threads call in: the listener (:meth:`Manager.report`), the safeguard (:meth:`Manager.guard`) and the policy's
rounds (:meth:`Manager.round`). CPU and memory have a market each, with a lock each, so that a memory shrink, for
which the kernel may have to reclaim pages, never delays the return of CPU.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections import deque
from typing import Any

from rm_agent.actuators import Actuator, ActuatorError, ContainerGone
from rm_agent.cgroup import CgroupDriver, CgroupError, CgroupNotFound
from rm_agent.containers import Container, Running, finished, learn_from, use_of
from rm_agent.harvest import Allocation, Offer
from rm_agent.journal import ActivationUse, Journal
from rm_agent.market import Market
from rm_agent.policy import MIB, ContainerView, FixedPolicy, NodeView, Policy, Target
from rm_agent.profiles import SATURATED, Profile
from rm_agent.telemetry.reports import Report

log = logging.getLogger(__name__)

QUIET_ROUND_S = 0.5  # between rounds while nothing runs
SPARE_S = 60.0  # how long an action is not harvested in mid-run after the safeguard had to step in
SETTLING_S = 1.0  # how long a new container may take to get its limits
LAZY_S = 1.0  # between samples of an idle container that reports and lends nothing
LAZY_DONOR_S = 0.3  # between samples of one that lends: its next call is reported, this only covers a lost report
MOST_UNWRITTEN = 10_000  # calls that are kept in memory while the journal cannot be written
CHECK_S = 1.0  # between looks at whether the platform itself changed the limits of a container


class Manager:
    """``root`` is the group whose children are the containers. ``dry`` only labels the state that is shown."""

    def __init__(
        self, driver: CgroupDriver, actuator: Actuator, journal: Journal, root: str, policy: Policy, dry: bool = False
    ) -> None:
        self.root = root
        self.dry = dry
        self.policy = policy
        self.cores = 1000 * len(os.sched_getaffinity(0))
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
        self.containers: dict[str, Container] = {}
        self.profiles: dict[str, Profile] = {}
        self.counts = dict.fromkeys(
            ("loans", "recalls", "safeguards", "read_errors", "oom_kills", "harvest_oom_kills", "reports", "calls"), 0
        )
        self.restore_s: deque[float] = deque(maxlen=1_000)
        self._driver = driver
        self._actuator = actuator
        self._journal = journal
        self._events: deque[dict[str, Any]] = deque(maxlen=2_000)
        self._event_count = 0
        self._targets: dict[str, tuple[int, Target]] = {}
        self._uses: list[ActivationUse] = []
        self._pending: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._settled: list[tuple[str, int]] = []
        self._quiet_from = self._rounded = 0.0
        self.wake = threading.Event()  # set when a round should not wait for its time
        self._lock = threading.Lock()
        self._deciding = threading.Lock()
        self._markets = {
            resource: Market(
                resource,
                actuator,
                journal,
                changed=lambda name, _: self._resized(name),
                floor=self._memory_floor if resource == "memory_mib" else lambda name: 0,
                willing=self._willing,
            )
            for resource in actuator.resources
        }

    def remember(self, uses: list[ActivationUse]) -> None:
        """Learn from the calls of earlier sessions."""
        self.profiles = learn_from(uses)

    # Reports of the runtimes

    def report(self, report: Report, path: str, received: float) -> None:
        """A runtime says that a call starts or ends; ``path`` is the group of the process that said so.

        ``received`` is the monotonic time at which the datagram arrived.
        """
        parent, _, name = path.rpartition("/")
        if parent != self.root:
            return
        self.counts["reports"] += 1
        container = self.containers.get(name) or self._discover(name, insist=True)
        if container is None:
            return
        if report.action and not container.reports:
            # A container serves one action: what says later that it is another one is the action's own code.
            container.action = report.action
        container.reports = True
        if report.event == "start":
            self._starts(container, report, received)
        else:
            self._ends(container, report)

    def _starts(self, container: Container, report: Report, received: float) -> None:
        name = container.name
        initialising = report.phase == "init"
        container.start(report.activation, initialising, report.inflight <= 1, self._has(name), received, time.time())
        view = self._view(container, received)
        target = self._decide(view)
        lent = view.allocation.cpu_millis < target.keep.cpu_millis
        self._recall(name, "cpu_millis", target, "its owner has a call")
        if lent:
            self.restore_s.append(time.monotonic() - received)
        if view.allocation.memory_mib < target.keep.memory_mib:
            self.wake.set()
        if initialising:
            self._follow_platform(container, received)
        try:
            container.rebase(container.group.usage())
        except CgroupError:
            return  # the safeguard meets the same error and acts on it
        self._borrow(name, "cpu_millis", target, received)

    def _ends(self, container: Container, report: Report) -> None:
        try:
            usage = container.group.usage()
            container.sample(usage, self._has(container.name).cpu_millis, shortest_s=0.0)
        except CgroupError:
            pass  # it may be gone with the call
        now = time.monotonic()
        run = container.end(report.activation, report.inflight == 0, now)
        if not container.calls and "cpu_millis" in self._markets:
            self._markets["cpu_millis"].release(container.name, 0, "its call has ended")
        if run is not None and not run.initialising:
            self._completed(container, run, now)

    def _completed(self, container: Container, run: Running, now: float) -> None:
        call = finished(run, now)
        self.counts["calls"] += 1
        with self._lock:
            self.profile(container).learn(call)
            self._uses.append(use_of(container, run, call, time.time()))

    # The safeguard

    def guard(self) -> None:
        """Sample what is due and restore at once whoever needs its own back."""
        for container in list(self.containers.values()):
            now = time.monotonic()
            has = self._has(container.name)
            harvested = self._harvested(has, container.own)
            if container.reports and not container.running(now):
                if now - container.sampled_at < (LAZY_DONOR_S if harvested else LAZY_S):
                    continue
            try:
                usage = container.group.usage()
            except CgroupNotFound:
                self._vanished(container)
                continue
            except CgroupError as error:
                self.counts["read_errors"] += 1
                self._restore(container, f"its use cannot be read: {error}")
                continue
            if not container.sample(usage, has.cpu_millis):
                continue
            if kills := container.new_oom_kills():
                self._oom(container, kills, has)
            if harvested:
                self._protect(container, has, now)
            run = container.infer_call(has, now, time.time())
            if run is not None:
                self._completed(container, run, now)

    def _protect(self, container: Container, has: Allocation, now: float) -> None:
        own = container.own
        if has.cpu_millis < own.cpu_millis and (container.throttled or container.cpu >= SATURATED * has.cpu_millis):
            self.counts["safeguards"] += 1
            if container.running(now):
                self.profile(container).spared_until = now + SPARE_S
            reason = f"safeguard: it used {container.cpu} of {has.cpu_millis} millicores"
            self._restore_one(container, "cpu_millis", reason)
        usage = container.last
        if has.memory_mib < own.memory_mib and usage is not None:
            left = has.memory_mib - math.ceil(usage.memory_bytes / MIB)
            if left < min(16, own.memory_mib // 8):
                self.counts["safeguards"] += 1
                self._restore_one(container, "memory_mib", f"safeguard: {left} of {has.memory_mib} MiB are left")

    def _oom(self, container: Container, kills: int, has: Allocation) -> None:
        self.counts["oom_kills"] += kills
        self.profile(container).suffered_oom()
        if has.memory_mib < container.own.memory_mib:
            self.counts["harvest_oom_kills"] += kills
        self._event("oom", container.name, f"{kills} processes killed at {has.memory_mib} MiB")
        self._restore(container, "a process of it ran out of memory")

    def _restore(self, container: Container, reason: str) -> None:
        for resource in self._markets:
            self._restore_one(container, resource, reason)

    def _restore_one(self, container: Container, resource: str, reason: str) -> None:
        own, has = self._markets[resource].amounts(container.name)
        if has < own:
            container.stamp += 1
            self._markets[resource].recall(container.name, own, reason)
            self._event("restore", container.name, f"{resource} back to {own}: {reason}")

    def _vanished(self, container: Container) -> None:
        with self._lock:
            if self.containers.pop(container.name, None) is None:
                return
            self._targets.pop(container.name, None)
            self._leaving.add(container.name)
        for market in self._markets.values():
            market.close(container.name)
        self._event("gone", container.name, "its control group is gone")

    # Rounds of the policy

    def round(self) -> None:
        """Find new containers, ask the policy about each, and move what it wants moved."""
        now = time.monotonic()
        if self._quiet(now):
            return
        self._scan()
        containers = list(self.containers.values())
        # A stamp is read before the state it stands for, so that a later change makes the offer void.
        stamps = {container.name: container.stamp for container in containers}
        views = {container.name: self._view(container, now) for container in containers}
        node = NodeView(now, self.cores, self.memory, views)
        targets = {}
        for name, view in views.items():
            with self._deciding:
                targets[name] = self.policy.decide(view, node)
        self._targets = {name: (stamps[name], target) for name, target in targets.items()}
        for container in containers:
            if now - container.checked_at >= CHECK_S:
                self._follow_platform(container, now)
            for resource in self._markets:
                self._recall(container.name, resource, targets[container.name], "the policy lets it keep more")
                self._release(container.name, resource, targets[container.name])
        hungry = [view for view in views.values() if view.running]
        for view in sorted(hungry, key=lambda view: -view.running_s):
            for resource in self._markets:
                self._borrow(view.name, resource, targets[view.name], now)
        self._sweep()
        self._flush()

    def _quiet(self, now: float) -> bool:
        """Nothing runs and nothing changed since a recent round: this one would find the same."""
        state = [(container.name, container.stamp) for container in self.containers.values()]
        if state != self._settled or any(container.running(now) for container in self.containers.values()):
            # An ended call still matters for a while: it is held, then offered.
            self._settled, self._quiet_from = state, now + 0.5
        elif self._quiet_from == math.inf:
            self._quiet_from = now + 0.5
        quiet = now >= self._quiet_from and now - self._rounded < QUIET_ROUND_S
        if not quiet:
            self._rounded = now
        return quiet

    def set_policy(self, policy: Policy) -> None:
        """Switch; the next round follows the new policy, and loans it does not want return then."""
        with self._deciding:
            self.policy = policy
        self._targets = {}
        self._quiet_from = math.inf  # until the next round sets it
        self._event("policy", "", f"the policy is {policy.name} now")

    def restore_all(self, reason: str) -> None:
        """Everything back to its owner, borrowers first."""
        self.set_policy(FixedPolicy())
        for name in list(self.containers):
            for market in self._markets.values():
                market.recall(name, market.amounts(name)[0], reason)
                market.release(name, 0, reason)
        self._flush()

    def _recall(self, name: str, resource: str, target: Target, reason: str) -> None:
        market = self._markets.get(resource)
        keep = getattr(target.keep, resource)
        if market is not None and market.amounts(name)[1] < keep:
            market.recall(name, keep, f"{reason} ({target.reason})")
            self.counts["recalls"] += 1
            self._event("recall", name, f"{resource} {keep}: {reason}")

    def _release(self, name: str, resource: str, target: Target) -> None:
        market = self._markets[resource]
        own, has = market.amounts(name)
        want = getattr(target.want, resource)
        if has > max(own, want):
            market.release(name, want, target.reason)

    def _borrow(self, name: str, resource: str, target: Target, now: float) -> None:
        market = self._markets.get(resource)
        if market is None:
            return
        has, want = market.amounts(name)[1], getattr(target.want, resource)
        if want <= has or want <= getattr(target.keep, resource):
            return
        got = market.borrow(name, want, self._offers(name, resource, now), target.reason)
        if got > has:
            self.counts["loans"] += 1
            self._event("loan", name, f"{resource} {has} to {got}: {target.reason}")

    def _offers(self, borrower: str, resource: str, now: float) -> list[Offer]:
        offers = []
        for name, (stamp, target) in list(self._targets.items()):
            container = self.containers.get(name)
            if name == borrower or container is None or container.stamp != stamp:
                continue
            _, has = self._markets[resource].amounts(name)
            spare = has - getattr(target.keep, resource)
            if spare > 0 and getattr(target.want, resource) <= getattr(container.own, resource):
                offers.append(Offer(name, spare, self._until(container, now), stamp))
        return offers

    def _until(self, container: Container, now: float) -> float:
        with container.lock:
            started = [run.started for run in container.calls.values()]
        if not started:
            return math.inf
        return max(now, max(started) + self.profile(container).duration_s)

    def _willing(self, offer: Offer) -> bool:
        container = self.containers.get(offer.donor)
        return container is not None and container.stamp == offer.stamp

    def _decide(self, view: ContainerView) -> Target:
        node = NodeView(time.monotonic(), self.cores, self.memory, {view.name: view})
        with self._deciding:
            return self.policy.decide(view, node)

    # Containers

    def _scan(self) -> None:
        names = self._driver.children(self.root)
        for name in names:
            if name not in self.containers:
                self._discover(name)
        present = set(names)
        for name, container in list(self.containers.items()):
            if name not in present:
                self._vanished(container)
        for name in [name for name in self._pending if name not in present]:
            self._pending.pop(name, None)

    def _discover(self, name: str, insist: bool = False) -> Container | None:
        """Take charge of a container once it has its limits; the platform makes the group first and sets them then."""
        now = time.monotonic()
        path = f"{self.root}/{name}"
        with self._lock:
            if name in self.containers:
                return self.containers[name]
            try:
                own = self._actuator.read(path)
                identity = self._actuator.identity(path)
                group = self._driver.open(path)
            except (ActuatorError, CgroupNotFound):
                return None
            unset = any(getattr(own, resource) == 0 for resource in self._actuator.resources)
            if unset and now - self._pending.setdefault(name, now) < SETTLING_S and not insist:
                return None
            if name in self._leaving:
                return None  # one of that name has just gone, and what it lent is not back yet
            own = self._journal.take_charge(path, identity, own)
            container = Container(group, own, now)
            for resource, market in self._markets.items():
                market.add(name, path, getattr(own, resource))
            self.containers[name] = container
            self._pending.pop(name, None)
        self._event("found", name, f"own allocation {own.cpu_millis} millicores, {own.memory_mib} MiB")
        return container

    def _follow_platform(self, container: Container, now: float) -> None:
        """A claimed stem cell gets the limits of its action: without loans, what is enforced is its own."""
        container.checked_at = now
        if self.dry or not all(market.untouched(container.name) for market in self._markets.values()):
            return
        try:
            own = self._actuator.read(container.path)
        except (ContainerGone, ActuatorError):
            return
        if own == container.own:
            return
        changed = []
        for resource, market in self._markets.items():
            if not market.change_own(container.name, getattr(own, resource)):
                for earlier in changed:
                    self._markets[earlier].change_own(container.name, getattr(container.own, earlier))
                return
            changed.append(resource)
        self._journal.change_own(container.path, own, "set by the platform")
        container.own = own  # only now: what could not be recorded is seen as new again
        self._event("own", container.name, f"the platform set {own.cpu_millis} millicores, {own.memory_mib} MiB")

    def _sweep(self) -> None:
        for market in self._markets.values():
            market.sweep()
        for name in list(self._leaving):
            if not any(market.holds(name) for market in self._markets.values()):
                self._journal.gone(f"{self.root}/{name}")
                self._actuator.forget(f"{self.root}/{name}")
                self._leaving.discard(name)

    def _flush(self) -> None:
        with self._lock:
            uses, self._uses = self._uses, []
        if not uses:
            return
        try:
            self._journal.add_activations(uses)
        except sqlite3.Error as error:
            log.error("the journal cannot be written (%s): %d calls are kept for later", error, len(uses))
            with self._lock:
                self._uses = (uses + self._uses)[-MOST_UNWRITTEN:]

    # Views

    def profile(self, container: Container) -> Profile:
        return self.profiles.setdefault(container.action, Profile()) if container.action else Profile()

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What happened after event number ``since``, oldest first."""
        return [event for event in list(self._events) if event["seq"] > since]

    def state(self) -> dict[str, Any]:
        """Containers with own, current and used amounts, loans, totals and counters; ready for JSON."""
        now = time.monotonic()
        views = [self._view(container, now) for container in list(self.containers.values())]
        loans = [
            {"resource": resource, "donor": donor, "borrower": borrower, "amount": amount}
            for resource, market in self._markets.items()
            for donor, borrower, amount in market.loans()
        ]
        return {
            "root": self.root,
            "policy": self.policy.name,
            "dry": self.dry,
            "cores": self.cores,
            "containers": [
                {
                    "name": view.name,
                    "action": view.action,
                    "running": view.running,
                    "reports": view.reports,
                    "own": view.own._asdict(),
                    "alloc": view.allocation._asdict(),
                    "usage": {"cpu_millis": view.cpu, "memory_mib": view.memory, "throttled": view.throttled},
                    "reason": self._targets[view.name][1].reason if view.name in self._targets else "",
                }
                for view in views
            ],
            "loans": loans,
            "totals": {
                resource: {
                    "own": sum(getattr(view.own, resource) for view in views),
                    "alloc": sum(getattr(view.allocation, resource) for view in views),
                    "lent": sum(loan["amount"] for loan in loans if loan["resource"] == resource),
                }
                for resource in self._markets
            },
            "counts": {**self.counts, "refused_writes": sum(market.failures for market in self._markets.values())},
        }

    def _view(self, container: Container, now: float) -> ContainerView:
        running = container.running(now)
        with container.lock:
            usage = container.last
            started = min((run.started for run in container.calls.values()), default=now)
            initialising = any(run.initialising for run in container.calls.values())
            recent = max(container.recent, default=0)
        return ContainerView(
            name=container.name,
            action=container.action,
            own=container.own,
            allocation=self._has(container.name),
            running=running,
            initialising=initialising,
            reports=container.reports,
            running_s=now - started,
            idle_s=0.0 if running else now - max(container.ended, container.busy_at),
            cpu=container.cpu,
            cpu_recent=recent,
            throttled=container.throttled,
            memory=0 if usage is None else math.ceil(usage.memory_bytes / MIB),
            memory_peak=0 if usage is None else math.ceil(usage.memory_peak_bytes / MIB),
            profile=self.profile(container),
        )

    def _has(self, name: str) -> Allocation:
        return Allocation(**{resource: market.amounts(name)[1] for resource, market in self._markets.items()})

    def _harvested(self, has: Allocation, own: Allocation) -> bool:
        return any(getattr(has, resource) < getattr(own, resource) for resource in self._markets)

    def _resized(self, name: str) -> None:
        container = self.containers.get(name)
        if container is not None:
            container.resized(self._has(name))

    def _memory_floor(self, name: str) -> int:
        container = self.containers.get(name)
        if container is None or container.last is None:
            return 0
        used = math.ceil(container.last.memory_bytes / MIB)
        return used + max(32, used // 4)

    def _event(self, kind: str, container: str, text: str) -> None:
        with self._lock:
            self._event_count += 1
            self._events.append(
                {"seq": self._event_count, "time_s": time.time(), "kind": kind, "container": container, "text": text}
            )
