from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

from deploy.cli.failures import Failure
from deploy.cli.processes import Service, remembered, running, start, wait_until_ready

READY = "print('ready', flush=True); import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY


@pytest.fixture
def launch(tmp_path):
    (tmp_path / "logs").mkdir()
    log, pid_file = tmp_path / "logs" / "x.log", tmp_path / "x.pid"
    started = []

    def launch(code: str) -> Service:
        started.append(start([sys.executable, "-c", code], "http://nowhere", pid_file, log, {"COLOUR": "blue"}))
        wait_until_ready(started[-1], lambda: "ready" in log.read_text(), log, "thing", 10)
        return started[-1]

    launch.log, launch.pid_file = log, pid_file
    yield launch
    for service in started:
        service.stop(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(service.pid, 0)


def test_a_process_is_found_again_and_stopped(launch):
    service = launch("import os; print(os.environ['COLOUR'], os.getsid(0) == os.getpid()); " + READY)
    assert running(launch.pid_file) == service and service.alive
    assert launch.log.read_text() == "blue True\nready\n"
    assert service.stop(10)
    assert not service.alive and running(launch.pid_file) is None and remembered(launch.pid_file) == service


def test_one_that_does_not_end_is_killed(launch):
    service = launch(STUBBORN)
    assert not service.stop(0.2)
    os.waitpid(service.pid, 0)
    assert not service.alive


def test_another_process_of_the_same_pid_is_left_alone(tmp_path):
    pid_file = tmp_path / "x.pid"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stale = Service(other.pid, started=1.0, url="http://nowhere")
        pid_file.write_text(json.dumps({"pid": stale.pid, "started": stale.started, "url": stale.url}))
        assert running(pid_file) is None and remembered(pid_file) == stale
        assert stale.stop(0) and other.poll() is None
        other.stdin.close()


@pytest.mark.parametrize("content", ["", "12", "{}", '{"pid": "x"}', "[1]"])
def test_a_damaged_pid_file_is_no_process(tmp_path, content):
    (tmp_path / "x.pid").write_text(content)
    assert running(tmp_path / "x.pid") is None and remembered(tmp_path / "x.pid") is None


def test_the_last_words_of_one_that_does_not_start_are_shown(launch):
    with pytest.raises(Failure, match="the thing did not start:\n  out of luck\n.*x.log"):
        launch("raise SystemExit('out of luck')")


def test_the_log_of_the_time_before_is_kept(launch):
    launch(READY).stop(10)
    launch("print('again'); " + READY).stop(10)
    assert launch.log.with_name("x.log.1").read_text() == "ready\n"
    assert "again" in launch.log.read_text()


def test_a_command_that_is_not_there(tmp_path):
    with pytest.raises(Failure, match="cannot start"):
        start([str(tmp_path / "none")], "", tmp_path / "x.pid", tmp_path / "x.log", {})
