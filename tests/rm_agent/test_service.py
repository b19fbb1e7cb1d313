"""The agent as a process, over control groups with real processes in them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from rm_agent.cgroup import Cgroup, CgroupNotFound
from rm_agent.guardian import SILENCE_S
from rm_agent.journal import activations, audit
from tests.rm_agent.conftest import Node, until

pytestmark = pytest.mark.root

REPORTER = """
import json, socket, sys
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for line in sys.stdin:
    to.sendto(line.encode(), sys.argv[1])
    print('sent', flush=True)
"""


class Agent:
    def __init__(self, node: Node, folder: Path, *options: str) -> None:
        self.journal = folder / "journal.db"
        self.socket = folder / "node" / "node.sock"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {**os.environ, "OWL_HOME": str(folder), "WSK_CONFIG_FILE": str(folder / "none")}
        environment = {key: value for key, value in environment.items() if key not in ("OW_APIHOST", "OW_AUTH")}
        self.log = folder / "agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rm_agent.cli",
                    "serve",
                    "--cgroup-root",
                    node.root,
                    "--port",
                    str(self.port),
                    *options,
                ],
                env=environment,
                stderr=log,
            )
        until(self.answers, 10)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.get("/health"))
        except OSError:
            return False

    def get(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text.decode()

    def container(self, name: str) -> Any:
        return {each["name"]: each for each in self.get("/state")["containers"]}.get(name)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


Starter = Callable[..., Agent]


@pytest.fixture
def agent(node: Node, tmp_path: Path) -> Iterator[Starter]:
    started: list[Agent] = []

    def start(*options: str) -> Agent:
        started.append(Agent(node, tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()


class Runtime:
    """A process in the container's group that reports as the action runtime does."""

    def __init__(self, node: Node, group: Cgroup, path: Path) -> None:
        self.group = group
        self.process = node.python(group, REPORTER, str(path))
        self.calls = 0

    def report(self, event: str, activation: str, action: str = "", **more: Any) -> None:
        message = {"v": 1, "event": event, "phase": "run", "container": self.group.name, "activation": activation}
        message |= {
            "action": action or f"/guest/{self.group.name}",
            "version": "0.0.1",
            "inflight": 1,
            "input_bytes": 10,
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(message | more).encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"sent\n"

    def call(self, seconds: float = 0.0) -> None:
        self.calls += 1
        activation = f"{self.calls:032x}"
        self.report("start", activation)
        time.sleep(seconds)
        self.report("end", activation, inflight=0)


def pair(node: Node) -> tuple[Cgroup, Cgroup]:
    """A donor and a borrower, so small that the borrower reaches its quota on a machine that is busy otherwise."""
    return node.container("wsk0_1_guest_donor", cpu=150), node.container("wsk0_2_guest_borrower", cpu=100)


def test_lends_what_is_idle_and_returns_it_at_once(node: Node, agent: Starter) -> None:
    donor, borrower = pair(node)
    service = agent()
    rt_donor, rt_borrower = Runtime(node, donor, service.socket), Runtime(node, borrower, service.socket)
    rt_donor.call()
    rt_borrower.call()
    node.burner(borrower)
    rt_borrower.report("start", "b" * 32)
    until(lambda: donor.get_cpu() == 50 and borrower.get_cpu() == 200, 6)

    started = time.monotonic()
    rt_donor.report("start", "d" * 32)
    until(lambda: donor.get_cpu() == 150, every_s=0.0002)
    assert time.monotonic() - started < 0.05
    assert borrower.get_cpu() == 100
    until(lambda: service.container(donor.name)["running"])
    rt_donor.report("end", "d" * 32, inflight=0)
    until(lambda: donor.get_cpu() == 50 and borrower.get_cpu() == 200, 6)

    rt_borrower.report("end", "b" * 32, inflight=0)
    until(lambda: donor.get_cpu() == 150 and borrower.get_cpu() == 100)
    metrics = service.get("/metrics")
    assert "rm_agent_loans_total" in metrics and 'rm_agent_own{action="/guest/wsk0_1_guest_donor"' in metrics
    assert service.get("/explain?container=wsk0_1_guest_donor")[0]["history"]
    assert {"found", "loan", "recall"} <= {event["kind"] for event in service.get("/events?since=0")}
    assert service.stop() == 0

    found = audit(service.journal)
    assert found.violations == 0, found.findings
    assert found.resizes >= 8 and found.lent_cpu_millis_s > 0
    uses = {use.activation: use for use in activations(service.journal)}
    assert uses["b" * 32].accelerated and uses["b" * 32].max_cpu == 200 and uses["b" * 32].own_cpu == 100
    assert not uses["d" * 32].accelerated


def test_sigterm_restores_everything(node: Node, agent: Starter) -> None:
    groups = lend(node, service := agent())
    assert service.stop() == 0
    assert [group.get_cpu() for group in groups] == [150, 100]
    assert audit(service.journal).violations == 0


def test_memory_moves_to_who_needs_it_and_comes_back(node: Node, agent: Starter) -> None:
    donor, borrower = (
        node.container("wsk0_1_guest_donor", memory=256),
        node.container("wsk0_2_guest_borrower", memory=128),
    )
    service = agent()
    rt_donor, rt_borrower = Runtime(node, donor, service.socket), Runtime(node, borrower, service.socket)
    for _ in range(3):
        rt_donor.call(0.06)
    rt_borrower.call()
    rt_borrower.report("start", "b" * 32)
    holder = node.holder(borrower, 115)
    until(lambda: (borrower.get_memory() or 0) > 128)
    assert (donor.get_memory() or 0) + (borrower.get_memory() or 0) == 256 + 128
    holder.kill()
    holder.wait()
    rt_borrower.report("end", "b" * 32, inflight=0)
    until(lambda: (donor.get_memory(), borrower.get_memory()) == (256, 128))
    service.stop()
    assert audit(service.journal).violations == 0
    assert donor.usage().oom_kills == borrower.usage().oom_kills == 0


def lend(node: Node, service: Agent) -> tuple[Cgroup, Cgroup]:
    """A donor that lends and a borrower that has it."""
    donor, borrower = pair(node)
    rt_donor, rt_borrower = Runtime(node, donor, service.socket), Runtime(node, borrower, service.socket)
    rt_donor.call()
    rt_borrower.call()
    node.burner(borrower)
    rt_borrower.report("start", "b" * 32)
    until(lambda: donor.get_cpu() == 50 and borrower.get_cpu() == 200, 6)
    return donor, borrower


@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_agent_leaves_nobody_below_its_own(node: Node, agent: Starter, attempt: int) -> None:
    service = agent()
    donor, borrower = lend(node, service)
    service.process.kill()
    killed = time.monotonic()
    until(lambda: donor.get_cpu() == 150 and borrower.get_cpu() == 100, 2)
    assert time.monotonic() - killed < 1.0
    service.process.wait()
    until(lambda: "guardian" in sessions(service.journal))
    assert audit(service.journal).violations == 0


def test_the_next_agent_trusts_the_journal_and_not_the_limits(node: Node, agent: Starter) -> None:
    service = agent()
    donor, borrower = lend(node, service)
    guardian = [pid for pid in children(service.process.pid) if "rm_agent.guardian" in command(pid)]
    for pid in guardian:
        os.kill(pid, signal.SIGKILL)
    service.process.kill()
    service.process.wait()
    assert (donor.get_cpu(), borrower.get_cpu()) == (50, 200)
    again = agent()
    assert (donor.get_cpu(), borrower.get_cpu()) == (150, 100)
    until(lambda: again.container(donor.name) and again.container(borrower.name))
    assert again.container(donor.name)["own"]["cpu_millis"] == 150
    again.stop()
    assert audit(service.journal).violations == 0


def test_a_dry_run_changes_nothing(node: Node, agent: Starter) -> None:
    service = agent("--dry-run")
    donor, borrower = pair(node)
    rt_donor, rt_borrower = Runtime(node, donor, service.socket), Runtime(node, borrower, service.socket)
    rt_donor.call()
    rt_borrower.call()
    node.burner(borrower)
    rt_borrower.report("start", "b" * 32)
    until(lambda: service.container(donor.name)["alloc"]["cpu_millis"] == 50, 6)
    assert (donor.get_cpu(), borrower.get_cpu()) == (150, 100)
    service.stop()
    assert audit(service.journal).violations == 0


def test_the_policy_is_switched_live(node: Node, agent: Starter) -> None:
    service = agent()
    donor, borrower = lend(node, service)
    assert service.get("/policy", {"policy": "fixed"}) == {"policy": "fixed"}
    until(lambda: donor.get_cpu() == 150 and borrower.get_cpu() == 100)
    with pytest.raises(HTTPError, match="400"):
        service.get("/policy", {"policy": "greedy"})


def test_the_safeguard_restores_who_uses_what_is_left_to_it(node: Node, agent: Starter) -> None:
    """The report of a start may be lost: use alone must be enough."""
    service = agent()
    donor, _ = lend(node, service)
    node.burner(donor)
    until(lambda: donor.get_cpu() == 150, 2)

    def told() -> bool:
        restored = (event for event in service.get("/events") if event["kind"] in ("restore", "recall"))
        return any(event["container"] == donor.name for event in restored)

    until(told)


def test_a_donor_that_vanishes_takes_its_loan_along(node: Node, agent: Starter) -> None:
    service = agent()
    donor, borrower = lend(node, service)
    donor.kill()
    donor.remove()
    until(lambda: borrower.get_cpu() == 100)
    with pytest.raises(CgroupNotFound):
        node.driver.open(donor.path)
    until(lambda: service.container(donor.name) is None)
    service.stop()
    assert audit(service.journal).violations == 0


def test_limits_set_by_the_platform_become_its_own(node: Node, agent: Starter) -> None:
    group = node.container("wsk0_1_prewarm_python311", cpu=1000, memory=256)
    service = agent()
    until(lambda: service.container(group.name))
    group.set_cpu(250)
    until(lambda: service.container(group.name)["own"]["cpu_millis"] == 250)


def test_who_a_report_is_about_is_not_for_its_sender_to_say(node: Node, agent: Starter) -> None:
    service = agent()
    honest, liar = node.container("wsk0_1_guest_honest"), node.container("wsk0_2_guest_liar")
    until(lambda: service.container(honest.name) and service.container(liar.name))
    Runtime(node, liar, service.socket).report("start", "a" * 32, container=honest.name)
    until(lambda: service.container(liar.name)["running"])
    assert not service.container(honest.name)["running"] and not service.container(honest.name)["reports"]


def refuse(folder: Path, *options: str) -> str:
    """Start an agent that cannot serve; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "rm_agent.cli", "serve", *options],
        env={**os.environ, "OWL_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_a_second_agent_is_refused_in_words(node: Node, agent: Starter, tmp_path: Path) -> None:
    service = agent()
    assert "another agent uses" in refuse(tmp_path, "--cgroup-root", node.root)
    other = tmp_path / "other"
    options = ("--cgroup-root", node.root, "--journal", str(other / "journal.db"))
    assert f"another agent manages the containers of {node.root}" in refuse(other, *options, "--port", "0")
    options = ("--cgroup-root", f"{node.root}-other", *options[2:])
    assert f"port {service.port} is in use" in refuse(other, *options, "--port", str(service.port))
    assert "another agent listens on" in refuse(other, *options, "--port", "0", "--node-socket", str(service.socket))
    assert service.answers()


def test_a_root_that_is_no_group_is_refused_in_words(tmp_path: Path) -> None:
    assert "is no path of a control group" in refuse(tmp_path, "--cgroup-root", "../..")


def test_without_root_the_service_says_what_it_needs() -> None:
    # Everything is imported first, since another user may not be allowed to read this user's files.
    code = "import os, rm_agent.service; from rm_agent.cli import main; os.setuid(65534); main(['serve'])"
    environment = {**os.environ, "OWL_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "needs root" in done.stderr and "Traceback" not in done.stderr


def sessions(journal: Path) -> list[str]:
    import sqlite3

    with sqlite3.connect(journal) as db:
        return [policy for (policy,) in db.execute("SELECT policy FROM sessions WHERE ended_s IS NOT NULL")]


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_rounds_may_be_rarer_than_the_guardian_is_patient(node: Node, agent: Starter) -> None:
    service = agent("--interval-ms", "60000")
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(SILENCE_S + 1.5)
    assert service.stop() == 0
