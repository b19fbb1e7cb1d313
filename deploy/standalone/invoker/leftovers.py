"""Clears away what a server that was killed left behind, and keeps two servers out of one place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.standalone.invoker.docker_container import FOLDER_LABEL, GROUP_LABEL
from deploy.standalone.invoker.docker_engine import DockerEngine
from deploy.standalone.invoker.process import KILL_TIMEOUT_S, PID
from rm_agent.cgroup import CgroupDriver, CgroupNotFound

REMOVERS = 8  # an engine takes tenths of a second for each, mostly waiting

_CONTAINER = re.compile(r"wsk0_\d+_\w*")


class InUse(OSError):
    """Another server that is running keeps its containers here."""


def lock(folder: Path, wait_s: float = 0.0) -> int:
    """Take the folder (of files, or of a control group) for this process.

    ``wait_s`` is how long to wait for who has it: a killed server's warden is done with it in a moment. Returns the
    descriptor whose closing, at the latest by the end of the process, gives it back. Raises :class:`InUse`.
    """
    until = time.monotonic() + wait_s
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _wait_for(descriptor, folder, until)
            if _is(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        folder.mkdir(mode=0o700)  # the warden that had it has removed it


def _wait_for(descriptor: int, folder: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise InUse(
                    f"another server keeps its containers in {folder}: stop it or choose another one"
                ) from None
            time.sleep(0.02)


def _is(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def clear(run_dir: Path, driver: CgroupDriver | None, parent: str | None) -> int:
    """Kill and remove the containers of a previous server; the number of containers found.

    Raises :class:`~rm_agent.cgroup.CgroupError` when one of them survives.
    """
    found = set()
    if driver is not None and parent is not None:
        for name in driver.children(parent):
            found.add(name)
            group = driver.create(f"{parent}/{name}")  # completes one of which only a part was removed
            with contextlib.suppress(CgroupNotFound):  # Docker removes the group of a container that has ended
                group.kill()
            group.remove()
    for folder in run_dir.iterdir():
        if _CONTAINER.fullmatch(folder.name) and folder.is_dir():
            found.add(folder.name)
            _kill_session(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def clear_docker(engine: DockerEngine, run_dir: Path, parent: str | None) -> int:
    """Remove a previous server's Docker containers, those of the folder and of the group: their number.

    To be called by whoever has locked both. Raises
    :class:`~deploy.standalone.invoker.docker_engine.EngineError`.
    """
    labels = [f"{FOLDER_LABEL}={run_dir}"] + ([f"{GROUP_LABEL}={parent}"] if parent is not None else [])
    found = {container for label in labels for container in engine.labelled(label)}
    with ThreadPoolExecutor(REMOVERS) as removers:
        for _ in removers.map(engine.remove, found):
            pass
    return len(found)


def dissolve(driver: CgroupDriver, parent: str) -> None:
    """Remove the empty group, in the hierarchies too that only Docker uses.

    Raises :class:`~rm_agent.cgroup.CgroupError`.
    """
    driver.create(parent).remove()
    for hierarchy in driver.root.iterdir() if driver.version == 1 else ():
        with contextlib.suppress(OSError):
            (hierarchy / parent).rmdir()


def _kill_session(folder: Path) -> None:
    """Kill the process group noted in the folder, if that number still belongs to the container, and wait for it."""
    try:
        pid = int((folder / PID).read_text())
        process = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"OWL_CONTAINER={folder.name}".encode() in environment:
            os.killpg(pid, signal.SIGKILL)
            select.select([process], [], [], KILL_TIMEOUT_S)
    except OSError:  # it is gone already
        pass
    finally:
        os.close(process)
