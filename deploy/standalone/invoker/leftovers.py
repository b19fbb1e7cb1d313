"""Clears away what a server that was killed left behind, and keeps two servers out of one folder."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TextIO

from deploy.standalone.invoker.process import PID
from rm_agent.cgroup import CgroupDriver

_CONTAINER = re.compile(r"wsk0_\d+_\w*")


def lock(run_dir: Path) -> TextIO:
    """Take the folder for this process until the file is closed. Raises ``ValueError`` when it is taken."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (run_dir / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(f"another server keeps its containers in {run_dir}: stop it or choose another folder") from None
    return file


def clear(run_dir: Path, driver: CgroupDriver | None, parent: str | None) -> int:
    """Kill and remove the containers of a previous server; the number of containers found.

    Raises :class:`~rm_agent.cgroup.CgroupError` when one of them survives.
    """
    found = set()
    if driver is not None and parent is not None:
        for name in driver.children(parent):
            found.add(name)
            group = driver.create(f"{parent}/{name}")  # completes one of which only a part was removed
            group.kill()
            group.remove()
    for folder in run_dir.iterdir():
        if _CONTAINER.fullmatch(folder.name) and folder.is_dir():
            found.add(folder.name)
            _kill_session(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def _kill_session(folder: Path) -> None:
    """Kill the process group noted in the folder, if that number still belongs to the container."""
    try:
        pid = int((folder / PID).read_text())
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"OWL_CONTAINER={folder.name}".encode() in environment:
            os.killpg(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass


def unlock(run_dir: Path, file: TextIO) -> None:
    """Give the folder back, and remove it when nothing else is in it."""
    (run_dir / "lock").unlink(missing_ok=True)
    file.close()
    try:
        run_dir.rmdir()
    except OSError:
        pass
