"""The guardian, with a process in the place of the agent."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rm_agent.actuators.cgroup import CgroupActuator
from rm_agent.cgroup import Cgroup
from rm_agent.guardian import Guardian, restore
from rm_agent.harvest import Step
from rm_agent.journal import Journal, audit
from tests.rm_agent.conftest import Node, until

pytestmark = pytest.mark.root

AGENT = """
import sys, time
from rm_agent.guardian import Guardian
guardian = Guardian(sys.argv[1], float(sys.argv[2]))
guardian.beat()
print('up', flush=True)
while sys.stdin.readline() != 'end\\n':
    guardian.beat()
guardian.dismiss()
"""


@pytest.fixture
def lent(node: Node, tmp_path: Path) -> Iterator[tuple[Path, Cgroup, Cgroup]]:
    """A journal and two groups: the first lends the second 400 millicores."""
    donor, borrower = node.container("donor"), node.container("borrower")
    actuator = CgroupActuator(node.driver)
    journal = Journal(tmp_path / "journal.db")
    journal.begin("harvest")
    for group in (donor, borrower):
        journal.take_charge(group.path, actuator.identity(group.path), actuator.read(group.path))
    steps = [(donor.path, Step("donor", 500, 100)), (borrower.path, Step("borrower", 500, 900))]
    journal.resizes("cpu_millis", steps, "test")
    for path, step in steps:
        actuator.apply(path, "cpu_millis", step.after)
    journal.close()
    yield tmp_path / "journal.db", donor, borrower


def agent(journal: Path, silence_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(journal), str(silence_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    return process


def test_a_dead_agent_is_cleaned_up_after(lent: tuple[Path, Cgroup, Cgroup]) -> None:
    journal, donor, borrower = lent
    process = agent(journal, 30)
    process.kill()
    process.communicate()
    until(lambda: (donor.get_cpu(), borrower.get_cpu()) == (500, 500), 3)
    until(lambda: audit(journal).sessions == 2)
    assert audit(journal).violations == 0


def test_a_silent_agent_is_killed_first(lent: tuple[Path, Cgroup, Cgroup]) -> None:
    journal, donor, borrower = lent
    process = agent(journal, 0.3)
    until(lambda: (donor.get_cpu(), borrower.get_cpu()) == (500, 500), 5)
    assert process.poll() == -9 or process.wait(1) == -9
    process.communicate()


def test_an_agent_that_ends_in_order_is_left_alone(lent: tuple[Path, Cgroup, Cgroup]) -> None:
    journal, donor, borrower = lent
    process = agent(journal, 30)
    process.communicate("end\n", 5)
    assert process.returncode == 0
    time.sleep(0.1)
    assert (donor.get_cpu(), borrower.get_cpu()) == (100, 900)


def test_a_guardian_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rm_agent.guardian.DISMISSAL_S", 0.1)
    guardian = Guardian(tmp_path / "journal.db", 30)
    guardian.beat()
    os.kill(guardian.pid, signal.SIGSTOP)
    guardian.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(guardian.pid, 0)


def test_a_new_group_of_an_old_name_keeps_its_limits(lent: tuple[Path, Cgroup, Cgroup], node: Node) -> None:
    journal, donor, borrower = lent
    donor.remove()
    again = node.container("donor", cpu=200)
    process = agent(journal, 30)
    process.kill()
    process.communicate()
    until(lambda: borrower.get_cpu() == 500, 3)
    until(lambda: audit(journal).sessions == 2)
    assert again.get_cpu() == 200
    assert audit(journal).violations == 0


def test_an_agent_that_is_dead_before_the_guardian_looks_is_cleaned_up_after(lent: tuple[Path, Cgroup, Cgroup]) -> None:
    journal, donor, borrower = lent
    dead = subprocess.Popen(["true"])
    dead.wait()
    subprocess.run(
        [sys.executable, "-m", "rm_agent.guardian", str(journal), str(dead.pid), "30"], stdin=subprocess.DEVNULL, check=True
    )
    assert (donor.get_cpu(), borrower.get_cpu()) == (500, 500)


def test_a_full_disk_keeps_nobody_from_his_own(lent: tuple[Path, Cgroup, Cgroup]) -> None:
    journal, donor, borrower = lent
    with sqlite3.connect(journal, isolation_level=None) as blocker:
        for table in ("sessions", "transitions"):
            blocker.execute(
                f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
    restore(str(journal), "the agent died")
    assert (donor.get_cpu(), borrower.get_cpu()) == (500, 500)
