"""Containers that are processes: a session of its own, in a control group of its own where that is allowed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from deploy.standalone.invoker.container import StartFailed
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.settings import InvokerSettings
from rm_agent.cgroup import Cgroup, CgroupDriver, CgroupError

log = logging.getLogger(__name__)

SOCKET_PATH_MAX = 107  # bytes the kernel has for the path of a Unix socket
NAME_MAX = 40
SOCKET = "proxy.sock"
PID = "pid"
KILL_TIMEOUT_S = 5.0
PIDS_LIMIT = 1024  # as in OpenWhisk
STEM_SHARES = 20  # a starting stem cell gets the CPU time that is left over

# The shell enters the control groups itself and becomes the runtime, so that no byte of the runtime's memory is
# accounted elsewhere; between fork and exec a threaded server may run no Python.
_LAUNCH = """\
n=$1; shift
while [ "$n" -gt 0 ]; do echo 0 > "$1" || exit 1; shift; n=$((n - 1)); done
ulimit -n 1024
exec "$@"
"""


def check_run_dir(run_dir: Path) -> None:
    """Raises ``ValueError`` when the containers' sockets would not fit below the folder."""
    longest = len(os.fsencode(run_dir)) + 1 + NAME_MAX + 1 + len(SOCKET)
    if longest > SOCKET_PATH_MAX:
        raise ValueError(
            f"the folder {run_dir} is {longest - SOCKET_PATH_MAX} bytes too long for Unix sockets: choose a shorter one"
        )


class ProcessContainer:
    """Starts in the constructor, which blocks for some milliseconds. Raises :class:`StartFailed`."""

    slow = False

    def __init__(
        self, name: str, settings: InvokerSettings, driver: CgroupDriver | None, flavour: Flavour, memory_mib: int
    ) -> None:
        assert flavour.kind is not None
        self.name = name
        self._folder = settings.run_dir / name
        self._cgroup: Cgroup | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptors: list[int] = []
        try:
            self._start(settings, driver, flavour.kind, memory_mib)
        except (OSError, CgroupError) as error:
            self.destroy()
            reason = error.strerror if isinstance(error, OSError) else None
            raise StartFailed(f"The action's container could not be started: {reason or error}") from None

    def _start(self, settings: InvokerSettings, driver: CgroupDriver | None, kind: str, memory_mib: int) -> None:
        work, temporary = self._folder / "work", self._folder / "tmp"
        for folder in (work, temporary):
            folder.mkdir(parents=True, mode=0o700)
        if driver is not None:
            self._cgroup = driver.create(f"{settings.cgroup}/{self.name}")
            self._cgroup.set_cpu_weight(STEM_SHARES)
            self._cgroup.set_memory(memory_mib)
            self._cgroup.set_pids(PIDS_LIMIT)
        joins = [] if self._cgroup is None else [str(file) for file in self._cgroup.procs_files]
        with contextlib.ExitStack() as ends:
            self.ready, ready = self._pipe(ends)
            stdout, stdout_end = self._pipe(ends)
            stderr, stderr_end = self._pipe(ends)
            self.streams = (stdout, stderr)
            runtime = [sys.executable, "-m", "action_runtime", "--kind", kind,
                       "--listen", f"unix:{self._folder / SOCKET}", "--ready-fd", str(ready), "--work", str(work)]  # fmt: skip
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, "owl", str(len(joins)), *joins, *runtime],
                stdin=subprocess.DEVNULL,
                stdout=stdout_end,
                stderr=stderr_end,
                pass_fds=(ready,),
                cwd=work,
                env=self._environment(settings, work, temporary),
                start_new_session=True,
            )
        self.exited = os.pidfd_open(self._process.pid)
        self._descriptors.append(self.exited)
        (self._folder / PID).write_text(str(self._process.pid))

    def _pipe(self, ends: contextlib.ExitStack) -> tuple[int, int]:
        """(read, write); the writing end goes with ``ends``."""
        read, write = os.pipe()
        ends.callback(os.close, write)
        self._descriptors.append(read)
        os.set_blocking(read, False)
        return read, write

    def _environment(self, settings: InvokerSettings, work: Path, temporary: Path) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(work),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "OWL_CONTAINER": self.name,
            # HOME is the container's own, so the server's default must be spelt out.
            "OWL_CACHE": os.environ.get("OWL_CACHE") or str(Path.home() / ".cache" / "owl"),
        }
        for name in ("OWL_DATA", "OWL_NODE"):
            if name in os.environ:
                environment[name] = os.environ[name]
        if settings.node_socket:
            environment["OWL_NODE_SOCKET"] = settings.node_socket
        return environment | settings.environment

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)  # else a runtime that accepts no more would be waited for
        try:
            connection.connect(str(self._folder / SOCKET))
        except OSError:
            connection.close()
            raise
        return connection

    def claim(self, cpu_millis: int, memory_mib: int) -> None:
        """Raises :class:`CgroupError`."""
        if self._cgroup is not None:
            self._cgroup.set_cpu_weight(cpu_millis * 1024 // 1000)
            self._cgroup.set_cpu(cpu_millis)
            self._cgroup.set_memory(memory_mib)

    def hurry(self) -> None:
        """Somebody waits for it: let it start like an action that runs."""
        if self._cgroup is not None:
            with contextlib.suppress(CgroupError):  # when it is gone, that shows elsewhere
                self._cgroup.set_cpu_weight(1024)

    def pause(self) -> None:
        if self._cgroup is not None:
            self._cgroup.freeze()
        else:
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._cgroup is not None:
            self._cgroup.thaw()
        else:
            self._signal(signal.SIGCONT)

    def out_of_memory(self) -> bool:
        try:
            return self._cgroup is not None and self._cgroup.usage().oom_kills > 0
        except CgroupError:
            return False

    def destroy(self) -> None:
        try:
            if self._cgroup is not None:
                self._cgroup.kill()
        except CgroupError as error:
            log.warning("container %s: %s", self.name, error)
        self._signal(signal.SIGKILL)
        try:
            if self._process is not None:
                self._process.wait(KILL_TIMEOUT_S)
            if self._cgroup is not None:
                self._cgroup.remove()
        except (CgroupError, subprocess.TimeoutExpired) as error:
            log.warning("container %s: %s", self.name, error)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
