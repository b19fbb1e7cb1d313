"""Finds a container for each call."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Hashable

from deploy.standalone.invoker import flavour as flavours
from deploy.standalone.invoker.backoff import Backoff
from deploy.standalone.invoker.call import Call
from deploy.standalone.invoker.course import Course
from deploy.standalone.invoker.fleet import Fleet
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.pool import Pool, State
from deploy.standalone.invoker.process import NAME_MAX
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from deploy.standalone.model import InvokerEvents

OVERTAKE_S = 1.0  # how long a call that waits for memory lets others use their own warm containers
OVERTAKE_CALLS = 256

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


class Dispatcher:
    """The queue of calls and the pool they wait for. ``lock`` is held by whoever calls."""

    def __init__(
        self, settings: InvokerSettings, fleet: Fleet, lock: threading.RLock, events: InvokerEvents | None
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._lock = lock
        self._numbers = itertools.count(1)
        self._head: Call | None = None
        self._head_since = 0.0
        self._backoff = Backoff()
        self.pool: Pool[Slot] = Pool(settings.user_memory_mib)
        self.queue: deque[Call] = deque()
        self._course = Course(settings, fleet, lock, self.pool, self, events)
        self.counts = self._course.counts
        self.closing = False
        self.changed = threading.Condition(lock)
        self._want_stems(flavours.default(settings))
        self.replenish()

    def accept(self, call: Call) -> None:
        """Run the call in a warm container if there is one, else queue it for one."""
        if not self.queue and (slot := self.pool.warm(call.key)):
            self._course.join(slot, call)
        else:
            self.queue.append(call)
            self._dispatch()

    def calls(self) -> list[Call]:
        """All that wait or run."""
        return [*self.queue, *(call for slot in self.pool.slots for call in slot.calls.values())]

    def abandon(self) -> list[Call]:
        """Drop every call and container; the calls, whose futures are left to the caller."""
        calls = self.calls()
        self.queue.clear()
        for slot in list(self.pool.slots):
            slot.calls.clear()
            self._course.discard(slot)
        return calls

    # -- finding a container: under the lock --------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give waiting calls their containers, first come first served."""
        while self.queue:
            call = self.queue[0]
            if slot := self.pool.warm(call.key):
                self.queue.popleft()
                self._course.join(slot, call)
            elif self._place(call):
                self.queue.popleft()
            else:
                self._overtake(call)
                return
        self._head = None

    def _overtake(self, head: Call) -> None:
        """While the first call waits for memory, later ones may use their warm containers, but not for long."""
        now = time.monotonic()
        if head is not self._head:
            self._head, self._head_since = head, now
        if now - self._head_since > OVERTAKE_S:
            return
        for call in list(itertools.islice(self.queue, 1, OVERTAKE_CALLS)):
            if slot := self.pool.warm(call.key):
                self.queue.remove(call)
                if not self._course.join(slot, call):
                    return

    def _place(self, call: Call) -> bool:
        """Claim a stem cell or start a container, at the cost of idle ones; false when there is no memory."""
        flavour, memory = flavours.of_action(call.action, self._settings), call.action.limits.memory_mib
        if flavour.managed:
            self._want_stems(flavour)
        slot, evicted = self.pool.claim(flavour, call.key, memory), False
        if slot is None:
            victims = self.pool.room(flavour, memory)
            if victims is None:
                return False
            for victim in victims:
                evicted = True
                self.counts["evictions"] += 1
                self._course.discard(victim)
            slot = self.pool.claim(flavour, call.key, memory)
        claimed = slot is not None
        if slot is None:
            action = call.action.path.rpartition("/")[2]
            slot = self._new_slot(f"{call.invocation.namespace}_{action}", flavour, call.key, memory)
        slot.places = max(1, min(call.action.limits.concurrency, self._settings.concurrency))
        slot.calls[call.id] = call
        self.pool.update(slot)
        if claimed:
            self._course.count_start("recreatedPrewarm" if evicted else "prewarmed")
            if slot.state is State.STEM:
                self._course.initialise(slot)
            elif slot.container is not None:
                self._fleet.hurry(slot)
        else:
            self._course.count_start("recreated" if evicted else "cold")
        return True

    def _new_slot(self, label: str, flavour: Flavour, key: Hashable | None, memory_mib: int) -> Slot:
        name = f"wsk0_{next(self._numbers)}_{_NOT_IN_A_NAME.sub('', label)}"[:NAME_MAX]
        slot = Slot(self._course, name, flavour, key, memory_mib)
        self.pool.add(slot)
        self._fleet.make(slot)
        return slot

    def _want_stems(self, flavour: Flavour) -> None:
        if self._settings.stem_cells:
            self.pool.want(flavour)

    def replenish(self) -> None:
        """Under the lock. Start missing stem cells where there is memory for them without taking it from others."""
        if self.closing or self.queue:
            return
        memory = self._settings.stem_memory_mib
        for flavour, there in self.pool.wanted():
            for _ in range(self._settings.stem_cells - there):
                if self._backoff.waits(flavour):
                    break
                if self.pool.used_mib + memory > self.pool.capacity_mib:
                    return
                self._new_slot(flavour.stem_label, flavour, None, memory)

    def _replenish_later(self, flavour: Flavour) -> None:
        self._fleet.later(self._backoff.postpone(flavour), self._retry)

    def _retry(self) -> None:
        with self._lock:
            self.replenish()

    # -- what the course of the calls tells ----------------------------------------------------------------

    def again(self, calls: list[Call]) -> None:
        self.queue.extendleft(reversed(calls))

    def freed(self) -> None:
        if self.queue:
            self._dispatch()
        self.replenish()
        if self.closing:
            self.changed.notify_all()

    def did_start(self, slot: Slot) -> None:
        self._backoff.succeeded(slot.flavour)

    def did_not_start(self, slot: Slot, reason: str) -> None:
        self._backoff.failed(slot.flavour, slot.name, reason)
        if slot.key is None:
            self._replenish_later(slot.flavour)

    def stem_died(self, slot: Slot) -> None:
        self._replenish_later(slot.flavour)
