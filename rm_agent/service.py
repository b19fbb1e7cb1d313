"""The sidecar: one process that watches and manages the containers of a node."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rm_agent.actuators.cgroup import CgroupActuator, DryActuator
from rm_agent.cgroup import CgroupDriver, CgroupNotFound, detect
from rm_agent.cgroup.detect import MOUNT
from rm_agent.cgroup.v1 import CgroupDriverV1
from rm_agent.cgroup.v2 import CgroupDriverV2
from rm_agent.guardian import Guardian
from rm_agent.http import HttpServer, application
from rm_agent.journal import Journal, activations
from rm_agent.manager import Manager
from rm_agent.openwhisk import OpenWhisk
from rm_agent.policy import POLICIES
from rm_agent.recovery import recover
from rm_agent.telemetry.activations import ActivationPoller
from rm_agent.telemetry.reports import ReportSocket

log = logging.getLogger(__name__)

GUARD_S = 0.1
BEAT_S = 1.0
PRUNE_S = 10.0
REMEMBERED = 5_000  # calls of earlier sessions


class CannotServe(Exception):
    """The service cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    cgroup_root: str
    journal: Path
    node_socket: Path | None = None
    port: int = 7411
    policy: str = "harvest"
    interval_s: float = 0.1
    dry: bool = False
    api: OpenWhisk | None = None


class Service:
    """Takes everything it needs, or nothing. :meth:`run` serves until SIGTERM or SIGINT and leaves every container
    with its own allocation.

    Raises :class:`CannotServe`, ``JournalError``, ``SocketInUse``, ``PortInUse``, and ``ValueError`` for a root that
    is no path of a group.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        driver = detect() or (_readable() if settings.dry else None)
        if driver is None:
            raise CannotServe(
                "containers cannot be resized here: rm-agent needs root and writable control groups"
                " (cpu, cpuacct, memory, freezer and pids in version 1; cpu, memory and pids in version 2);"
                " --dry-run needs neither"
            )
        driver.children(settings.cgroup_root)  # refuses what is no path of a group
        actuator = DryActuator(driver) if settings.dry else CgroupActuator(driver)
        self._driver = driver
        self._actuator = actuator
        self._undo: list[Callable[[], None]] = []
        try:
            self._journal = Journal(settings.journal)
            self._undo.append(self._journal.close)
            # Long enough for the guardian of an agent that has just died.
            if not self._journal.acquire(wait_s=2.0):
                raise CannotServe(f"another agent uses {settings.journal}: stop it or name another file with --journal")
            self._journal.begin(settings.policy, settings.dry)
            if not settings.dry:
                self._undo.append(_claim_root(settings.cgroup_root).close)
                done = recover(self._journal, actuator, "found changed at the start of the agent")
                if done.resized or done.refused:
                    log.warning("%d limits of an earlier run were restored, %d refused", done.resized, done.refused)
            self.manager = Manager(
                driver, actuator, self._journal, settings.cgroup_root, POLICIES[settings.policy](), settings.dry
            )
            self.manager.remember(activations(settings.journal, latest=REMEMBERED))
            self._http = HttpServer(application(self.manager, str(settings.journal)), settings.port)
            self._undo.append(self._http.close)
            self._reports: ReportSocket | None = None
            if settings.node_socket is not None:
                self._reports = ReportSocket(settings.node_socket)
                self._undo.append(self._reports.close)
        except BaseException:
            self._release()
            raise
        try:
            driver.open(settings.cgroup_root)
        except CgroupNotFound:
            log.warning("there is no control group %s: nothing is managed until it appears", settings.cgroup_root)
        self._guardian = None if settings.dry else Guardian(settings.journal)
        self._poller = ActivationPoller(settings.api, self._journal) if settings.api is not None else None
        self._stop = threading.Event()
        self._halted = False
        self._guarded = time.monotonic()

    @property
    def port(self) -> int:
        return self._http.port

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._halt)
        # A report must not wait its turn behind whole slices of the other threads' work.
        sys.setswitchinterval(0.0005)
        self._claim_priority()
        if self._guardian is not None:
            self._guardian.beat()
        threads = [threading.Thread(target=self._http.run, name="http", daemon=True)]
        threads.append(threading.Thread(target=self._guard, name="safeguard"))
        if self._reports is not None:
            listen = self._reports.listen
            arguments = (self._driver.of_pid, self.manager.report)
            threads.append(threading.Thread(target=listen, args=arguments, name="reports"))
        if self._poller is not None:
            threads.append(threading.Thread(target=self._poller.run, args=(self._stop,), name="poller", daemon=True))
        for thread in threads:
            thread.start()
        log.info("managing %s on http://127.0.0.1:%d", self.settings.cgroup_root, self.port)
        try:
            self._rounds()
        finally:
            self._stop.set()
            self.manager.restore_all("the agent ends")
            for thread in threads:
                if thread.name == "reports" and self._reports is not None:
                    self._undo.remove(self._reports.close)
                    self._reports.close()
                if not thread.daemon:
                    thread.join(2.0)
            if not self.settings.dry:
                # What the books would not take from a borrower, because it is in use, is not the owner's loss.
                recover(self._journal, self._actuator, "the agent ends")
            self._journal.end()
            if self._guardian is not None:
                self._guardian.dismiss()
            self._release()

    def _rounds(self) -> None:
        """The policy's rounds and the guardian's beats, in the main thread, until the service is to end."""
        beaten = pruned = due = 0.0
        while not self._halted:
            started = time.monotonic()
            try:
                if started >= due or self.manager.wake.is_set():
                    self.manager.wake.clear()
                    due = started + self.settings.interval_s
                    self.manager.round()
                if started - pruned >= PRUNE_S:
                    pruned = started
                    self._journal.prune()
            except sqlite3.Error as error:
                log.error("the journal cannot be written: %s", error)
            # A safeguard that hangs is as bad as an agent that does: the guardian then acts for both.
            if self._guardian is not None and started - beaten >= BEAT_S and started - self._guarded < 2.0:
                beaten = started
                self._guardian.beat()
            # Beats must not wait for a long interval.
            self.manager.wake.wait(max(0.01, min(due - time.monotonic(), BEAT_S)))

    def _guard(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                self.manager.guard()
            except sqlite3.Error as error:
                log.error("the journal cannot be written: %s", error)
            self._guarded = time.monotonic()
            due = max(due + GUARD_S, self._guarded)
            self._stop.wait(due - self._guarded)

    def _halt(self, *_: object) -> None:
        # A signal may come while this very thread holds the lock inside an event: setting one would wait for ever.
        self._halted = True

    def _claim_priority(self) -> None:
        try:
            # The functions it manages may use every core; it must run when one of them needs its own back.
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        except PermissionError:
            pass

    def _release(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()


def _claim_root(root: str) -> socket.socket:
    """Two agents with a book each would lend the same resources twice; a journal's lock keeps out only its own kind.

    A name in the kernel's own space for sockets, which is free again when the process ends, however it ends.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0owl-rm-agent/{hashlib.sha256(root.strip('/').encode()).hexdigest()}")
    except OSError:
        claim.close()
        raise CannotServe(f"another agent manages the containers of {root}: stop it first") from None
    return claim


def _readable() -> CgroupDriver | None:
    """The mounted control groups, whether or not they may be written."""
    if (MOUNT / "cgroup.controllers").exists():
        return CgroupDriverV2(MOUNT)
    return CgroupDriverV1(MOUNT) if (MOUNT / "cpu").is_dir() and (MOUNT / "memory").is_dir() else None
