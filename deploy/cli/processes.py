"""Background processes that outlive the command which started them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.cli.failures import Failure

CLOCK_SLACK_S = 2.0  # the start time of a process is told relative to a clock that may have been set since
POLL_S = 0.05
LOG_TAIL_LINES = 5


@dataclass(frozen=True, slots=True)
class Service:
    """A started process, as its pid file remembers it. ``started`` tells it from a later one of the same pid."""

    pid: int
    started: float  # seconds since 1970
    url: str

    @property
    def alive(self) -> bool:
        return self._process() is not None

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < CLOCK_SLACK_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def stop(self, timeout_s: float) -> bool:
        """Ask it to end and wait; kill it with its session when it does not. False when it had to be killed."""
        process = self._process()
        if process is None:
            return True
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            raise Failure(f"process {self.pid} belongs to another user: stop it as that user") from None
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() > deadline:
                process.kill()
                return False
            time.sleep(POLL_S)
        return True


def remembered(pid_file: Path) -> Service | None:
    """The process that the file names, whether or not it still runs."""
    try:
        return Service(**json.loads(pid_file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running(pid_file: Path) -> Service | None:
    """The process that the file names, if it still runs."""
    service = remembered(pid_file)
    return service if service and service.alive else None


def start(command: Sequence[str], url: str, pid_file: Path, log: Path, environment: Mapping[str, str]) -> Service:
    """Start ``command`` in a session of its own, with both streams in ``log``, and note it in ``pid_file``.

    The log of the time before is kept as ``NAME.log.1``.
    """
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, **environment},
                start_new_session=True,
            )
    except OSError as error:
        raise Failure(f"cannot start {command[0]}: {error.strerror}") from None
    service = Service(process.pid, psutil.Process(process.pid).create_time(), url)
    written = pid_file.with_name(pid_file.name + ".new")
    written.write_text(json.dumps(asdict(service)))
    written.replace(pid_file)
    return service


def wait_until_ready(service: Service, ready: Callable[[], bool], log: Path, title: str, timeout_s: float) -> None:
    """Wait for its first answer.

    Raises:
        Failure: it ended, or did not answer in time; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not service.alive:
            raise Failure(f"the {title} did not start:\n{tail(log)}\n(all of it: {log})")
        if time.monotonic() > deadline:
            raise Failure(f"the {title} does not answer at {service.url} after {timeout_s:g} s; see {log}")
        time.sleep(POLL_S)


def tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (it printed nothing)"
