"""Gives each call a container and sees it through."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Hashable
from functools import partial

from deploy.standalone.invoker.call import Call, now_ms
from deploy.standalone.invoker.fleet import START_TIMEOUT_S, Fleet
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.pool import Pool, State
from deploy.standalone.invoker.process import NAME_MAX
from deploy.standalone.invoker.responses import Verdict, died, internal_error, of_init, of_run, timed_out
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from rm_agent.cgroup import CgroupError

log = logging.getLogger(__name__)

LOG_WAIT_S = 2.0  # for the sentinels after the answer, as in OpenWhisk
OVERTAKE_S = 1.0  # how long a call that waits for memory lets others use their own warm containers
OVERTAKE_CALLS = 256
MAX_ATTEMPTS = 3

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


class Dispatcher:
    """The queue of calls, the pool they wait for, and the course of each call.

    ``lock`` is held by whoever calls, save for what containers report: these methods take it themselves.
    """

    def __init__(self, settings: InvokerSettings, fleet: Fleet, lock: threading.RLock) -> None:
        self._settings = settings
        self._fleet = fleet
        self._lock = lock
        self._numbers = itertools.count(1)
        self._head: Call | None = None
        self._head_since = 0.0
        self.pool: Pool[Slot] = Pool(settings.user_memory_mib)
        self.queue: deque[Call] = deque()
        self.counts: Counter[str] = Counter()
        self.closing = False
        self.changed = threading.Condition(lock)
        self.replenish()

    def accept(self, call: Call) -> None:
        """Run the call in a warm container if there is one, else queue it for one."""
        if not self.queue and (slot := self.pool.warm(call.action.key)):
            self._run_warm(slot, call)
        else:
            self.queue.append(call)
            self._dispatch()

    def calls(self) -> list[Call]:
        """All that wait or run."""
        return [*self.queue, *(slot.call for slot in self.pool.slots if slot.call is not None)]

    def abandon(self) -> list[Call]:
        """Drop every call and container; the calls, whose futures are left to the caller."""
        calls = self.calls()
        self.queue.clear()
        for slot in list(self.pool.slots):
            slot.call = None
            self._discard(slot)
        return calls

    # -- finding a container: under the lock --------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give waiting calls their containers, first come first served."""
        while self.queue:
            call = self.queue[0]
            if slot := self.pool.warm(call.action.key):
                self.queue.popleft()
                self._run_warm(slot, call)
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
            if slot := self.pool.warm(call.action.key):
                self.queue.remove(call)
                if not self._run_warm(slot, call):
                    return

    def _place(self, call: Call) -> bool:
        """Claim a stem cell or start a container, at the cost of idle ones; false when there is no memory."""
        key, memory = call.action.key, call.action.limits.memory_mib
        slot = self.pool.claim(key, memory)
        if slot is None:
            victims = self.pool.room(memory)
            if victims is None:
                return False
            for victim in victims:
                self.counts["evictions"] += 1
                self._discard(victim)
            slot = self.pool.claim(key, memory)
        if slot is None:
            self.counts["coldStarts"] += 1
            action = call.action.path.rpartition("/")[2]
            slot = self._new_slot(f"{call.action.namespace}_{action}", key, memory)
            slot.call = call
        else:
            self.counts["prewarmedStarts"] += 1
            slot.call = call
            if slot.state is State.STEM:
                slot.state = State.BUSY
                self._fleet.in_background(self._claim, slot, call)
            elif slot.container is not None:
                slot.container.hurry()
        return True

    def _new_slot(self, label: str, key: Hashable | None, memory_mib: int) -> Slot:
        name = f"wsk0_{next(self._numbers)}_{_NOT_IN_A_NAME.sub('', label)}"[:NAME_MAX]
        slot = Slot(self, name, key, memory_mib)
        self.pool.add(slot)
        self._fleet.make(slot)
        return slot

    def replenish(self) -> None:
        """Under the lock. Start missing stem cells where there is memory for them without taking it from others."""
        memory = self._settings.stem_memory_mib
        for _ in range(self._settings.stem_cells - len(self.pool.stems())):
            if self.closing or self.queue or self.pool.used_mib + memory > self.pool.capacity_mib:
                return
            self._new_slot("prewarm_python311", None, memory)

    def _discard(self, slot: Slot) -> None:
        """Take the container out of the pool; its processes are killed in the background."""
        if slot.state is State.GONE:
            return
        self.pool.remove(slot)
        self._fleet.remove(slot)

    # -- seeing a call through ---------------------------------------------------------------------------

    def _run_warm(self, slot: Slot, call: Call) -> bool:
        """Under the lock. False when the container was dead: then all calls that wait were dispatched anew."""
        self.counts["warmStarts"] += 1
        slot.call = call
        try:
            if slot.frozen:
                slot.container.resume()
                slot.frozen = False
            self._run(slot, call)
            return True
        except (OSError, CgroupError):
            # It died while it was idle; nothing was delivered, so another container can take the call.
            slot.call = call.start_ms = None
            self._discard(slot)
            self.queue.appendleft(call)
            self._dispatch()
            return False

    def _run(self, slot: Slot, call: Call) -> None:
        """Under the lock. Raises ``OSError`` when the container cannot be reached."""
        if slot.log is None:
            slot.log = ActivationLog(call.action.limits.logs_mib << 20)
            slot.conversation.collect(slot.log)
        if call.start_ms is None:
            call.start_ms = now_ms()
        self._fleet.arm(slot, time.monotonic() + call.action.limits.timeout_ms / 1000)
        slot.conversation.send("/run", call.run_body())

    def _claim(self, slot: Slot, call: Call) -> None:
        """On a worker: the container gets the action's resources and code."""
        try:
            slot.container.claim(self._cpu(call), call.action.limits.memory_mib)
        except CgroupError as error:
            self.failed(slot, internal_error(f"The action's resources could not be set: {error}"))
            return
        body = call.init_body()
        with self._lock:
            if slot.call is not call:
                return
            slot.log = ActivationLog(call.action.limits.logs_mib << 20)
            slot.conversation.collect(slot.log)
            call.start_ms = now_ms()
            self._fleet.arm(slot, time.monotonic() + call.action.limits.timeout_ms / 1000)
            try:
                slot.conversation.send("/init", body)
            except OSError:
                self.failed(slot, died(True, slot.container.out_of_memory()))

    def started(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is not State.STARTING:
                return
            self._fleet.arm(slot, float("inf"))
            if slot.call is not None:
                slot.state = State.BUSY
                self._fleet.in_background(self._claim, slot, slot.call)
            else:
                slot.state = State.STEM

    def answered(self, slot: Slot, response: Response) -> None:
        with self._lock:
            call = slot.call
            if call is None or call.verdict is not None:
                return
            if slot.initialised:
                if response.status == 503:
                    self._reschedule(slot, call)
                else:
                    self._decide(slot, of_run(response))
                return
            call.init_ms = now_ms() - call.start_ms
            if refusal := of_init(response):
                self._decide(slot, refusal)
                return
            slot.initialised = True
            try:
                self._run(slot, call)
            except OSError:
                self._decide(slot, died(False, slot.container.out_of_memory()))
            self.replenish()

    def _reschedule(self, slot: Slot, call: Call) -> None:
        """The container has not begun the call and will not: another one takes it."""
        call.attempts += 1
        if call.attempts == MAX_ATTEMPTS:
            self._decide(slot, internal_error(f"No container took the action in {MAX_ATTEMPTS} attempts."))
            return
        call.start_ms = call.init_ms = None
        slot.call = None
        self._discard(slot)
        self.queue.appendleft(call)
        self._dispatch()

    def _decide(self, slot: Slot, verdict: Verdict) -> None:
        """Under the lock: the answer is known; the logs may have to be waited for."""
        call = slot.call
        call.decide(verdict)
        if verdict.destroys:
            if slot.conversation is not None:
                slot.conversation.drain()
            self._finish(slot)
        elif slot.log.complete:
            self._finish(slot)
        else:
            self._fleet.arm(slot, time.monotonic() + LOG_WAIT_S)

    def logged(self, slot: Slot) -> None:
        with self._lock:
            if slot.call is not None and slot.call.verdict is not None and not slot.call.verdict.destroys:
                self._finish(slot)

    def hung_up(self, slot: Slot) -> None:
        with self._lock:
            call = slot.call
            if call is not None and call.verdict is None and call.start_ms is not None:
                self.counts["containersDied"] += 1
                if call.init_ms is None and not slot.initialised:
                    call.init_ms = now_ms() - call.start_ms
                self._decide(slot, died(not slot.initialised, slot.container.out_of_memory()))

    def exited(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.GONE:
                return
            self.hung_up(slot)
            if slot.state is State.STARTING:
                output = slot.conversation.tail.decode(errors="replace").strip()
                reason = output.splitlines()[-1] if output else "it exited without a word"
                log.error("container %s did not start: %s", slot.name, reason)
                if slot.call is not None and slot.call.attempts + 1 < MAX_ATTEMPTS:
                    self._reschedule(slot, slot.call)
                    return
                self.failed(slot, internal_error(f"The action's container did not start: {reason}"))
            elif slot.call is not None and slot.call.verdict is not None:
                self._finish(slot, lost=True)
            elif slot.call is not None:  # it died before it got the call
                self._reschedule(slot, slot.call)
            elif slot.state is not State.GONE:
                was_stem = slot.key is None
                self._discard(slot)
                self._dispatch()
                if was_stem:
                    self.replenish()

    def failed(self, slot: Slot, verdict: Verdict) -> None:
        """The container is no good; if it has a call, that ends with ``verdict``."""
        with self._lock:
            if slot.call is not None and slot.call.verdict is None:
                slot.call.decide(verdict)
                self._finish(slot)
            else:
                self._discard(slot)
                self._dispatch()

    def _finish(self, slot: Slot, *, lost: bool = False) -> None:
        """Under the lock: the call is over, the container free again or gone."""
        call, slot.call = slot.call, None
        verdict, logs = call.verdict, []
        if slot.log is not None:
            logs = slot.log.finish(lost=lost, failed=verdict.destroys)
            slot.log = None
            slot.conversation.collect(None)
        if verdict.destroys or lost:
            self._discard(slot)
        else:
            slot.idle_since = time.monotonic()
            self.pool.release(slot)
            self._fleet.arm(slot, slot.idle_since + min(self._settings.pause_grace_s, self._settings.idle_s))
        if self.queue:
            self._dispatch()
        self.replenish()
        if self.closing:
            self.changed.notify_all()
        # By the loop, so that what a caller hangs on the future does not run under the lock.
        self._fleet.soon(partial(call.future.set_result, call.outcome(logs)))

    def overdue(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.STARTING:
                self.failed(slot, internal_error(f"The action's container did not start within {START_TIMEOUT_S:.0f} s."))
            elif slot.state is State.BUSY:
                self._time_is_up(slot)
            elif slot.state in (State.IDLE, State.PAUSED):
                self._rest(slot)

    def _time_is_up(self, slot: Slot) -> None:
        call = slot.call
        if call.verdict is not None:
            self._finish(slot, lost=True)
            return
        self.counts["timeouts"] += 1
        if not slot.initialised:
            call.init_ms = now_ms() - call.start_ms
        self._decide(slot, timed_out(call.action.limits.timeout_ms, initialising=not slot.initialised))

    def _rest(self, slot: Slot) -> None:
        """Pause a container that is idle for a while, remove it after a long one."""
        if time.monotonic() >= slot.idle_since + self._settings.idle_s:
            self._discard(slot)
            self.replenish()
            return
        try:
            slot.container.pause()
        except CgroupError:
            self._discard(slot)
            self._dispatch()
            self.replenish()
            return
        slot.frozen = True
        slot.state = State.PAUSED
        self._fleet.arm(slot, slot.idle_since + self._settings.idle_s)

    def _cpu(self, call: Call) -> int:
        return call.action.cpu_millis or self._settings.default_cpu_millis
