"""The warden, as the server that starts it sees it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deploy.standalone.warden import Warden


def test_a_warden_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.standalone.warden.DISMISSAL_S", 0.1)
    warden = Warden(tmp_path, None)
    os.kill(warden.pid, signal.SIGSTOP)
    warden.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(warden.pid, 0)
    assert tmp_path.exists()
