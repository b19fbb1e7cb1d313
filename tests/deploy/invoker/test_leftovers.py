"""Who may keep containers in a folder."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from deploy.standalone.invoker import InUse, leftovers


def test_one_at_a_time(tmp_path: Path) -> None:
    first = leftovers.lock(tmp_path)
    with pytest.raises(InUse, match="another server keeps its containers"):
        leftovers.lock(tmp_path, 0.05)
    os.close(first)
    os.close(leftovers.lock(tmp_path))


def test_a_folder_that_its_warden_removes_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    warden = leftovers.lock(folder)

    def remove() -> None:
        time.sleep(0.1)
        folder.rmdir()
        os.close(warden)

    thread = threading.Thread(target=remove)
    thread.start()
    descriptor = leftovers.lock(folder, 10)
    thread.join()
    assert os.path.samestat(os.fstat(descriptor), folder.stat())
    with pytest.raises(InUse):
        leftovers.lock(folder)
    os.close(descriptor)
