"""The invoker as the API sees it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial

from deploy.standalone.invoker import flavour as flavours
from deploy.standalone.invoker.call import Call
from deploy.standalone.invoker.dispatcher import Dispatcher
from deploy.standalone.invoker.fleet import Fleet
from deploy.standalone.invoker.pool import State
from deploy.standalone.invoker.responses import Verdict, developer_error, internal_error
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.model import Invocation, InvokerEvents, Outcome

_COUNTERS = (
    "warmStarts",
    "prewarmedStarts",
    "coldStarts",
    "recreatedStarts",
    "recreatedPrewarmStarts",
    "containersDied",
    "evictions",
    "timeouts",
)


class InvokerClosed(Exception):
    """The server is shutting down."""


class ProcessInvoker:
    """Runs actions in containers that are processes of this machine, or made by its Docker Engine.

    A call goes from the caller's thread straight to a warm container; answers come back through one loop
    thread. What takes milliseconds (starting, claiming, destroying) is done by a few worker threads.
    ``events`` hears of starts and durations.

    Raises ``ValueError`` for settings that cannot work, :class:`~deploy.standalone.invoker.InUse` when another
    server has its containers in the same folder or group, and :class:`~rm_agent.cgroup.CgroupError` when
    containers of a previous server cannot be killed.
    """

    def __init__(self, settings: InvokerSettings, events: InvokerEvents | None = None) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._fleet = Fleet(settings, self._lock)
        self._closed = False
        self._docker_found = False
        with self._lock:
            self._dispatcher = Dispatcher(settings, self._fleet, self._lock, events)

    @property
    def notice(self) -> str | None:
        """What is not enforced here, in one line."""
        return self._fleet.notice

    @property
    def leftovers(self) -> int:
        """How many containers of a previous server were cleared away."""
        return self._fleet.leftovers

    def submit(self, invocation: Invocation) -> Future[Outcome]:
        """Never raises; the future fails with :class:`InvokerClosed` only when the server is closing.

        Callbacks of the future run on the loop's thread: they must be short.
        """
        call = Call(invocation)
        refusal = self._refusal(call)
        if refusal is not None:
            self._refuse(call, refusal)
        elif self._needs_docker(call) and not self._docker_found:
            self._fleet.look_for_docker(partial(self._admit, call))
        else:
            self._accept(call)
        return call.future

    def _admit(self, call: Call, docker_found: bool) -> None:
        """On a worker: looking for the engine may take seconds."""
        if docker_found:
            self._docker_found = True
            self._accept(call)
        else:
            image = flavours.of_action(call.action, self.settings).image
            self._refuse(call, developer_error(f"Failed to pull container image '{image}'."))

    def _accept(self, call: Call) -> None:
        with self._lock:
            if self._dispatcher.closing:
                call.future.set_exception(InvokerClosed("the server is shutting down"))
            else:
                self._dispatcher.accept(call)

    def _refuse(self, call: Call, verdict: Verdict) -> None:
        call.decide(verdict)
        call.future.set_result(call.outcome([]))

    def _needs_docker(self, call: Call) -> bool:
        return call.action.image is not None or self.settings.containers == "docker"

    def stats(self) -> dict[str, float]:
        """Containers by state (count and MiB), calls waiting, and counters since the start."""
        with self._lock:
            pool, queue = self._dispatcher.pool, self._dispatcher.queue
            slots = list(pool.slots)
            active = [slot.memory_mib for slot in slots if slot.calls]
            idle = [slot.memory_mib for slot in slots if slot.state in (State.IDLE, State.PAUSED)]
            stems = [slot.memory_mib for slot in slots if slot.key is None]
            waiting = [call.action.limits.memory_mib for call in queue]
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
                "memoryInUse": pool.used_mib,
                "memoryTotal": pool.capacity_mib,
                "containersStarted": self._fleet.started,
                "containersRemoved": self._fleet.removed,
                **{name: self._dispatcher.counts[name] for name in _COUNTERS},
            }

    def close(self, grace_s: float = 10.0) -> None:
        """Let calls, the waiting ones too, finish for ``grace_s``; then every container goes. Idempotent."""
        dispatcher = self._dispatcher
        with self._lock:
            if self._closed:
                return
            self._closed = dispatcher.closing = True
            dispatcher.changed.wait_for(lambda: not dispatcher.calls(), timeout=grace_s)
            unfinished = dispatcher.abandon()
        self._fleet.close()
        for call in unfinished:
            call.future.set_exception(InvokerClosed("the server was shut down before the action ended"))

    def _refusal(self, call: Call) -> Verdict | None:
        """The answer for what can never run here."""
        action = call.action
        try:
            flavours.of_action(action, self.settings)
        except flavours.UnknownKind as error:
            return internal_error(str(error))
        if action.limits.memory_mib > self.settings.user_memory_mib:
            return internal_error(
                f"The action needs {action.limits.memory_mib} MiB, more than the {self.settings.user_memory_mib} MiB this server has."
            )
        return None
