"""A fresh platform for one measurement: `owl serve`, on request `rm-agent serve`, deployed and warm functions."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from rm_agent.openwhisk import Activation, OpenWhisk, OpenWhiskError

START_S = 60.0
STOP_S = 30.0
WARM_S = 300.0
DEPLOY_S = 300.0
UNTHROTTLED = (
    "--invocations-per-minute",
    "1000000",
    "--fires-per-minute",
    "1000000",
    "--concurrent-invocations",
    "10000",
)


class PlatformError(Exception):
    """The platform did not start, or a function does not run on it; ``str()`` says what to look at."""


class Platform:
    """A context manager: on leaving it, also by an exception or Ctrl-C, every process of it is gone.

    Args:
        managed: whether the resource manager runs.
        manifests: manifest files (wskdeploy format) to deploy.
        work: folder for logs, and for the manager's journal (``journal.db``); made if missing.
        options: further options of ``owl serve``.

    The API is that of OpenWhisk and is reached through ``openwhisk``. The user and the key are made for this run.
    """

    def __init__(self, *, managed: bool, manifests: Sequence[Path], work: Path, options: Sequence[str] = ()) -> None:
        self.managed = managed
        self.journal = work / "journal.db"
        self._manifests = manifests
        self._work = work
        self._options = options
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._sockets: Path | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        # A Unix socket's path may not exceed 107 bytes, which a folder below the user's home may.
        self._sockets = Path(tempfile.mkdtemp(prefix="owl-bench-"))
        node_socket = self._sockets / "node.sock"
        port = free_port()
        key = f"{uuid.uuid4()}:{''.join(secrets.choice(string.ascii_letters + string.digits) for _ in range(64))}"
        self.openwhisk = OpenWhisk(f"http://127.0.0.1:{port}", key)
        self._spawn(
            "owl", "serve", "--ephemeral", "--port", str(port), "--user", f"bench={key}", *UNTHROTTLED,
            "--max-action-memory", "2048", "--node-socket", str(node_socket), *self._options,
        )  # fmt: skip
        self._until("owl", self.openwhisk.ping)
        environment = os.environ | {"OW_APIHOST": self.openwhisk.url, "OW_AUTH": key}
        if self.managed:
            agent = free_port()
            self.agent_url = f"http://127.0.0.1:{agent}"
            self.journal.unlink(missing_ok=True)
            self._spawn(
                "rm-agent", "serve", "--cgroup-root", f"owl-{port}", "--node-socket", str(node_socket),
                "--journal", str(self.journal), "--port", str(agent), environment=environment,
            )  # fmt: skip
            self._until("rm-agent", self._agent_healthy)
        self._deploy(environment)

    def _deploy(self, environment: Mapping[str, str]) -> None:
        arguments = [argument for manifest in self._manifests for argument in ("-m", str(manifest))]
        try:
            done = subprocess.run(
                [program("owl"), "deploy", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEPLOY_S,
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(f"`owl deploy` has not finished after {DEPLOY_S:g} s") from None
        if done.returncode:
            raise PlatformError(f"`owl deploy` failed: {_last_lines(done.stderr or done.stdout)}")

    def resources(self, actions: Sequence[str]) -> dict[str, dict[str, int]]:
        """Each action's own allocation, as deployed: ``{"cpu": millicores, "memory": MiB}``."""
        found = {}
        for name in actions:
            action = self.openwhisk.get_action(name)
            annotations = {pair["key"]: pair["value"] for pair in action["annotations"]}
            cpu = (annotations.get("resources") or {}).get("cpu", 1000)
            found[name] = {"cpu": int(cpu), "memory": int(action["limits"]["memory"])}
        return found

    def warm(self, calls: Mapping[str, Sequence[dict[str, Any]]], on_done: Callable[[str], None] | None = None) -> None:
        """Call each action with each of its parameters, one after the other, two actions at a time.

        Raises :class:`PlatformError` with the reason where a call fails: a benchmark of failures would be fast.
        """

        def each(action: str) -> None:
            for params in calls[action]:
                record = self._invoke(action, params)
                if not record.success:
                    raise PlatformError(f"{action} does not run here: {record.status}: {str(record.result)[:500]}")
            if on_done:
                on_done(action)

        pool = ThreadPoolExecutor(2, thread_name_prefix="warm")
        try:
            for done in [pool.submit(each, action) for action in calls]:
                done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _invoke(self, action: str, params: dict[str, Any]) -> Activation:
        try:
            record = self.openwhisk.invoke(action, params)
            return self.openwhisk.wait(record.id, WARM_S) if record.pending else record
        except OpenWhiskError as error:
            raise PlatformError(f"{action} cannot be called: {error}") from error

    def state(self) -> dict[str, Any]:
        """The manager's ``/state``; raises :class:`PlatformError` where it does not answer."""
        try:
            answer = requests.get(f"{self.agent_url}/state", timeout=5)
            answer.raise_for_status()
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise PlatformError(f"rm-agent does not answer: {error}") from error

    def check(self) -> None:
        """Raise :class:`PlatformError` if a process of the platform has ended by itself."""
        for name, process in self._processes:
            if process.poll() is not None:
                raise PlatformError(f"`{name} serve` ended with code {process.returncode}: {self._tail(name)}")

    def close(self) -> None:
        """Stop everything, the manager first so that it gives back what is lent. Safe to call twice."""
        interrupt = None
        if threading.current_thread() is threading.main_thread():
            interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while self._processes:
                _, process = self._processes[-1]
                stop(process)
                self._processes.pop()
            if self._sockets:
                shutil.rmtree(self._sockets, ignore_errors=True)
        finally:
            if interrupt is not None:
                signal.signal(signal.SIGINT, interrupt)

    def _spawn(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        with (self._work / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches this program, which then stops them in order.
            process = subprocess.Popen(
                [program(name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._processes.append((name, process))

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise PlatformError(f"`{name} serve` does not answer after {START_S:g} s: {self._tail(name)}")
            time.sleep(0.1)

    def _agent_healthy(self) -> bool:
        try:
            return requests.get(f"{self.agent_url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def _tail(self, name: str) -> str:
        try:
            return _last_lines((self._work / f"{name}.log").read_text(errors="replace"))
        except OSError:
            return "it left no log"


def program(name: str) -> str:
    """The installed command of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise PlatformError(f"the command `{name}` is not installed; `make setup` installs it")
    return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that leads a session of its own: in order, by force when it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _last_lines(text: str, count: int = 3) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-count:]) or "it printed nothing"
