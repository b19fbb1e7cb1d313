"""How fast an action answers: warm with one client and with sixteen, and cold."""

from __future__ import annotations

import gc
import re
import resource
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads.bench import BenchError
from workloads.bench.platform_server import Server, new_key
from workloads.bench.platform_worker import Report, Worker

NOOP = {"python:3.11": "def main(args):\n    return {}\n", "nodejs:20": "function main() { return {} }\n"}
WARM_UP_CALLS = 50
SETTLE_S = 0.3  # between trials of a cold start, after the stem cells are back
STEM_CELLS = 2
READY_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Progress = Callable[[str], None]


def warm(settings: dict[str, Any], work: Path, progress: Progress) -> dict[str, Any]:
    """Latencies in ms of blocking calls of an action that does nothing, 128 MB, its containers warm."""
    with Server(work, "--user-memory", "8192", users={"bench": new_key()}) as server:
        kinds = [kind for kind in NOOP if kind in server.kinds()]
        for kind in kinds:
            server.put_action(_noop(kind), NOOP[kind], kind)
        rounds = []
        for number in range(settings["rounds"]):
            progress(f"1 client, round {number + 1} of {settings['rounds']}")
            rounds.append(_load(server, "python:3.11", calls=settings["calls"])["ms"])
        rounds_16 = []
        for number in range(settings["rounds"]):
            progress(f"16 clients, round {number + 1} of {settings['rounds']}")
            rounds_16.append(_load(server, "python:3.11", connections=16, seconds=settings["seconds"]))
        progress("1 client beside idle connections")
        idle = _load(server, "python:3.11", calls=settings["calls"], idle=settings["idle_connections"])
        found = {"rounds": rounds, "rounds_16": rounds_16, "idle": idle, "nodejs": None}
        if "nodejs:20" in kinds and _runs(server, "nodejs:20"):
            progress("1 client, Node.js")
            found["nodejs"] = _load(server, "nodejs:20", calls=settings["calls"])["ms"]
        return found


def cold(settings: dict[str, Any], work: Path, progress: Progress) -> dict[str, Any]:
    """Times in ms of the first call of a fresh action: from a stem cell, and from nothing."""
    trials = settings["cold_trials"]
    found: dict[str, Any] = {"python": [], "without_stem_cell": [], "nodejs": None}
    users = {"bench": new_key()}
    with Server(work / "stem", "--stem-cells", str(STEM_CELLS), "--user-memory", "65536", users=users) as server:
        for number in range(trials):
            progress(f"stem cell, trial {number + 1} of {trials}")
            _stem_cells(server, STEM_CELLS)
            found["python"].append(_first_call(server, "python:3.11", f"fresh-{number}"))
        if "nodejs:20" in server.kinds() and _runs(server, "nodejs:20"):
            found["nodejs"] = []
            for number in range(trials):
                progress(f"stem cell, Node.js, trial {number + 1} of {trials}")
                _stem_cells(server, 2 * STEM_CELLS)
                found["nodejs"].append(_first_call(server, "nodejs:20", f"fresh-node-{number}"))
    with Server(work / "bare", "--stem-cells", "0", "--user-memory", "65536", users=users) as server:
        for number in range(trials):
            progress(f"no stem cell, trial {number + 1} of {trials}")
            time.sleep(SETTLE_S)
            found["without_stem_cell"].append(_first_call(server, "python:3.11", f"fresh-{number}"))
    return found


def _noop(kind: str) -> str:
    return f"noop-{kind.partition(':')[0]}"


def _runs(server: Server, kind: str) -> bool:
    """Whether this machine has what the kind needs; the API accepts its actions in any case."""
    name = f"probe-{kind.partition(':')[0]}"
    server.put_action(name, NOOP[kind], kind)
    return server.send("POST", f"/api/v1/namespaces/_/actions/{name}?blocking=true", {})[0] == 200


def _load(server: Server, kind: str, **shape: Any) -> dict[str, Any]:
    job = {
        "port": server.port,
        "authorization": server.authorization("bench"),
        "action": _noop(kind),
        "connections": 1,
        "calls": None,
        "seconds": None,
        "idle": 0,
        **shape,
    }
    with Worker("speed", job) as worker:
        return worker.result()


def _stem_cells(server: Server, wanted: int) -> None:
    deadline = time.monotonic() + READY_S
    while server.metric("gauge_containerPool_prewarmCount_counter") < wanted:
        if time.monotonic() > deadline:
            raise BenchError(f"the server has not {wanted} stem cells after {READY_S:g} s")
        time.sleep(0.05)
    time.sleep(SETTLE_S)


def _first_call(server: Server, kind: str, name: str) -> float:
    server.put_action(name, NOOP[kind], kind)
    began = time.perf_counter()
    server.ns("POST", f"actions/{name}?blocking=true", {})
    return round((time.perf_counter() - began) * 1000, 3)


def work(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """In a worker: keep ``connections`` connections busy with one call each, for ``calls`` calls or for ``seconds``.

    All are served by one thread, so that little of the machine goes to the clients. Returns ``{"ms": [...],
    "seconds": s}`` without the calls of the warm-up.
    """
    held = _idle_connections(job)
    request = (
        f"POST /api/v1/namespaces/_/actions/{job['action']}?blocking=true HTTP/1.1\r\nHost: 127.0.0.1:{job['port']}\r\n"
        f"Authorization: {job['authorization']}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    ).encode()
    clients = [_Client(job["port"], request) for _ in range(job["connections"])]
    gc.disable()
    _drive(clients, WARM_UP_CALLS * len(clients), None)
    ms, seconds = _drive(clients, job["calls"], job["seconds"])
    for connection in (*held, *(client.socket for client in clients)):
        connection.close()
    return {"ms": ms, "seconds": round(seconds, 3)}


class _Client:
    """One connection with at most one call under way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=90)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._received = b""
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> float | None:
        """Read what has come; the call's time in ms once its answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise BenchError("the server closed the connection of a client that it served")
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = _LENGTH.search(head)
        if length is None:
            raise BenchError(f"an answer without a Content-Length: {head[:200]!r}")
        if len(body) < int(length[1]):
            return None
        took = (time.perf_counter() - self._began) * 1000
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"an action that does nothing failed: {head[:40]!r} {body[:300]!r}")
        self._received = b""
        return took


def _drive(clients: list[_Client], calls: int | None, seconds: float | None) -> tuple[list[float], float]:
    by_descriptor = {client.socket.fileno(): client for client in clients}
    ms: list[float] = []
    start = time.perf_counter()
    end = start + (seconds if seconds is not None else 3600)
    left = calls if calls is not None else 1 << 60
    with select.epoll() as waiting:
        for client in clients:
            waiting.register(client.socket, select.EPOLLIN)
            client.begin()
        busy = len(clients)
        while busy:
            for descriptor, _ in waiting.poll(90):
                client = by_descriptor[descriptor]
                took = client.receive()
                if took is None:
                    continue
                ms.append(round(took, 2))
                if len(ms) + busy <= left and time.perf_counter() < end:
                    client.begin()
                else:
                    busy -= 1
    return ms, time.perf_counter() - start


def _idle_connections(job: dict[str, Any]) -> list[socket.socket]:
    """Connections that have asked once and now only exist."""
    if job["idle"]:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    for _ in range(job["idle"]):
        connection = socket.create_connection(("127.0.0.1", job["port"]), timeout=30)
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        connection.recv(4096)
        held.append(connection)
    return held
