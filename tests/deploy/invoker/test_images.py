"""The invoker with containers of a Docker Engine: the same life as that of processes, on workers."""

from __future__ import annotations

import threading

import pytest

from deploy.standalone.invoker import ProcessInvoker
from deploy.standalone.invoker.logs import LOST
from deploy.standalone.model import Status
from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

COUNT = """
import os
n = 0

def main(args):
    global n
    n += 1
    print("call", n)
    return {"n": n, "name": os.environ["OWL_CONTAINER"]}
"""


@pytest.fixture
def managed(make_invoker, in_docker: Engine) -> ProcessInvoker:
    """Containers of managed kinds are made by Docker."""
    return make_invoker(containers="docker", images={"python:3.11": in_docker.image}, pause_grace_s=0.3)


def test_a_blackbox_action_runs_in_its_image_and_stays_warm(make_invoker, invocation, in_docker: Engine) -> None:
    invoker = make_invoker(stem_cells=0)
    call = {"kind": "blackbox", "image": in_docker.image}
    first = invoker.submit(invocation(COUNT, **call)).result(40)
    second = invoker.submit(invocation(COUNT, **call)).result(20)
    assert (first.status, first.result["n"], second.result["n"]) == (Status.SUCCESS, 1, 2)
    assert [line[31:] for line in second.logs] == ["stdout: call 2"]
    assert first.init_ms is not None and second.init_ms is None


def test_managed_kinds_have_stem_cells_that_are_images(managed, invocation, eventually, sdk) -> None:
    eventually(lambda: any(found.name == "wsk0_1_prewarm_python311" for found in sdk.containers.list()), 40)
    outcome = managed.submit(invocation(COUNT)).result(40)
    assert outcome.result == {"n": 1, "name": "wsk0_1_prewarm_python311"}
    assert managed.stats()["prewarmedStarts"] == 1


def test_idle_containers_of_images_are_paused_and_wake_for_calls(managed, invocation, eventually) -> None:
    assert managed.submit(invocation(COUNT)).result(40).status is Status.SUCCESS
    eventually(lambda: managed.stats()["containerPool_pausedCount"] == 1)
    for n in (2, 3):  # while it is being paused, or after that
        outcome = managed.submit(invocation(COUNT)).result(20)
        assert (outcome.result["n"], outcome.init_ms) == (n, None)


def test_calls_during_each_pause_and_resume_are_answered(make_invoker, invocation, in_docker: Engine) -> None:
    invoker = make_invoker(stem_cells=0, pause_grace_s=0.0, concurrency=4)
    call = {"kind": "blackbox", "image": in_docker.image, "concurrency": 4}
    assert invoker.submit(invocation(COUNT, **call)).result(40).status is Status.SUCCESS
    outcomes = []

    def use() -> None:
        for _ in range(10):
            outcomes.append(invoker.submit(invocation(COUNT, **call)).result(40))

    callers = [threading.Thread(target=use) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {outcome.status for outcome in outcomes} == {Status.SUCCESS}
    late = sum(LOST in "".join(outcome.logs) for outcome in outcomes)  # on a busy machine logs may take too long
    assert invoker.stats()["containersStarted"] <= 1 + late


def test_an_image_that_cannot_be_had_is_the_developers_error(make_invoker, invocation, in_docker: Engine) -> None:
    call = invocation(COUNT, kind="blackbox", image="owl-test/not-there:1")
    outcome = make_invoker(stem_cells=0).submit(call).result(40)
    assert (outcome.status, outcome.result) == (
        Status.DEVELOPER_ERROR,
        {"error": "Failed to pull container image 'owl-test/not-there:1'."},
    )


def test_closing_leaves_no_container(make_invoker, invocation, in_docker: Engine, sdk) -> None:
    invoker = make_invoker(containers="docker", images={"python:3.11": in_docker.image})
    assert invoker.submit(invocation(COUNT)).result(40).status is Status.SUCCESS
    invoker.close(0)
    assert sdk.containers.list(all=True) == []
