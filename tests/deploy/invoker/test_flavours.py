"""What containers are made of, which stem cells there are, and what happens when none can be started."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.standalone import runtimes
from deploy.standalone.invoker import InvokerSettings
from deploy.standalone.invoker import flavour as flavours
from deploy.standalone.invoker.backoff import LONGEST_S, Backoff
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.model import Status

NODE = "function main(args) { return {node: true}; }\n"
PREWARM = "wsk0_*_prewarm_*"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


def stems(run_dir: Path) -> list[str]:
    """Labels of the stem cells that listen."""
    return sorted(file.parent.name.rpartition("prewarm_")[2] for file in run_dir.glob(f"{PREWARM}/proxy.sock"))


@pytest.fixture
def docker_settings(tmp_path: Path) -> InvokerSettings:
    images = {"nodejs:18": "own/node:1"}
    return InvokerSettings(1024, "http://localhost:3233", tmp_path, containers="docker", images=images)


def test_managed_kinds_are_processes_or_images_and_others_their_own_image(
    docker_settings, invocation, tmp_path
) -> None:
    processes = InvokerSettings(1024, "http://localhost:3233", tmp_path)
    assert flavours.of_kind("nodejs:20", processes) == Flavour("nodejs:20", None)
    assert flavours.of_kind("nodejs:18", docker_settings) == Flavour("nodejs:18", "own/node:1")
    default = runtimes.RUNTIMES["python"][0]["image"]
    assert flavours.default(docker_settings) == Flavour("python:3.11", default)
    blackbox = invocation(kind="blackbox", image="own/image").action
    for settings in (processes, docker_settings):
        assert flavours.of_action(blackbox, settings) == Flavour(None, "own/image")
    assert flavours.of_kind("nodejs:20", processes).stem_label == "prewarm_nodejs20"
    with pytest.raises(flavours.UnknownKind, match="no runtime for the kind 'go:1.20'"):
        flavours.of_kind("go:1.20", processes)


@needs_node
def test_another_kind_has_stem_cells_once_it_was_used(make_invoker, invocation, run_dir: Path, eventually) -> None:
    make = make_invoker()
    eventually(lambda: stems(run_dir) == ["python311"])
    call = invocation(NODE, kind="nodejs:20", name="first")
    outcome = make.submit(call).result(30)
    assert (outcome.status, outcome.result) == (Status.SUCCESS, {"node": True})
    eventually(lambda: stems(run_dir) == ["nodejs20", "python311"], 20)
    assert make.submit(invocation(NODE, kind="nodejs:20", name="second")).result(30).result == {"node": True}
    stats = make.stats()
    assert (stats["coldStarts"], stats["prewarmedStarts"]) == (1, 1)


@needs_node
def test_a_stem_cell_is_only_claimed_for_its_kind(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker()
    eventually(lambda: stems(run_dir) == ["python311"])
    assert invoker.submit(invocation(NODE, kind="nodejs:20", name="node")).result(30).status is Status.SUCCESS
    assert invoker.stats()["prewarmedStarts"] == 0
    assert invoker.submit(invocation()).result(20).status is Status.SUCCESS
    assert invoker.stats()["prewarmedStarts"] == 1


@needs_node
def test_stem_cells_of_the_kind_used_least_lately_yield(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(user_memory_mib=640, stem_memory_mib=128)
    node = invocation(NODE, kind="nodejs:20", name="node", memory=128)
    assert invoker.submit(node).result(30).status is Status.SUCCESS
    eventually(lambda: stems(run_dir) == ["nodejs20", "python311"], 20)
    assert invoker.submit(invocation(memory=512)).result(20).status is Status.SUCCESS
    assert invoker.stats()["evictions"] == 1
    assert invoker.stats()["containerPool_prewarmCount"] == 1  # the idle container made room, no stem cell
    assert invoker.submit(invocation(memory=640, name="all")).result(20).status is Status.SUCCESS
    assert (invoker.stats()["recreatedStarts"], invoker.stats()["containerPool_prewarmCount"]) == (1, 0)


def test_stem_cells_that_cannot_start_are_tried_again_later_and_told_once(
    make_invoker, invocation, caplog: pytest.LogCaptureFixture, eventually
) -> None:
    with caplog.at_level(logging.WARNING):
        invoker = make_invoker(stem_cells=2, container_env={"PYTHONHOME": "/nowhere"})
        eventually(lambda: invoker.stats()["containersRemoved"] == 2)
        for _ in range(2):
            outcome = invoker.submit(invocation()).result(20)
            assert outcome.result["error"].startswith("The action's container did not start: ")
    assert invoker.stats()["containersStarted"] <= 2 + 2 * 3 + 1
    assert len({record.getMessage().partition("did not start")[2] for record in caplog.records}) == len(caplog.records)


def test_the_wait_doubles_up_to_a_minute_and_ends_with_a_success() -> None:
    backoff = Backoff()
    assert not backoff.waits("a")
    waits = [backoff.postpone("a") for _ in range(8)]
    assert waits[:3] == [1, 2, 4] and waits[-1] == LONGEST_S
    assert backoff.waits("a") and not backoff.waits("b")
    backoff.succeeded("a")
    assert not backoff.waits("a") and backoff.postpone("a") == 1


def test_a_kind_without_its_program_is_told(make_invoker, invocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWL_NODE", "/there/is/none")
    outcome = make_invoker(stem_cells=0).submit(invocation(NODE, kind="nodejs:20")).result(20)
    assert outcome.status is Status.INTERNAL_ERROR
    assert "OWL_NODE" in outcome.result["error"]


@pytest.fixture
def full_disk(run_dir: Path) -> Iterator[Path]:
    """A folder for containers on a disk of a megabyte."""
    folder = run_dir / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
def test_a_full_disk_is_not_the_developers_fault(make_invoker, invocation, full_disk: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0, run_dir=full_disk / "run")
    outcome = invoker.submit(invocation("# " + "x" * (2 << 20))).result(20)
    assert outcome.status is Status.INTERNAL_ERROR
    assert "No space left on device" in outcome.result["error"]
    eventually(lambda: invoker.stats()["containersRemoved"] == 1)
    with pytest.raises(OSError, match="No space left"):
        (full_disk / "filler").write_bytes(b"x" * (2 << 20))
    outcome = invoker.submit(invocation()).result(20)
    assert outcome.status is Status.INTERNAL_ERROR
    assert "No space left on device" in outcome.result["error"]
    assert str(full_disk) not in outcome.result["error"]


class Heard:
    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.inits: list[float] = []
        self.runs: list[float] = []
        self.started, self.initialised, self.ran = self.kinds.append, self.inits.append, self.runs.append


def test_starts_and_times_are_told(run_dir: Path, invocation, eventually) -> None:
    from deploy.standalone.invoker import ProcessInvoker

    heard = Heard()
    settings = InvokerSettings(512, "http://localhost:3233", run_dir, stem_cells=1, stem_memory_mib=128)
    invoker = ProcessInvoker(settings, heard)
    try:
        eventually(lambda: stems(run_dir) == ["python311"])
        slow = "import time\ntime.sleep(0.05)\n\ndef main(args):\n    time.sleep(0.02)\n    return {}\n"
        for more in ({}, {}, {"name": "large", "memory": 512}):
            invoker.submit(invocation(slow, **more)).result(20)
        assert invoker.submit(invocation("import time\ntime.sleep(9)\n", timeout=100)).result(20).timed_out
    finally:
        invoker.close(0)
    assert heard.kinds == ["prewarmed", "warm", "recreatedPrewarm", "recreated"]
    assert len(heard.inits) == 3 and len(heard.runs) == 3
    assert all(seconds >= 0.05 for seconds in heard.inits) and all(0.02 <= seconds < 5 for seconds in heard.runs)
