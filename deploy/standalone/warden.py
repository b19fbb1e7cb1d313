"""Clears away the containers of a server that was killed.

A process of its own with the read end of a pipe as standard input. ``q`` means that the server ends in good order; the
end of the pipe without it, that the server died. A server started anew in the same place may be quicker and does the
same work itself. The package imports nothing, so that this process stays small until it is needed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

DISMISSAL_S = 5.0  # how long a dismissed warden may take to end
RELEASE_S = 2.0  # a killed server's pipe is closed before its locks are given back, on a busy machine long before


class Warden:
    """The server's end. ``temporary`` is a folder to remove, too, should the server die."""

    def __init__(self, run_dir: Path, cgroup: str | None, temporary: Path | None = None) -> None:
        arguments = [str(run_dir), cgroup or "", str(temporary or "")]
        # In a session of its own, it outlives a terminal's Ctrl-C and a killed process group.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.standalone.warden", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def dismiss(self) -> None:
        """The server has cleared away everything itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"q")
        self._process.stdin.close()
        try:
            self._process.wait(DISMISSAL_S)
        except subprocess.TimeoutExpired:  # it was stopped, or the machine is very busy: nothing is left for it to do
            self._process.kill()
            self._process.wait()


def main(run_dir: str, cgroup: str, temporary: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.read(0, 1) != b"q":
        clear(Path(run_dir), cgroup, temporary)


def clear(run_dir: Path, cgroup: str, temporary: str) -> None:
    import shutil

    from deploy.standalone.invoker import leftovers
    from deploy.standalone.invoker.docker_engine import DockerEngine, EngineError
    from rm_agent.cgroup import CgroupError, detect

    driver = detect() if cgroup else None
    with contextlib.ExitStack() as held:
        try:
            held.callback(os.close, leftovers.lock(run_dir, RELEASE_S))
            if driver is not None:
                held.callback(os.close, leftovers.lock(driver.create(cgroup).folders[0], RELEASE_S))
        except OSError:  # another server has the place now, or it is gone
            return
        if (engine := DockerEngine.connect()) is not None:
            with contextlib.suppress(EngineError):  # the next server tries again
                leftovers.clear_docker(engine, run_dir, cgroup if driver is not None else None)
        leftovers.clear(run_dir, driver, cgroup or None)
        if driver is not None:
            with contextlib.suppress(CgroupError):  # busy: whoever starts in its place takes it over
                leftovers.dissolve(driver, cgroup)
        with contextlib.suppress(OSError):  # it may hold what is not ours
            run_dir.rmdir()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
