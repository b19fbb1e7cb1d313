"""Makes containers, keeps their time, and takes them away."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from deploy.standalone.invoker import leftovers
from deploy.standalone.invoker.call import Call
from deploy.standalone.invoker.collector import Collector, Demultiplexer, SoleCollector
from deploy.standalone.invoker.container import Container, ImageUnavailable, StartFailed
from deploy.standalone.invoker.conversation import Conversation
from deploy.standalone.invoker.docker import Docker
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.loop import Loop
from deploy.standalone.invoker.pool import State
from deploy.standalone.invoker.process import ProcessContainer, check_run_dir
from deploy.standalone.invoker.responses import developer_error, internal_error
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.invoker.slot import Slot
from deploy.standalone.warden import Warden
from rm_agent.cgroup import CgroupDriver, CgroupError, detect

log = logging.getLogger(__name__)

WORKERS = 4
DOCKER_WORKERS = 8  # they wait for the engine; as many others make containers, and may wait minutes for an image
WARDEN_S = 10.0  # longest that a killed server's warden is waited for: it has to start, on a machine that may be busy


class Fleet:
    """One loop thread hears all containers; what takes milliseconds is done by a few worker threads.

    ``lock`` guards the slots. Raises what :class:`~deploy.standalone.invoker.ProcessInvoker` says.
    """

    def __init__(self, settings: InvokerSettings, lock: threading.RLock) -> None:
        check_run_dir(settings.run_dir)
        self._settings = settings
        self._lock = lock
        self._driver, self.notice = _driver(settings)
        self.started = 0
        self.removed = 0
        self._locks = contextlib.ExitStack()
        try:
            self.leftovers = self._take_possession()
        except BaseException:
            self._locks.close()
            raise
        self._warden = Warden(settings.run_dir, settings.cgroup if self._driver else None, settings.temporary)
        self._loop = Loop("invoker-loop")
        self._workers = ThreadPoolExecutor(WORKERS, "invoker-worker")
        self._docker_workers = ThreadPoolExecutor(DOCKER_WORKERS, "invoker-docker")
        self._docker_makers = ThreadPoolExecutor(DOCKER_WORKERS, "invoker-docker-maker")
        self._docker = Docker(settings, self._driver)
        self._docker_workers.submit(self._docker.engine)  # removes what a killed server left there

    def _take_possession(self) -> int:
        """Lock the folder and the group, and clear both of a previous server's containers: their number."""
        settings, driver = self._settings, self._driver
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks.callback(os.close, leftovers.lock(settings.run_dir, WARDEN_S))
        if driver is not None:
            group = driver.create(settings.cgroup)
            self._locks.callback(os.close, leftovers.lock(group.folders[0], WARDEN_S))
            group = driver.create(settings.cgroup)  # again: who had it may have removed a part of it
            # All containers together compete with the rest of the machine: they must not weigh as one task.
            group.set_cpu_weight(1024 * len(os.sched_getaffinity(0)))
        return leftovers.clear(settings.run_dir, driver, settings.cgroup)

    def make(self, slot: Slot) -> None:
        """Start a container for the slot in the background; the owner hears ``started`` or ``failed``."""
        makers = self._workers if slot.flavour.image is None else self._docker_makers
        makers.submit(self._guarded, self._make, slot)

    def arm(self, slot: Slot, due: float) -> None:
        """Tell the owner at ``due``, unless the slot is armed anew before. Under the lock.

        A timer that is set already is kept when it fires earlier: it looks again then.
        """
        slot.due = due
        if due < slot.timer:
            slot.timer = due
            self._loop.at(due, partial(self._on_timer, slot, due))

    def soon(self, work: Callable[[], None]) -> None:
        """Do something short on the loop's thread, under no lock."""
        self._loop.at(0.0, work)

    def look_for_docker(self, then: Callable[[bool], None]) -> None:
        """Say on a worker whether there is a Docker Engine."""
        try:
            self._docker_workers.submit(self._look_for_docker, then)
        except RuntimeError:  # they have ended, and the invoker will say that it has closed
            then(True)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """As :meth:`soon`, but after a while."""
        self._loop.at(time.monotonic() + seconds, work)

    def hurry(self, slot: Slot) -> None:
        """Somebody waits for the slot's container, which is still starting. Under the lock."""
        if slot.container.slow:
            self.in_background(self._hurry, slot)
        else:
            slot.container.hurry()

    def in_background(self, work: Callable[..., None], slot: Slot, *more: Call) -> None:
        """Do something slow for the slot; an unexpected error of it fails the slot."""
        workers = self._workers if slot.flavour.image is None else self._docker_workers
        workers.submit(self._guarded, work, slot, *more)

    def remove(self, slot: Slot) -> None:
        """Kill the slot's container in the background. Under the lock, after the slot left the pool."""
        if slot.container is not None:  # else its maker will notice and destroy it
            # On the loop's thread, so that no callback uses a descriptor while it is closed.
            self.soon(partial(self._remove, slot))

    def close(self) -> None:
        """Wait until the removed containers are gone, end the threads, give back folder and group."""
        self._loop.close()
        self._docker.abandon_pulls()
        for workers in (self._workers, self._docker_makers, self._docker_workers):
            workers.shutdown(wait=True)
        self._docker.close()
        if self._driver is not None:
            try:
                leftovers.dissolve(self._driver, self._settings.cgroup)
            except CgroupError as error:
                log.warning("%s", error)
        self._warden.dismiss()
        self._locks.close()
        with contextlib.suppress(OSError):  # it may hold what is not ours
            self._settings.run_dir.rmdir()

    def _make(self, slot: Slot) -> None:
        if slot.state is State.GONE:
            return
        try:
            container = self._container(slot.name, slot.flavour, slot.memory_mib)
        except ImageUnavailable as error:
            slot.owner.failed(slot, developer_error(str(error)))
            return
        except StartFailed as error:
            slot.owner.failed(slot, internal_error(str(error)))
            return
        with self._lock:
            self.started += 1
            if slot.state is not State.GONE:
                slot.container = container
                collector = self._collector()
                slot.owner.made(slot, collector)
                slot.conversation = Conversation(container, self._loop, slot, collector)
                if slot.calls:
                    self.hurry(slot)
                return
        container.destroy()

    def _container(self, name: str, flavour: Flavour, memory_mib: int) -> Container:
        """Raises :class:`StartFailed`."""
        if flavour.image is None:
            return ProcessContainer(name, self._settings, self._driver, flavour, memory_mib)
        return self._docker.make(name, flavour, memory_mib)

    def _collector(self) -> Collector:
        return Demultiplexer() if self._settings.concurrency > 1 else SoleCollector()

    def _look_for_docker(self, then: Callable[[bool], None]) -> None:
        found = False
        try:
            found = self._docker.engine() is not None
        except Exception:  # a call waits for the answer, whatever it is
            log.exception("invoker: unexpected failure while looking for Docker")
        then(found)

    def _hurry(self, slot: Slot) -> None:
        slot.container.hurry()

    def _remove(self, slot: Slot) -> None:
        slot.conversation.close()
        self.in_background(self._destroy, slot)

    def _destroy(self, slot: Slot) -> None:
        slot.container.destroy()
        with self._lock:
            self.removed += 1

    def _on_timer(self, slot: Slot, when: float) -> None:
        with self._lock:
            if slot.timer == when:
                slot.timer = float("inf")
            if slot.state is State.GONE:
                return
            if slot.due > time.monotonic():
                self.arm(slot, slot.due)
                return
            slot.due = float("inf")
            slot.owner.overdue(slot)

    def _guarded(self, work: Callable[..., None], slot: Slot, *more: Call) -> None:
        try:
            work(slot, *more)
        except Exception as error:
            log.exception("invoker: unexpected failure with container %s", slot.name)
            slot.owner.failed(slot, internal_error(f"The invoker failed: {type(error).__name__}."))


def _driver(settings: InvokerSettings) -> tuple[CgroupDriver | None, str | None]:
    """The control groups to use, and what is not enforced without them."""
    if settings.cgroup is None:
        return None, "No control group was named: CPU and memory limits of actions are not enforced."
    driver = detect()
    if driver is None:
        return None, "No writable control groups (are you root?): CPU and memory limits of actions are not enforced."
    return driver, None
