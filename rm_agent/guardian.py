"""Watches over the agent: when it dies or hangs, every container gets its own allocation back.

A process of its own, started by the agent with the read end of a pipe as standard input. The agent writes a byte now
and then; ``q`` means that it ends in good order. The end of the pipe without it is a crash. Silence is a hang, and the
agent is killed before anything is restored, so that it cannot wake up and act on books that are no longer true.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from rm_agent.actuators.cgroup import CgroupActuator
from rm_agent.cgroup import detect
from rm_agent.journal import Journal
from rm_agent.recovery import recover

SILENCE_S = 5.0
DISMISSAL_S = 5.0  # how long a dismissed guardian may take to end


class Guardian:
    """The agent's end. :meth:`beat` starts the process, and starts it again should it have been killed."""

    def __init__(self, journal: Path, silence_s: float = SILENCE_S) -> None:
        self._arguments = [sys.executable, "-m", "rm_agent.guardian", str(journal), str(os.getpid()), str(silence_s)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def beat(self) -> None:
        if self._process is None or self._process.poll() is not None:
            # In a session of its own, it outlives a terminal's Ctrl-C and a killed process group.
            self._process = subprocess.Popen(self._arguments, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(b".")
        except BrokenPipeError:
            pass  # the next beat starts another

    def dismiss(self) -> None:
        """The agent has restored everything itself."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b"q")
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(DISMISSAL_S)
        except subprocess.TimeoutExpired:  # it was stopped, or the machine is very busy: nothing is left for it to do
            self._process.kill()
            self._process.wait()


def main(journal_path: str, agent: int, silence_s: float) -> None:
    # The agent's end must be the only thing that ends this process early.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        agent_fd = os.pidfd_open(agent)
    except ProcessLookupError:  # it was quicker to die than this process to start
        restore(journal_path, "the agent died")
        return
    while True:
        ready, _, _ = select.select([0], [], [], silence_s)
        if not ready:
            signal.pidfd_send_signal(agent_fd, signal.SIGKILL)
            select.select([agent_fd], [], [], 2.0)
            reason = f"the agent was silent for {silence_s:g} s and was killed"
            break
        beats = os.read(0, 4096)
        if b"q" in beats:
            return
        if not beats:
            reason = "the agent died"
            break
    restore(journal_path, reason)


def restore(journal_path: str, reason: str) -> None:
    driver = detect()
    journal = Journal(journal_path)
    try:
        # A new agent that was quicker does the same work before anything else.
        if driver is not None and journal.acquire(wait_s=0.2):
            with contextlib.suppress(sqlite3.Error):  # a full disk must not keep the owners from their own
                journal.begin("guardian")
            recover(journal, CgroupActuator(driver), reason)
            with contextlib.suppress(sqlite3.Error):
                journal.end()
    finally:
        journal.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
