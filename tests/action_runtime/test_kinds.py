"""The choice of a kind, and the processes of a container for Node.js."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.action_runtime.container import SENTINEL, Container, zip_of
from tests.action_runtime.processes import gone, processes, wait_until
from tests.action_runtime.test_report import ENV, hear

ECHO = "function main(args) { return args }"


def refusal(*options: str, **env: str) -> str:
    command = [sys.executable, "-m", "action_runtime", "--listen", "unix:never", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ, **env})
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    return ended.stderr


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    expected = "action runtime: the kind 'cobol:60' is not known: choose one of python:3.11, nodejs:20, nodejs:18\n"
    assert refusal("--kind", "cobol:60") == expected


def test_node_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "needs Node.js, but there is no program 'node' on the PATH" in refusal("--kind", "nodejs:20", PATH=str(tmp_path))
    missing = str(tmp_path / "no")
    assert f"OWL_NODE names '{missing}', which is no program" in refusal("--kind", "nodejs:18", OWL_NODE=missing)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/no/such/interpreter\n", "cannot be started: No such file or directory"),
        ("#!/bin/sh\nexit 1\n", "the process that is to run the action ended before it was ready"),
    ],
)
def test_a_node_that_does_not_start_is_explained(tmp_path: Path, script: str, message: str) -> None:
    program = tmp_path / "node"
    program.write_text(script)
    program.chmod(0o755)
    work = tmp_path / "work"
    address = f"unix:{tmp_path / 's'}"
    assert message in refusal("--kind", "nodejs:20", "--listen", address, "--work", str(work), OWL_NODE=str(program))


@pytest.mark.node
def test_a_node_that_is_named_is_used(start: Callable[..., Container], tmp_path: Path) -> None:
    program = tmp_path / "own-node"
    program.symlink_to(shutil.which("node") or "")
    container = start("nodejs:20", OWL_NODE=str(program), PATH="/nowhere")
    container.init("function main() { return {program: process.argv0} }")
    assert container.run() == (200, {"program": str(program)})


@pytest.mark.node
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("victim", [0, 1], ids=["proxy", "zygote"])
def test_no_part_outlives_another(start: Callable[..., Container], busy: bool, victim: int) -> None:
    container = start("nodejs:20")
    container.init(f"function main() {{ while ({str(busy).lower()}) {{}} }}")
    if busy:
        container.client.close()
        container.client.timeout = 0.2
        with pytest.raises(TimeoutError):
            container.run()
    found = processes(container)
    assert [process.name() for process in found[1:]] == ["owl-zygote", "owl-executor"]
    found[victim].kill()
    wait_until(lambda: gone(found))


@pytest.mark.node
def test_sigterm_ends_everything(start: Callable[..., Container]) -> None:
    container = start("nodejs:20")
    found = processes(container)
    container.process.send_signal(signal.SIGTERM)
    container.process.wait(5)
    wait_until(lambda: gone(found))
    assert not container.socket.exists()


@pytest.mark.node
def test_a_spare_that_ends_is_replaced_at_init(start: Callable[..., Container]) -> None:
    container = start("nodejs:20")
    processes(container)[2].kill()
    wait_until(lambda: len(processes(container)) == 2)
    assert container.init(ECHO) == (200, {"ok": True})
    assert container.run({"x": 1}) == (200, {"x": 1})


@pytest.mark.node
def test_only_what_is_needed_runs_after_init(start: Callable[..., Container]) -> None:
    container = start("nodejs:20")
    assert container.init(zip_of({"index.js": f"exports.main = {ECHO}"}))[0] == 200
    wait_until(lambda: [process.name() for process in processes(container)[1:]] == ["owl-zygote", "owl-executor"])
    assert Path(f"/proc/{processes(container)[2].pid}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.node
def test_the_manager_of_the_node_hears_the_same(start: Callable[..., Container], node: socket.socket) -> None:
    container = start("nodejs:20", OWL_NODE_SOCKET=node.getsockname())
    container.init(zip_of({"index.js": "exports.main = () => process.exit()"}), env=ENV)
    container.run()
    heard = [(m["event"], m["phase"], m["inflight"]) for m in hear(node, 4)]
    assert heard == [("start", "init", 1), ("end", "init", 0), ("start", "run", 1), ("end", "run", 0)]


@pytest.fixture
def on_full_disk(tmp_path: Path) -> Iterator[Callable[[str], Container]]:
    """Starts a container whose work folder has room for 64 KiB."""
    started: list[Container] = []

    def start_one(kind: str) -> Container:
        folder = tmp_path / "container"
        (folder / "action").mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder / "action"], check=True)
        started.append(Container(folder, kind))
        return started[-1]

    yield start_one
    for container in started:
        container.close()
        subprocess.run(["umount", "--lazy", container.work], check=True)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["python:3.11", pytest.param("nodejs:20", marks=pytest.mark.node)])
@pytest.mark.parametrize("zipped", [False, True], ids=["source", "zip"])
def test_a_full_disk_is_not_the_developers_error(
    on_full_disk: Callable[[str], Container], kind: str, zipped: bool
) -> None:
    container = on_full_disk(kind)
    padding = "x" * 100_000
    comment = "#" if kind == "python:3.11" else "//"
    code = zip_of({"__main__.py": "", "index.js": "", "padding": padding}) if zipped else f"{comment} {padding}\n"
    status, answer = container.init(code)
    assert status == 507
    assert answer["error"].startswith("The action cannot be written to the container's disk: ")
    assert "no space left on device" in answer["error"].lower()
    assert answer["error"] in container.stderr
    assert container.stderr.endswith(SENTINEL)
