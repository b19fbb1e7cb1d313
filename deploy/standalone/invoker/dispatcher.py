"""Gives each call a container and sees it through."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from functools import partial

from deploy.standalone.invoker import flavour as flavours
from deploy.standalone.invoker.backoff import Backoff
from deploy.standalone.invoker.call import Call, now_ms
from deploy.standalone.invoker.fleet import START_TIMEOUT_S, Fleet
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.pool import Pool, State
from deploy.standalone.invoker.process import NAME_MAX
from deploy.standalone.invoker.responses import Verdict, died, internal_error, of_init, of_run, timed_out
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from deploy.standalone.model import InvokerEvents
from rm_agent.cgroup import CgroupError

log = logging.getLogger(__name__)

LOG_WAIT_S = 2.0  # for the sentinels after the answer, as in OpenWhisk
OVERTAKE_S = 1.0  # how long a call that waits for memory lets others use their own warm containers
OVERTAKE_CALLS = 256
MAX_ATTEMPTS = 3
NEVER = float("inf")

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


class Dispatcher:
    """The queue of calls, the pool they wait for, and the course of each call.

    ``lock`` is held by whoever calls, save for what containers report: these methods take it themselves.
    """

    def __init__(
        self, settings: InvokerSettings, fleet: Fleet, lock: threading.RLock, events: InvokerEvents | None
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._lock = lock
        self._events = events
        self._numbers = itertools.count(1)
        self._head: Call | None = None
        self._head_since = 0.0
        self._backoff = Backoff()
        self.pool: Pool[Slot] = Pool(settings.user_memory_mib)
        self.queue: deque[Call] = deque()
        self.counts: Counter[str] = Counter()
        self.closing = False
        self.changed = threading.Condition(lock)
        self._want_stems(flavours.default(settings))
        self.replenish()

    def accept(self, call: Call) -> None:
        """Run the call in a warm container if there is one, else queue it for one."""
        if not self.queue and (slot := self.pool.warm(call.key)):
            self._join(slot, call)
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
            self._discard(slot)
        return calls

    # -- finding a container: under the lock --------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give waiting calls their containers, first come first served."""
        while self.queue:
            call = self.queue[0]
            if slot := self.pool.warm(call.key):
                self.queue.popleft()
                self._join(slot, call)
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
                if not self._join(slot, call):
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
                self._discard(victim)
            slot = self.pool.claim(flavour, call.key, memory)
        claimed = slot is not None
        if slot is None:
            action = call.action.path.rpartition("/")[2]
            slot = self._new_slot(f"{call.invocation.namespace}_{action}", flavour, call.key, memory)
        slot.places = max(1, min(call.action.limits.concurrency, self._settings.concurrency))
        slot.calls[call.id] = call
        self.pool.update(slot)
        if claimed:
            self._count_start("recreatedPrewarm" if evicted else "prewarmed")
            if slot.state is State.STEM:
                self._initialise(slot)
            elif slot.container is not None:
                self._fleet.hurry(slot)
        else:
            self._count_start("recreated" if evicted else "cold")
        return True

    def _count_start(self, kind: str) -> None:
        self.counts[f"{kind}Starts"] += 1
        if self._events is not None:
            self._events.started(kind)

    def _new_slot(self, label: str, flavour: Flavour, key: Hashable | None, memory_mib: int) -> Slot:
        name = f"wsk0_{next(self._numbers)}_{_NOT_IN_A_NAME.sub('', label)}"[:NAME_MAX]
        slot = Slot(self, name, flavour, key, memory_mib)
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

    def _retry_stems(self) -> None:
        with self._lock:
            self.replenish()

    def _discard(self, slot: Slot) -> None:
        """Take the container out of the pool; its processes are killed in the background."""
        if slot.state is State.GONE:
            return
        self.pool.remove(slot)
        self._fleet.remove(slot)

    # -- seeing a call through ---------------------------------------------------------------------------

    def _join(self, slot: Slot, call: Call) -> bool:
        """Under the lock. False when the container was dead: then all calls that wait were dispatched anew."""
        self._count_start("warm")
        slot.calls[call.id] = call
        self.pool.update(slot)
        if not slot.initialised or slot.changing:
            return True
        if slot.frozen and slot.container.slow:
            self._change(slot, self._thaw)
            return True
        try:
            if slot.frozen:
                slot.container.resume()
                slot.frozen = False
            self._run(slot, call)
            return True
        except (OSError, CgroupError):
            # It died while it was idle; nothing was delivered, so another container can take the call.
            self._withdraw(slot, [call])
            self._dispatch()
            return False

    def _run_all(self, slot: Slot) -> None:
        """Under the lock: the container is ready for the calls that wait in it."""
        waiting = [call for call in slot.calls.values() if call.run_ms is None]
        try:
            while waiting:
                self._run(slot, waiting[0])
                del waiting[0]
        except OSError:
            self._withdraw(slot, waiting)
            self._dispatch()

    def _run(self, slot: Slot, call: Call) -> None:
        """Under the lock. Raises ``OSError`` when the container cannot be reached."""
        if call.log is None:
            self._begin(slot, call)
        call.run_ms = now_ms()
        if call.start_ms is None:
            call.start_ms = call.run_ms
        self._arm(slot, call, call.action.limits.timeout_ms / 1000)
        slot.conversation.send(call.id, "/run", call.run_body())

    def _begin(self, slot: Slot, call: Call) -> None:
        call.log = ActivationLog(call.action.limits.logs_mib << 20)
        slot.conversation.collector.open(call.id, call.log)

    def _arm(self, slot: Slot, call: Call, seconds: float) -> None:
        call.due = time.monotonic() + seconds
        self._rearm(slot)

    def _rearm(self, slot: Slot) -> None:
        self._fleet.arm(slot, min((call.due for call in slot.calls.values()), default=NEVER))

    def _initialise(self, slot: Slot) -> None:
        """Under the lock: the first of the calls in the slot brings the action's code."""
        slot.state = State.BUSY
        self._fleet.in_background(self._claim, slot, next(iter(slot.calls.values())))

    def _claim(self, slot: Slot, call: Call) -> None:
        """On a worker: the container gets the action's resources and code."""
        try:
            slot.container.claim(self._cpu(call), call.action.limits.memory_mib)
        except (CgroupError, OSError) as error:
            self.failed(slot, internal_error(f"The action's resources could not be set: {error}"))
            return
        body = call.init_body()
        with self._lock:
            if slot.calls.get(call.id) is not call:
                return
            self._begin(slot, call)
            call.start_ms = now_ms()
            self._arm(slot, call, call.action.limits.timeout_ms / 1000)
            try:
                slot.conversation.send(call.id, "/init", body)
            except OSError:
                self._fleet.soon(partial(self.hung_up, slot, call.id))

    def started(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is not State.STARTING:
                return
            self._backoff.succeeded(slot.flavour)
            self._fleet.arm(slot, NEVER)
            if slot.calls:
                self._initialise(slot)
            else:
                slot.state = State.STEM

    def answered(self, slot: Slot, activation_id: str, response: Response) -> None:
        with self._lock:
            call = slot.calls.get(activation_id)
            if call is None or call.verdict is not None:
                return
            if call.run_ms is None:
                self._initialised(slot, call, response)
                return
            if response.status == 503:  # it has not begun the call and will not: another one takes it
                self._withdraw(slot, [call], attempted=True)
                self._dispatch()
                return
            if self._events is not None:
                self._events.ran((now_ms() - call.run_ms) / 1000)
            self._decide(slot, call, of_run(response))

    def _initialised(self, slot: Slot, call: Call, response: Response) -> None:
        self._end_init(call)
        if refusal := of_init(response):
            self._decide(slot, call, refusal)
            return
        slot.initialised = True
        try:
            self._run(slot, call)
        except OSError:
            self._lose(slot, call)
        else:
            self.pool.update(slot)
            if len(slot.calls) > 1:
                self._run_all(slot)
        self.replenish()

    def _end_init(self, call: Call) -> None:
        call.init_ms = now_ms() - call.start_ms
        if self._events is not None:
            self._events.initialised(call.init_ms / 1000)

    def _withdraw(self, slot: Slot, calls: Iterable[Call], *, attempted: bool = False) -> None:
        """Under the lock: the container takes no more calls; these, which it has not begun, wait for another one.

        ``attempted``: each has had an attempt more, of which there are few.
        """
        again = []
        self._retire(slot)
        for call in calls:
            if attempted and call.attempts + 1 == MAX_ATTEMPTS:
                self._decide(slot, call, internal_error(f"No container took the action in {MAX_ATTEMPTS} attempts."))
                continue
            call.attempts += attempted
            del slot.calls[call.id]
            if call.log is not None:
                slot.conversation.collector.close(call.id)
            call.start_over()
            again.append(call)
        self.queue.extendleft(reversed(again))
        self._settle(slot)

    def _retire(self, slot: Slot) -> None:
        if not slot.retired:
            slot.retired = True
            self.pool.update(slot)

    def _decide(self, slot: Slot, call: Call, verdict: Verdict) -> None:
        """Under the lock: the answer is known; the logs may have to be waited for."""
        call.decide(verdict)
        if verdict.destroys:
            self._retire(slot)
            if slot.conversation is not None:
                slot.conversation.drain()
            self._finish(slot, call)
        elif call.log.complete:
            self._finish(slot, call)
        else:
            slot.conversation.collector.answered(call.id)
            self._arm(slot, call, LOG_WAIT_S)

    def logged(self, slot: Slot, activation_id: str) -> None:
        with self._lock:
            call = slot.calls.get(activation_id)
            if call is not None and call.verdict is not None and not call.verdict.destroys:
                self._finish(slot, call)

    def hung_up(self, slot: Slot, activation_id: str) -> None:
        with self._lock:
            call = slot.calls.get(activation_id)
            if call is not None and call.verdict is None and call.start_ms is not None:
                self._lose(slot, call)

    def _lose(self, slot: Slot, call: Call) -> None:
        """Under the lock: the container will not answer the call."""
        if call.lost:
            return
        call.lost = True
        self.counts["containersDied"] += 1
        if call.run_ms is None:
            self._end_init(call)
        self._retire(slot)
        if slot.container.slow:
            self._fleet.in_background(self._ask_why, slot, call)
        else:
            self._decide(slot, call, died(call.run_ms is None, slot.container.out_of_memory()))

    def _ask_why(self, slot: Slot, call: Call) -> None:
        """On a worker."""
        self._fleet.soon(partial(self._lost, slot, call, slot.container.out_of_memory()))

    def _lost(self, slot: Slot, call: Call, out_of_memory: bool) -> None:
        with self._lock:
            if slot.calls.get(call.id) is call and call.verdict is None:
                self._decide(slot, call, died(call.run_ms is None, out_of_memory))

    def exited(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.GONE:
                return
            self._retire(slot)
            if slot.state is State.STARTING:
                self._stillborn(slot)
                return
            for call in list(slot.calls.values()):
                if call.verdict is not None:
                    self._finish(slot, call, lost=True)
                elif call.start_ms is not None:
                    self._lose(slot, call)
            if unbegun := [call for call in slot.calls.values() if call.start_ms is None]:
                self._withdraw(slot, unbegun, attempted=True)
            self._settle(slot)
            self._dispatch()
            self.replenish()

    def _stillborn(self, slot: Slot) -> None:
        output = slot.conversation.collector.tail.decode(errors="replace").strip()
        reason = output.splitlines()[-1] if output else "it exited without a word"
        last = [call for call in slot.calls.values() if call.attempts + 1 == MAX_ATTEMPTS]
        self._failed_start(slot, reason)
        for call in last:
            call.decide(internal_error(f"The action's container did not start: {reason}"))
        for call in last:
            self._finish(slot, call)
        self._withdraw(slot, list(slot.calls.values()), attempted=True)
        self._dispatch()

    def _failed_start(self, slot: Slot, reason: str) -> None:
        self._backoff.failed(slot.flavour, slot.name, reason)
        if slot.key is None:
            self._fleet.later(self._backoff.postpone(slot.flavour), self._retry_stems)

    def failed(self, slot: Slot, verdict: Verdict) -> None:
        """The container is no good; if it has calls, they end with ``verdict``."""
        with self._lock:
            if slot.state is State.GONE:
                return
            self._retire(slot)
            if slot.state is State.STARTING:
                self._failed_start(slot, verdict.result["error"])
            calls = list(slot.calls.values())
            for call in calls:
                if call.verdict is None:
                    call.decide(verdict)
            for call in calls:
                self._finish(slot, call)
            self._settle(slot)
            self._dispatch()

    def _finish(self, slot: Slot, call: Call, *, lost: bool = False) -> None:
        """Under the lock: the call is over, its place in the container free again or gone."""
        if slot.calls.pop(call.id, None) is None:
            return
        verdict, logs = call.verdict, []
        if call.log is not None:
            logs = call.log.finish(lost=lost, failed=verdict.destroys)
            slot.conversation.collector.close(call.id)
        if verdict.destroys or lost:
            self._retire(slot)
            if not slot.initialised and slot.state is not State.STARTING:
                # The others that wait in it begin anew elsewhere, one of them with /init.
                self._withdraw(slot, [other for other in slot.calls.values() if other.verdict is None])
        self._settle(slot)
        if self.queue:
            self._dispatch()
        self.replenish()
        if self.closing:
            self.changed.notify_all()
        # By the loop, so that what a caller hangs on the future does not run under the lock.
        self._fleet.soon(partial(call.future.set_result, call.outcome(logs)))

    def _settle(self, slot: Slot) -> None:
        """Under the lock: calls have left the slot."""
        if slot.retired:
            if not slot.calls:
                self._discard(slot)
            else:
                self._rearm(slot)
            return
        self.pool.update(slot)
        if slot.calls:
            self._rearm(slot)
        elif slot.initialised:
            slot.idle_since = time.monotonic()
            self._fleet.arm(slot, slot.idle_since + min(self._settings.pause_grace_s, self._settings.idle_s))

    # -- time ---------------------------------------------------------------------------------------------

    def overdue(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.STARTING:
                self.failed(slot, internal_error(f"The action's container did not start within {START_TIMEOUT_S:.0f} s."))
            elif slot.state is State.BUSY:
                now = time.monotonic()
                for call in [call for call in slot.calls.values() if call.due <= now]:
                    self._time_is_up(slot, call)
                if slot.state is State.BUSY:
                    self._rearm(slot)
            elif slot.state in (State.IDLE, State.PAUSED):
                self._rest(slot)

    def _time_is_up(self, slot: Slot, call: Call) -> None:
        if slot.calls.get(call.id) is not call:  # the one before took it along
            return
        if call.verdict is not None:
            self._finish(slot, call, lost=True)
            return
        self.counts["timeouts"] += 1
        if call.run_ms is None:
            self._end_init(call)
        elif self._events is not None:
            self._events.ran((now_ms() - call.run_ms) / 1000)
        self._decide(slot, call, timed_out(call.action.limits.timeout_ms, initialising=call.run_ms is None))

    def _rest(self, slot: Slot) -> None:
        """Pause a container that is idle for a while, remove it after a long one."""
        if time.monotonic() >= slot.idle_since + self._settings.idle_s:
            self._discard(slot)
            self.replenish()
            return
        self._fleet.arm(slot, slot.idle_since + self._settings.idle_s)
        slot.state = State.PAUSED
        if slot.container.slow:
            self._change(slot, self._freeze)
            return
        try:
            slot.container.pause()
            slot.frozen = True
        except (CgroupError, OSError):
            self._discard(slot)
            self._dispatch()
            self.replenish()

    def _change(self, slot: Slot, how: Callable[[Slot], None]) -> None:
        """Under the lock: freeze or thaw on a worker; calls that come meanwhile wait in the slot."""
        slot.changing = True
        self._fleet.in_background(how, slot)

    def _freeze(self, slot: Slot) -> None:
        """On a worker."""
        self._changed(slot, slot.container.pause, frozen=True)

    def _thaw(self, slot: Slot) -> None:
        """On a worker."""
        self._changed(slot, slot.container.resume, frozen=False)

    def _changed(self, slot: Slot, change: Callable[[], None], *, frozen: bool) -> None:
        try:
            change()
        except (CgroupError, OSError):
            with self._lock:
                if slot.state is not State.GONE:
                    self._withdraw(slot, list(slot.calls.values()))
                    self._dispatch()
                    self.replenish()
            return
        with self._lock:
            slot.changing, slot.frozen = False, frozen
            if slot.state is State.GONE:
                return
            if not frozen:
                slot.conversation.reconnect()
                self._run_all(slot)
            elif slot.calls:
                self._change(slot, self._thaw)

    def _cpu(self, call: Call) -> int:
        return call.action.cpu_millis or self._settings.default_cpu_millis
