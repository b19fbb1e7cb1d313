"""A call's way through its container, from /init to its logs, and what becomes of the container after it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from deploy.standalone.invoker.call import Call, now_ms
from deploy.standalone.invoker.collector import Collector
from deploy.standalone.invoker.fleet import Fleet
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.pool import Pool, State
from deploy.standalone.invoker.responses import Verdict, died, internal_error, of_init, of_run, timed_out
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from deploy.standalone.model import InvokerEvents
from rm_agent.cgroup import CgroupError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
# What is waited for after the answer: the sentinels, as in OpenWhisk; where it is not known whether there are any;
# and, where there are none, what was printed before the answer.
LOG_WAIT_S = {True: 2.0, None: 0.5, False: 0.02}
MAX_ATTEMPTS = 3
NEVER = float("inf")

_NOT_TAKEN = internal_error(f"No container took the action in {MAX_ATTEMPTS} attempts.")


class Desk(Protocol):
    """Whoever finds containers for calls. Told under the lock."""

    def again(self, calls: list[Call]) -> None:
        """These were given a container in vain: they are the first to get another one."""
        ...

    def freed(self) -> None:
        """Calls wait again, are over, or containers gone: look what can be done now."""
        ...

    def did_start(self, slot: Slot) -> None: ...

    def did_not_start(self, slot: Slot, reason: str) -> None: ...

    def stem_died(self, slot: Slot) -> None: ...


class Course:
    """Owner of the slots. ``lock`` is held by whoever calls, save for what containers report: these methods take it."""

    def __init__(
        self,
        settings: InvokerSettings,
        fleet: Fleet,
        lock: threading.RLock,
        pool: Pool[Slot],
        desk: Desk,
        events: InvokerEvents | None,
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._lock = lock
        self._pool = pool
        self._desk = desk
        self._events = events
        self.counts: Counter[str] = Counter()

    def count_start(self, kind: str) -> None:
        self.counts[f"{kind}Starts"] += 1
        if self._events is not None:
            self._events.started(kind)

    def discard(self, slot: Slot) -> None:
        """Take the container out of the pool; its processes are killed in the background."""
        if slot.state is not State.GONE:
            self._pool.remove(slot)
            self._fleet.remove(slot)

    def join(self, slot: Slot, call: Call) -> bool:
        """Under the lock. False when the container was dead: then all calls that wait were dispatched anew."""
        self.count_start("warm")
        slot.calls[call.id] = call
        self._pool.update(slot)
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
            self._desk.freed()
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
            self._desk.freed()

    def _run(self, slot: Slot, call: Call) -> None:
        """Under the lock. Raises ``OSError`` when the container cannot be reached."""
        if call.log is None:
            self._begin(call, slot.conversation.collector)
        call.run_ms = now_ms()
        if call.start_ms is None:
            call.start_ms = call.run_ms
        self._arm(slot, call, call.action.limits.timeout_ms / 1000)
        slot.conversation.send(call.id, "/run", call.run_body())

    def _begin(self, call: Call, collector: Collector) -> None:
        call.log = ActivationLog(call.action.limits.logs_mib << 20)
        collector.open(call.id, call.log)

    def _arm(self, slot: Slot, call: Call, seconds: float) -> None:
        call.due = time.monotonic() + seconds
        self._rearm(slot)

    def _rearm(self, slot: Slot) -> None:
        self._fleet.arm(slot, min((call.due for call in slot.calls.values()), default=NEVER))

    def initialise(self, slot: Slot) -> None:
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
            if call.log is None:
                self._begin_init(slot, call, slot.conversation.collector)
            try:
                slot.conversation.send(call.id, "/init", body)
            except OSError:
                self._fleet.soon(partial(self.hung_up, slot, call.id, delivered=False))

    def _begin_init(self, slot: Slot, call: Call, collector: Collector) -> None:
        self._begin(call, collector)
        call.start_ms = now_ms()
        self._arm(slot, call, call.action.limits.timeout_ms / 1000)

    def made(self, slot: Slot, collector: Collector) -> None:
        if slot.flavour.managed:
            self._fleet.arm(slot, time.monotonic() + START_TIMEOUT_S)
        else:
            # To listen is a part of the action's own /init there, as in OpenWhisk: its time, its log, its fault.
            self._begin_init(slot, next(iter(slot.calls.values())), collector)

    def started(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is not State.STARTING:
                return
            self._desk.did_start(slot)
            self._rearm(slot)
            if slot.calls:
                self.initialise(slot)
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
                self._withdraw(slot, [call], at_last=_NOT_TAKEN)
                self._desk.freed()
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
            self._pool.update(slot)
            if len(slot.calls) > 1:
                self._run_all(slot)
        self._desk.freed()

    def _end_init(self, call: Call) -> None:
        call.init_ms = now_ms() - call.start_ms
        if self._events is not None:
            self._events.initialised(call.init_ms / 1000)

    def _withdraw(self, slot: Slot, calls: list[Call], *, at_last: Verdict | None = None) -> None:
        """Under the lock: the container takes no more calls; these, which it has not begun, wait for another one.

        ``at_last``: this was one of the few attempts that each has, and how those end who have had them all.
        """
        self._retire(slot)
        again, over = [], []
        for call in calls:
            if at_last is not None:
                call.attempts += 1
            (over if call.attempts == MAX_ATTEMPTS else again).append(call)
        for call in again:
            del slot.calls[call.id]
            if call.log is not None:
                slot.conversation.collector.close(call.id)
            call.start_over()
        self._desk.again(again)
        for call in over:
            call.decide(at_last)
        for call in over:
            self._finish(slot, call)
        self._settle(slot)

    def _retire(self, slot: Slot) -> None:
        if not slot.retired:
            slot.retired = True
            self._pool.update(slot)

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
            self._arm(slot, call, LOG_WAIT_S[slot.sentinels])

    def logged(self, slot: Slot, activation_id: str) -> None:
        with self._lock:
            slot.sentinels = True
            call = slot.calls.get(activation_id)
            if call is not None and call.verdict is not None and not call.verdict.destroys:
                self._finish(slot, call)

    def hung_up(self, slot: Slot, activation_id: str, delivered: bool) -> None:
        with self._lock:
            call = slot.calls.get(activation_id)
            if call is None or call.verdict is not None or call.start_ms is None:
                return
            if delivered or call.run_ms is None or call.init_ms is not None:
                self._lose(slot, call)
            else:
                self._withdraw(slot, [call], at_last=_NOT_TAKEN)
                self._desk.freed()

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
            if slot.state is State.STARTING and slot.flavour.managed:
                self._stillborn(slot)
                return
            for call in list(slot.calls.values()):
                if call.verdict is not None:
                    self._finish(slot, call, lost=bool(slot.sentinels))
                elif call.start_ms is not None:
                    self._lose(slot, call)
            if unbegun := [call for call in slot.calls.values() if call.start_ms is None]:
                self._withdraw(slot, unbegun, at_last=_NOT_TAKEN)
            if slot.key is None:
                self._desk.stem_died(slot)
            self._settle(slot)
            self._desk.freed()

    def _stillborn(self, slot: Slot) -> None:
        output = slot.conversation.collector.tail.decode(errors="replace").strip()
        reason = output.splitlines()[-1] if output else "it exited without a word"
        self._desk.did_not_start(slot, reason)
        told = internal_error(f"The action's container did not start: {reason}")
        self._withdraw(slot, list(slot.calls.values()), at_last=told)
        self._desk.freed()

    def failed(self, slot: Slot, verdict: Verdict) -> None:
        """The container is no good; if it has calls, they end with ``verdict``."""
        with self._lock:
            if slot.state is State.GONE:
                return
            self._retire(slot)
            if slot.state is State.STARTING:
                self._desk.did_not_start(slot, verdict.result["error"])
            calls = list(slot.calls.values())
            for call in calls:
                if call.verdict is None:
                    call.decide(verdict)
            for call in calls:
                self._finish(slot, call)
            self._settle(slot)
            self._desk.freed()

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
            if not slot.initialised:
                # The others that wait in it begin anew elsewhere, one of them with /init.
                self._withdraw(slot, [other for other in slot.calls.values() if other.verdict is None])
        self._settle(slot)
        self._desk.freed()
        # By the loop, so that what a caller hangs on the future does not run under the lock.
        self._fleet.soon(partial(call.future.set_result, call.outcome(logs)))

    def _settle(self, slot: Slot) -> None:
        """Under the lock: calls have left the slot."""
        if slot.retired:
            if not slot.calls:
                self.discard(slot)
            else:
                self._rearm(slot)
            return
        self._pool.update(slot)
        if slot.calls:
            self._rearm(slot)
        elif slot.initialised:
            slot.idle_since = time.monotonic()
            self._fleet.arm(slot, slot.idle_since + min(self._settings.pause_grace_s, self._settings.idle_s))

    # -- time ---------------------------------------------------------------------------------------------

    def overdue(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.STARTING and slot.flavour.managed:
                told = f"The action's container did not start within {START_TIMEOUT_S:.0f} s."
                self.failed(slot, internal_error(told))
            elif slot.state in (State.STARTING, State.BUSY):
                now = time.monotonic()
                for call in [call for call in slot.calls.values() if call.due <= now]:
                    self._time_is_up(slot, call)
                if slot.calls:
                    self._rearm(slot)
            elif slot.state in (State.IDLE, State.PAUSED):
                self._rest(slot)

    def _time_is_up(self, slot: Slot, call: Call) -> None:
        if slot.calls.get(call.id) is not call:  # the one before took it along
            return
        if call.verdict is not None:
            if slot.sentinels is None:
                slot.sentinels = False
            self._finish(slot, call, lost=slot.sentinels)
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
            self.discard(slot)
            self._desk.freed()
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
            self.discard(slot)
            self._desk.freed()

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
        except (CgroupError, OSError) as error:
            with self._lock:
                if slot.state is not State.GONE:
                    log.warning("container %s could not be %s: %s", slot.name, "paused" if frozen else "resumed", error)
                    self._withdraw(slot, list(slot.calls.values()))
                    self._desk.freed()
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
