"""`owl serve` as a process that a benchmark starts, kills and starts again."""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from workloads.bench import BenchError
from workloads.platform import START_S, UNTHROTTLED, PlatformError, free_port, program, stop

WARDEN_S = 10.0
_DEFECT = re.compile(r"Traceback \(most recent call last\)|^internal error|^Exception in thread", re.MULTILINE)

Answer = tuple[int, Any]


def new_key() -> str:
    """``uuid:key`` of a user made for one run."""
    return f"{uuid.uuid4()}:{secrets.token_hex(32)}"


class Server:
    """A server of its own with its data in a temporary folder; on leaving, it and the folder are gone.

    ``users`` (name -> ``uuid:key``) exist besides the well-known ones; ``options`` are further ones of `owl serve`.
    The log in ``work`` is kept. Raises :class:`BenchError` when it does not start.
    """

    def __init__(self, work: Path, *options: str, users: dict[str, str], limits: tuple[str, ...] = UNTHROTTLED) -> None:
        self.users = users
        self.port = free_port()
        self.log = work / "owl.log"
        self._options = [*limits, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._data: Path | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        # Short, for the sockets in it; and where the machine keeps what is temporary.
        self._data = Path(tempfile.mkdtemp(prefix="owl-bench-"))
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start(self) -> None:
        """Start, or start again on the same data and port; returns when it answers."""
        users = [argument for name, key in self.users.items() for argument in ("--user", f"{name}={key}")]
        try:
            command = [program("owl"), "serve", "--port", str(self.port), "--data", str(self._data)]
        except PlatformError as error:
            raise BenchError(str(error)) from error
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the benchmark, which then stops it in order.
            self._process = subprocess.Popen(
                [*command, *users, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
                raise BenchError(f"`owl serve` does not start: {last or 'it printed nothing'}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, with no time for anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def answers(self) -> bool:
        try:
            return self.send("GET", "/ping", user=None)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def send(self, method: str, path: str, body: Any = None, user: str | None = "bench") -> Answer:
        """(status, JSON or text of the answer) on a connection of its own; ``path`` may be below ``/api/v1``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if user is not None:
            headers["Authorization"] = self.authorization(user)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(data)
        except ValueError:
            return response.status, data.decode(errors="replace")

    def ns(self, method: str, path: str, body: Any = None, user: str = "bench") -> Any:
        """The answer to a request below ``/namespaces/_`` that must succeed."""
        status, answer = self.send(method, f"/api/v1/namespaces/_/{path}", body, user)
        if not 200 <= status < 300:
            raise BenchError(f"{method} {path}: {status} {str(answer)[:300]}")
        return answer

    def put_action(self, name: str, code: str, kind: str = "python:3.11", user: str = "bench", **more: Any) -> None:
        body = {"exec": {"kind": kind, "code": code}, "limits": {"memory": 128}, **more}
        self.ns("PUT", f"actions/{name}?overwrite=true", body, user)

    def authorization(self, user: str) -> str:
        return "Basic " + base64.b64encode(self.users[user].encode()).decode()

    def metric(self, name: str) -> float:
        """The value of an unlabelled metric; 0 where it is not there."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", str(self.send("GET", "/metrics", user=None)[1]), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def kinds(self) -> set[str]:
        families = self.send("GET", "/", user=None)[1]["runtimes"].values()
        return {runtime["kind"] for family in families for runtime in family}

    def kill_in_a_container(self, rng: random.Random) -> str | None:
        """SIGKILL to one process, be it proxy or executor, of one container; its name, None where there is none."""
        try:
            children = psutil.Process(self._process.pid).children() if self._process else []
        except psutil.NoSuchProcess:
            return None
        rng.shuffle(children)
        for child in children:
            try:
                name = child.environ().get("OWL_CONTAINER")
                if name:
                    rng.choice([child, *child.children(recursive=True)]).kill()
                    return name
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return None

    def defects(self) -> list[str]:
        """Lines of the log that tell of an error of the server itself."""
        text = self.log.read_text(errors="replace")
        return [text[match.start() : match.start() + 2000] for match in _DEFECT.finditer(text)]

    def _end(self) -> None:
        if self._process is not None:
            stop(self._process)
        if self._data is not None:
            # Where the server could not clear up itself, its warden does, and needs to find the folder.
            deadline = time.monotonic() + WARDEN_S
            while (self._data / "run").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            shutil.rmtree(self._data, ignore_errors=True)
