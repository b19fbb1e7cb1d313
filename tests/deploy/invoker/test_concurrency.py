"""Several calls in one container at once: where they run, whose logs are whose, and what one does to the others."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy.standalone.invoker.logs import LEFT_OUT, NOT_AS_EXPECTED
from deploy.standalone.model import Outcome, Status

MEET = """
import os, threading, time
here, most, lock = set(), 0, threading.Lock()

def main(args):
    global most
    me = object()
    with lock:
        here.add(me)
        most = max(most, len(here))
    print("before", args["n"])
    deadline = time.monotonic() + args.get("s", 10)
    while most < args["wanted"] and time.monotonic() < deadline:
        time.sleep(0.002)
    print("after", args["n"])
    with lock:
        here.discard(me)
    return {"container": os.environ["OWL_CONTAINER"], "most": most}
"""
WAIT = """
import os, sys, time

def main(args):
    print("begin", args["n"])
    while not os.path.exists(args["gate"]):
        time.sleep(0.005)
    print("end", args["n"])
    if args.get("exit"):
        os._exit(3)
    return args.get("result", {"n": args["n"]})
"""


def texts(outcome: Outcome) -> list[str]:
    return [line[31:] for line in outcome.logs]


@pytest.fixture
def concurrent(make_invoker, invocation):
    """An invoker that allows 16 calls at once in a container, and how to submit calls of one action to it."""
    invoker = make_invoker(concurrency=16, stem_cells=0)

    def submit(code: str, payload: Any = None, concurrency: int = 8, **more: Any):
        return invoker.submit(invocation(code, payload, concurrency=concurrency, **more))

    submit.invoker = invoker
    return submit


def test_eight_calls_meet_in_one_container(concurrent) -> None:
    calls = [concurrent(MEET, {"n": n, "wanted": 8}) for n in range(8)]
    outcomes = [call.result(20) for call in calls]
    assert {outcome.status for outcome in outcomes} == {Status.SUCCESS}
    assert [outcome.result["most"] for outcome in outcomes] == [8] * 8
    assert len({outcome.result["container"] for outcome in outcomes}) == 1
    assert sum(outcome.init_ms is not None for outcome in outcomes) == 1
    assert concurrent.invoker.stats()["containersStarted"] == 1


def test_twenty_calls_need_three_containers_of_eight_places(concurrent) -> None:
    calls = [concurrent(MEET, {"n": n, "wanted": 4}) for n in range(20)]
    seen = Counter(call.result(20).result["container"] for call in calls)
    assert sorted(seen.values()) == [4, 8, 8]


def test_each_call_gets_its_own_log(concurrent) -> None:
    for _ in range(3):
        calls = [concurrent(MEET, {"n": n, "wanted": 8}) for n in range(8)]
        for n, call in enumerate(calls):
            assert texts(call.result(20)) == [f"stdout: before {n}", f"stdout: after {n}"]
    assert concurrent.invoker.stats()["containersStarted"] == 1


def test_many_lines_at_once_do_not_mix(concurrent) -> None:
    code = "def main(args):\n    for i in range(300):\n        print(args['n'], 'x' * (i * 37 % 9000))\n    return {}\n"
    calls = [concurrent(code, {"n": n}) for n in range(8)]
    for n, call in enumerate(calls):
        lines = texts(call.result(30))
        assert lines == [f"stdout: {n} {'x' * (i * 37 % 9000)}" for i in range(300)]


def test_a_call_more_than_there_are_places_gets_a_second_container(concurrent, run_dir: Path) -> None:
    gate = run_dir / "gate"
    calls = [concurrent(WAIT, {"n": n, "gate": str(gate)}, concurrency=2) for n in range(3)]
    stats = concurrent.invoker.stats()
    assert (stats["containerPool_activeCount"], stats["coldStarts"], stats["warmStarts"]) == (2, 2, 1)
    gate.touch()
    assert [call.result(20).result for call in calls] == [{"n": n} for n in range(3)]


def test_the_invokers_own_limit_holds_for_actions_that_want_more(make_invoker, invocation, run_dir: Path) -> None:
    invoker = make_invoker(stem_cells=0)
    gate = run_dir / "gate"
    calls = [invoker.submit(invocation(WAIT, {"n": n, "gate": str(gate)}, concurrency=8)) for n in range(2)]
    assert invoker.stats()["containerPool_activeCount"] == 2
    gate.touch()
    assert all(call.result(20).status is Status.SUCCESS for call in calls)


def test_an_action_of_one_place_has_all_of_the_output(concurrent) -> None:
    code = "import os\n\ndef main(args):\n    print('mine')\n    os.system('echo my child')\n    return {}\n"
    for _ in range(2):
        assert sorted(texts(concurrent(code, concurrency=1).result(20))) == ["stdout: mine", "stdout: my child"]


def test_output_that_may_be_anybodys_is_left_out_and_that_is_said(concurrent, run_dir: Path, eventually) -> None:
    code = WAIT.replace('print("end"', 'os.system("echo whose")\n    print("end"')
    gate = run_dir / "gate"
    calls = [concurrent(code, {"n": n, "gate": str(gate)}) for n in range(2)]
    time.sleep(0.3)
    gate.touch()
    for n, call in enumerate(calls):
        lines = texts(call.result(20))
        assert [line for line in lines if line.startswith("stdout") and "whose" not in line] == [
            f"stdout: begin {n}",
            f"stdout: end {n}",
        ]
    assert any(f"stderr: {LEFT_OUT}" in texts(call.result()) for call in calls)


def test_code_that_does_not_load_fails_each_call_by_itself(concurrent) -> None:
    calls = [concurrent("raise SystemError('no')\n", {}, concurrency=4) for _ in range(4)]
    for call in calls:
        outcome = call.result(30)
        assert outcome.status is Status.DEVELOPER_ERROR
        assert outcome.init_ms is not None
        assert any("SystemError: no" in line for line in outcome.logs)


def test_a_developer_error_lets_the_others_end_and_the_next_call_start_elsewhere(
    concurrent, run_dir: Path, eventually
) -> None:
    gate, early = run_dir / "gate", run_dir / "early"
    long = concurrent(WAIT, {"n": 1, "gate": str(gate)})
    bad = concurrent(WAIT, {"n": 2, "gate": str(early), "result": 5})
    early.touch()
    outcome = bad.result(20)
    assert (outcome.status, outcome.result) == (
        Status.DEVELOPER_ERROR,
        {"error": "The action did not return a dictionary or array."},
    )
    assert concurrent(WAIT, {"n": 3, "gate": str(early)}).result(20).init_ms is not None
    assert concurrent.invoker.stats()["containersRemoved"] == 0
    gate.touch()
    assert (long.result(20).result, texts(long.result())) == ({"n": 1}, ["stdout: begin 1", "stdout: end 1"])
    eventually(lambda: concurrent.invoker.stats()["containersRemoved"] == 1)


def test_time_is_up_for_one_and_not_for_the_others(concurrent, run_dir: Path, eventually) -> None:
    gate = run_dir / "gate"
    # Limits belong to the action, so the second call's time is up later.
    first = concurrent(WAIT, {"n": 1, "gate": str(gate)}, timeout=1500)
    time.sleep(1.2)
    second = concurrent(WAIT, {"n": 2, "gate": str(gate)}, timeout=1500)
    outcome = first.result(20)
    assert outcome.timed_out and outcome.logs[-1].endswith(NOT_AS_EXPECTED)
    gate.touch()
    assert second.result(20).result == {"n": 2}
    assert concurrent.invoker.stats()["containersStarted"] == 1
    eventually(lambda: concurrent.invoker.stats()["containersRemoved"] == 1)


def test_a_death_ends_all_calls_of_the_container(concurrent, run_dir: Path, eventually) -> None:
    gate = run_dir / "gate"
    calls = [concurrent(WAIT, {"n": n, "gate": str(gate)}) for n in range(3)]
    eventually(lambda: concurrent.invoker.stats()["warmStarts"] == 2)
    time.sleep(0.3)
    (file,) = run_dir.glob("wsk0_*/pid")
    os.kill(int(file.read_text()), signal.SIGKILL)
    for call in calls:
        outcome = call.result(5)
        assert outcome.status is Status.DEVELOPER_ERROR
        assert "exited unexpectedly" in outcome.result["error"]
    eventually(lambda: concurrent.invoker.stats()["containersRemoved"] == 1)


def test_an_exit_ends_all_calls_of_the_container(concurrent, run_dir: Path) -> None:
    gate, early = run_dir / "gate", run_dir / "early"
    others = [concurrent(WAIT, {"n": n, "gate": str(gate)}) for n in range(2)]
    bad = concurrent(WAIT, {"n": 2, "gate": str(early), "exit": True})
    early.touch()
    for call in (bad, *others):
        assert (call.result(20).status, call.result().result) == (Status.DEVELOPER_ERROR, {"error": "command exited"})


def test_all_that_wait_for_a_container_that_does_not_start_are_told(make_invoker, invocation) -> None:
    invoker = make_invoker(concurrency=4, stem_cells=0, container_env={"PYTHONHOME": "/nowhere"})
    calls = [invoker.submit(invocation(WAIT, {}, concurrency=4)) for _ in range(4)]
    for call in calls:
        assert call.result(20).status is Status.INTERNAL_ERROR
        assert call.result().result["error"].startswith("The action's container did not start: ")
    assert invoker.stats()["containersStarted"] == 3


def test_all_that_wait_for_a_container_that_dies_while_it_starts_get_another(
    concurrent, run_dir: Path, eventually
) -> None:
    calls = [concurrent(WAIT, {"n": n, "gate": str(run_dir)}) for n in range(4)]
    eventually(lambda: list(run_dir.glob("wsk0_1_*/pid")) and (run_dir / "wsk0_1_guest_act" / "pid").read_text())
    os.kill(int((run_dir / "wsk0_1_guest_act" / "pid").read_text()), signal.SIGKILL)
    assert [call.result(20).result for call in calls] == [{"n": n} for n in range(4)]
    assert concurrent.invoker.stats()["containersStarted"] == 2


def test_a_container_is_paused_only_when_its_last_call_is_over(
    make_invoker, invocation, run_dir: Path, eventually
) -> None:
    invoker = make_invoker(concurrency=4, stem_cells=0, pause_grace_s=0.05)
    gate = run_dir / "gate"
    open_end = str(run_dir)  # exists: this one ends at once
    long = invoker.submit(invocation(WAIT, {"n": 1, "gate": str(gate)}, concurrency=4))
    assert invoker.submit(invocation(WAIT, {"n": 2, "gate": open_end}, concurrency=4)).result(20).result == {"n": 2}
    time.sleep(0.15)
    assert invoker.stats()["containerPool_pausedCount"] == 0
    gate.touch()
    assert long.result(20).result == {"n": 1}
    eventually(lambda: invoker.stats()["containerPool_pausedCount"] == 1)
    again = [invoker.submit(invocation(WAIT, {"n": n, "gate": open_end}, concurrency=4)) for n in range(4)]
    assert [call.result(20).init_ms for call in again] == [None] * 4


def test_callers_without_end_get_their_own_answers(concurrent) -> None:
    code = "import time\n\ndef main(args):\n    print('for', args['n'])\n    time.sleep(args['n'] % 5 / 1000)\n    return args\n"
    wrong: list[Outcome] = []

    def call(offset: int) -> None:
        for n in range(offset, offset + 40):
            outcome = concurrent(code, {"n": n}).result(20)
            if outcome.result != {"n": n} or texts(outcome) != [f"stdout: for {n}"]:
                wrong.append(outcome)

    callers = [threading.Thread(target=call, args=(100 * number,)) for number in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
    assert re.fullmatch(r"[1-3]", f"{concurrent.invoker.stats()['containersStarted']:.0f}")
