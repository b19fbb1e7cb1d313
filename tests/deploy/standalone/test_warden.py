"""The warden, as the server that starts it sees it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from deploy.standalone.invoker import leftovers
from deploy.standalone.warden import Warden


def test_a_warden_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.standalone.warden.DISMISSAL_S", 0.1)
    warden = Warden(tmp_path, None)
    os.kill(warden.pid, signal.SIGSTOP)
    warden.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(warden.pid, 0)
    assert tmp_path.exists()


def test_a_killed_servers_lock_may_be_given_back_after_its_pipe(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "wsk0_1_guest_act").mkdir(parents=True)
    held = leftovers.lock(run_dir)
    warden = Warden(run_dir, None)
    warden._process.stdin.close()
    time.sleep(1)  # it has found the folder locked by now
    assert run_dir.exists()
    os.close(held)
    assert warden._process.wait(10) == 0
    assert not run_dir.exists()
