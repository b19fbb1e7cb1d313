"""The invoker: finds each invocation a container and sees it through."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from deploy.standalone.invoker import leftovers
from deploy.standalone.invoker.call import Call, now_ms
from deploy.standalone.invoker.container import StartFailed
from deploy.standalone.invoker.conversation import Conversation
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.loop import Loop
from deploy.standalone.invoker.pool import Pool, State
from deploy.standalone.invoker.process import NAME_MAX, ProcessContainer, check_run_dir
from deploy.standalone.invoker.responses import (
    Verdict,
    developer_error,
    died,
    internal_error,
    of_init,
    of_run,
    timed_out,
)
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from deploy.standalone.model import Invocation, Outcome
from rm_agent.cgroup import CgroupDriver, CgroupError, detect

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
LOG_WAIT_S = 2.0  # for the sentinels after the answer, as in OpenWhisk
OVERTAKE_S = 1.0  # how long a call that waits for memory lets others use their own warm containers
OVERTAKE_CALLS = 256
MAX_ATTEMPTS = 3
WORKERS = 4

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


class InvokerClosed(Exception):
    """The server is shutting down."""


class ProcessInvoker:
    """Runs Python actions in containers that are processes of this machine.

    A call goes from the caller's thread straight to a warm container; answers come back through one loop
    thread. What takes milliseconds (starting, claiming, destroying) is done by a few worker threads.

    Raises ``ValueError`` for settings that cannot work, :class:`~deploy.standalone.invoker.leftovers.InUse` when
    another server has its containers in the same folder or group, and :class:`~rm_agent.cgroup.CgroupError` when
    containers of a previous server cannot be killed.
    """

    def __init__(self, settings: InvokerSettings) -> None:
        check_run_dir(settings.run_dir)
        self.settings = settings
        self._driver, self.notice = _driver(settings)
        self._locks = contextlib.ExitStack()
        try:
            self.leftovers = self._take_possession()
        except BaseException:
            self._locks.close()
            raise
        self._numbers = itertools.count(1)
        self._pool: Pool[Slot] = Pool(settings.user_memory_mib)
        self._queue: deque[Call] = deque()
        self._head: Call | None = None
        self._head_since = 0.0
        self._counts: Counter[str] = Counter()
        self._closing = False
        self._closed = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._loop = Loop("invoker-loop")
        self._workers = ThreadPoolExecutor(WORKERS, "invoker-worker")
        with self._lock:
            self._replenish()

    def _take_possession(self) -> int:
        """Lock the folder and the group, and clear both of a previous server's containers: their number."""
        settings, driver = self.settings, self._driver
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks.callback(os.close, leftovers.lock(settings.run_dir))
        if driver is not None:
            group = driver.create(settings.cgroup)
            self._locks.callback(os.close, leftovers.lock(group.folders[0]))
            # All containers together compete with the rest of the machine: they must not weigh as one task.
            group.set_cpu_weight(1024 * len(os.sched_getaffinity(0)))
        return leftovers.clear(settings.run_dir, driver, settings.cgroup)

    # -- what the API calls ------------------------------------------------------------------------------

    def submit(self, invocation: Invocation) -> Future[Outcome]:
        """Never raises; the future fails with :class:`InvokerClosed` only when the server is closing.

        Callbacks of the future run on the loop's thread: they must be short.
        """
        call = Call(invocation)
        if refusal := self._refusal(call):
            call.decide(refusal)
            call.future.set_result(call.outcome([]))
            return call.future
        with self._lock:
            if self._closing:
                call.future.set_exception(InvokerClosed("the server is shutting down"))
                return call.future
            if not self._queue and (slot := self._pool.warm(call.action.key)):
                self._run_warm(slot, call)
            else:
                self._queue.append(call)
                self._dispatch()
        return call.future

    def stats(self) -> dict[str, float]:
        """Containers by state (count and MiB), calls waiting, and counters since the start."""
        with self._lock:
            slots = list(self._pool.slots)
            active = [slot.memory_mib for slot in slots if slot.call is not None]
            idle = [slot.memory_mib for slot in slots if slot.state in (State.IDLE, State.PAUSED)]
            stems = [slot.memory_mib for slot in slots if slot.key is None]
            waiting = [call.action.limits.memory_mib for call in self._queue]
            return {
                "containerPool_activeCount": len(active),
                "containerPool_activeSize": sum(active),
                "containerPool_idlesCount": len(idle),
                "containerPool_idlesSize": sum(idle),
                "containerPool_prewarmCount": len(stems),
                "containerPool_prewarmSize": sum(stems),
                "containerPool_runBufferCount": len(waiting),
                "containerPool_runBufferSize": sum(waiting),
                "containerPool_pausedCount": sum(slot.state is State.PAUSED for slot in slots),
                "memoryInUse": self._pool.used_mib,
                "memoryTotal": self._pool.capacity_mib,
                **{name: self._counts[name] for name in _COUNTERS},
            }

    def close(self, grace_s: float = 10.0) -> None:
        """Let calls, the waiting ones too, finish for ``grace_s``; then every container goes. Idempotent."""
        with self._lock:
            self._closing = True
            if self._closed:
                return
            self._closed = True
            self._changed.wait_for(lambda: not self._queue and not self._active(), timeout=grace_s)
            slots = list(self._pool.slots)
            unfinished = [*self._queue, *(slot.call for slot in slots if slot.call)]
            self._queue.clear()
            for slot in slots:
                slot.call = None
                self._discard(slot)
        self._loop.close()
        self._workers.shutdown(wait=True)
        if self._driver is not None:
            try:
                self._driver.create(self.settings.cgroup).remove()
            except CgroupError as error:
                log.warning("%s", error)
        self._locks.close()
        with contextlib.suppress(OSError):  # it may hold what is not ours
            self.settings.run_dir.rmdir()
        for call in unfinished:
            call.future.set_exception(InvokerClosed("the server was shut down before the action ended"))

    # -- finding a container: all under the lock ---------------------------------------------------------

    def _refusal(self, call: Call) -> Verdict | None:
        """The answer for what can never run here."""
        action = call.action
        if action.image is not None:
            return developer_error(f"Failed to pull container image '{action.image}'.")
        if not action.kind.startswith("python"):
            return internal_error(f"This server has no runtime for the kind '{action.kind}'.")
        if action.limits.memory_mib > self._pool.capacity_mib:
            return internal_error(
                f"The action needs {action.limits.memory_mib} MiB, more than the {self._pool.capacity_mib} MiB this server has."
            )
        return None

    def _dispatch(self) -> None:
        """Give waiting calls their containers, first come first served."""
        while self._queue:
            call = self._queue[0]
            if slot := self._pool.warm(call.action.key):
                self._queue.popleft()
                self._run_warm(slot, call)
            elif self._place(call):
                self._queue.popleft()
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
        for call in list(itertools.islice(self._queue, 1, OVERTAKE_CALLS)):
            if slot := self._pool.warm(call.action.key):
                self._queue.remove(call)
                if not self._run_warm(slot, call):
                    return

    def _place(self, call: Call) -> bool:
        """Claim a stem cell or start a container, at the cost of idle ones; false when there is no memory."""
        key, memory = call.action.key, call.action.limits.memory_mib
        slot = self._pool.claim(key, memory)
        if slot is None:
            victims = self._pool.room(memory)
            if victims is None:
                return False
            for victim in victims:
                self._counts["evictions"] += 1
                self._discard(victim)
            slot = self._pool.claim(key, memory)
        if slot is None:
            self._counts["coldStarts"] += 1
            action = call.action.path.rpartition("/")[2]
            slot = self._new_slot(f"{call.action.namespace}_{action}", key, memory)
            slot.call = call
        else:
            self._counts["prewarmedStarts"] += 1
            slot.call = call
            if slot.state is State.STEM:
                slot.state = State.BUSY
                self._in_background(self._claim, slot, call)
            elif slot.container is not None:
                slot.container.hurry(self._cpu(call))
        return True

    def _new_slot(self, label: str, key: Hashable | None, memory_mib: int) -> Slot:
        name = f"wsk0_{next(self._numbers)}_{_NOT_IN_A_NAME.sub('', label)}"[:NAME_MAX]
        slot = Slot(self, name, key, memory_mib)
        self._pool.add(slot)
        self._in_background(self._start, slot)
        return slot

    def _replenish(self) -> None:
        """Start missing stem cells where there is memory for them without taking it from others."""
        memory = self.settings.stem_memory_mib
        for _ in range(self.settings.stem_cells - len(self._pool.stems())):
            if self._closing or self._queue or self._pool.used_mib + memory > self._pool.capacity_mib:
                return
            self._new_slot("prewarm_python311", None, memory)

    def _discard(self, slot: Slot) -> None:
        """Take the container out of the pool; its processes are killed in the background."""
        if slot.state is State.GONE:
            return
        self._pool.remove(slot)
        if slot.container is not None:  # else its maker will notice and destroy it
            self._loop.at(0.0, partial(self._destroy, slot))

    # -- seeing a call through ---------------------------------------------------------------------------

    def _run_warm(self, slot: Slot, call: Call) -> bool:
        """Under the lock. False when the container was dead: then all calls that wait were dispatched anew."""
        self._counts["warmStarts"] += 1
        slot.call = call
        try:
            if slot.frozen:
                slot.container.resume()
                slot.frozen = False
            self._run(slot, call)
            return True
        except (OSError, CgroupError):
            # It died while it was idle; nothing was delivered, so another container can take the call.
            slot.call = None
            self._discard(slot)
            self._queue.appendleft(call)
            self._dispatch()
            return False

    def _run(self, slot: Slot, call: Call) -> None:
        """Under the lock. Raises ``OSError`` when the container cannot be reached."""
        if slot.log is None:
            slot.log = ActivationLog(call.action.limits.logs_mib << 20)
            slot.conversation.collect(slot.log)
        if call.start_ms is None:
            call.start_ms = now_ms()
        self._arm(slot, time.monotonic() + call.action.limits.timeout_ms / 1000)
        slot.conversation.send("/run", call.run_body())

    def _start(self, slot: Slot) -> None:
        """On a worker: make the container; the loop hears when it is ready."""
        if slot.state is State.GONE:
            return
        try:
            container = ProcessContainer(slot.name, self.settings, self._driver, slot.memory_mib)
        except StartFailed as error:
            log.error("%s", error)
            self._fail(slot, internal_error(str(error)))
            return
        with self._lock:
            self._counts["containersStarted"] += 1
            if slot.state is not State.GONE:
                slot.container = container
                self._arm(slot, time.monotonic() + START_TIMEOUT_S)
                slot.conversation = Conversation(container, self._loop, slot)
                if slot.call is not None:
                    container.hurry(self._cpu(slot.call))
                return
        container.destroy()

    def _claim(self, slot: Slot, call: Call) -> None:
        """On a worker: the container gets the action's resources and code."""
        try:
            slot.container.claim(self._cpu(call), call.action.limits.memory_mib)
        except CgroupError as error:
            self._fail(slot, internal_error(f"The action's resources could not be set: {error}"))
            return
        body = call.init_body()
        with self._lock:
            if slot.call is not call:
                return
            slot.log = ActivationLog(call.action.limits.logs_mib << 20)
            slot.conversation.collect(slot.log)
            call.start_ms = now_ms()
            self._arm(slot, time.monotonic() + call.action.limits.timeout_ms / 1000)
            try:
                slot.conversation.send("/init", body)
            except OSError:
                self._fail(slot, died(True, slot.container.out_of_memory()))

    def _started(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is not State.STARTING:
                return
            self._arm(slot, float("inf"))
            if slot.call is not None:
                slot.state = State.BUSY
                self._in_background(self._claim, slot, slot.call)
            else:
                slot.state = State.STEM

    def _answered(self, slot: Slot, response: Response) -> None:
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
            self._replenish()

    def _reschedule(self, slot: Slot, call: Call) -> None:
        """The container has not begun the call and will not: another one takes it."""
        call.attempts += 1
        if call.attempts == MAX_ATTEMPTS:
            self._decide(slot, internal_error(f"No container took the action in {MAX_ATTEMPTS} attempts."))
            return
        call.start_ms = call.init_ms = None
        slot.call = None
        self._discard(slot)
        self._queue.appendleft(call)
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
            self._arm(slot, time.monotonic() + LOG_WAIT_S)

    def _logged(self, slot: Slot) -> None:
        with self._lock:
            if slot.call is not None and slot.call.verdict is not None and not slot.call.verdict.destroys:
                self._finish(slot)

    def _hung_up(self, slot: Slot) -> None:
        with self._lock:
            call = slot.call
            if call is not None and call.verdict is None and call.start_ms is not None:
                self._counts["containersDied"] += 1
                if call.init_ms is None and not slot.initialised:
                    call.init_ms = now_ms() - call.start_ms
                self._decide(slot, died(not slot.initialised, slot.container.out_of_memory()))

    def _exited(self, slot: Slot) -> None:
        with self._lock:
            if slot.state is State.GONE:
                return
            self._hung_up(slot)
            if slot.state is State.STARTING:
                output = slot.conversation.tail.decode(errors="replace").strip()
                reason = output.splitlines()[-1] if output else "it exited without a word"
                log.error("container %s did not start: %s", slot.name, reason)
                self._fail(slot, internal_error(f"The action's container did not start: {reason}"))
            elif slot.call is not None and slot.call.verdict is not None:
                self._finish(slot, lost=True)
            elif slot.call is not None:  # it died before it got the call
                self._reschedule(slot, slot.call)
            elif slot.state is not State.GONE:
                was_stem = slot.key is None
                self._discard(slot)
                self._dispatch()
                if was_stem:
                    self._replenish()

    def _fail(self, slot: Slot, verdict: Verdict) -> None:
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
            self._pool.release(slot)
            self._arm(slot, slot.idle_since + min(self.settings.pause_grace_s, self.settings.idle_s))
        if self._queue:
            self._dispatch()
        self._replenish()
        if self._closing:
            self._changed.notify_all()
        # By the loop, so that what a caller hangs on the future does not run under the lock.
        self._loop.at(0.0, partial(call.future.set_result, call.outcome(logs)))

    # -- time and threads --------------------------------------------------------------------------------

    def _arm(self, slot: Slot, due: float) -> None:
        """Under the lock. A timer that is set already is kept when it fires earlier: it looks again then."""
        slot.due = due
        if due < slot.timer:
            slot.timer = due
            self._loop.at(due, partial(self._on_timer, slot, due))

    def _on_timer(self, slot: Slot, when: float) -> None:
        with self._lock:
            if slot.timer == when:
                slot.timer = float("inf")
            if slot.state is State.GONE:
                return
            if slot.due > time.monotonic():
                self._arm(slot, slot.due)
                return
            slot.due = float("inf")
            if slot.state is State.STARTING:
                self._fail(slot, internal_error(f"The action's container did not start within {START_TIMEOUT_S:.0f} s."))
            elif slot.state is State.BUSY:
                self._overdue(slot)
            elif slot.state in (State.IDLE, State.PAUSED):
                self._rest(slot)

    def _overdue(self, slot: Slot) -> None:
        call = slot.call
        if call.verdict is not None:
            self._finish(slot, lost=True)
            return
        self._counts["timeouts"] += 1
        if not slot.initialised:
            call.init_ms = now_ms() - call.start_ms
        self._decide(slot, timed_out(call.action.limits.timeout_ms, initialising=not slot.initialised))

    def _rest(self, slot: Slot) -> None:
        """Pause a container that is idle for a while, remove it after a long one."""
        if time.monotonic() >= slot.idle_since + self.settings.idle_s:
            self._discard(slot)
            self._replenish()
            return
        try:
            slot.container.pause()
        except CgroupError:
            self._discard(slot)
            return
        slot.frozen = True
        slot.state = State.PAUSED
        self._arm(slot, slot.idle_since + self.settings.idle_s)

    def _destroy(self, slot: Slot) -> None:
        """On the loop's thread, so that no callback uses a descriptor while it is closed."""
        slot.conversation.close()
        self._in_background(self._bury, slot)

    def _bury(self, slot: Slot) -> None:
        slot.container.destroy()
        with self._lock:
            self._counts["containersRemoved"] += 1

    def _in_background(self, work: Callable[..., None], slot: Slot, *more: Call) -> None:
        self._workers.submit(self._guarded, work, slot, *more)

    def _guarded(self, work: Callable[..., None], slot: Slot, *more: Call) -> None:
        """A worker's errors end the call instead of leaving its caller waiting."""
        try:
            work(slot, *more)
        except Exception as error:
            log.exception("invoker: unexpected failure with container %s", slot.name)
            self._fail(slot, internal_error(f"The invoker failed: {type(error).__name__}."))

    def _active(self) -> bool:
        return any(slot.call is not None for slot in self._pool.slots)

    def _cpu(self, call: Call) -> int:
        return call.action.cpu_millis or self.settings.default_cpu_millis


_COUNTERS = (
    "warmStarts",
    "prewarmedStarts",
    "coldStarts",
    "containersStarted",
    "containersRemoved",
    "containersDied",
    "evictions",
    "timeouts",
)


def _driver(settings: InvokerSettings) -> tuple[CgroupDriver | None, str | None]:
    """The control groups to use, and what is not enforced without them."""
    if settings.cgroup is None:
        return None, "No control group was named: CPU and memory limits of actions are not enforced."
    driver = detect()
    if driver is None:
        return None, "No writable control groups (are you root?): CPU and memory limits of actions are not enforced."
    return driver, None
