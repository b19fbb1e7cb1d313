"""Sends requests that no client means, from several processes, and looks for what is the server's fault."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from workloads.bench import BenchError
from workloads.bench.platform_requests import OWNER, malformed, request, world
from workloads.bench.platform_server import Server, new_key
from workloads.bench.platform_worker import Report, Worker

WORKERS = 4
MALFORMED = 0.15  # share of the requests that are broken as HTTP
ANSWER_S = 30.0
SILENCE_S = 2.0  # how long what is broken may stay without an answer
SHOWN = 40
_KEY = re.compile(rb"Authorization: [^\r\n]*")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


def fuzz(settings: dict[str, Any], work: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Send ``settings["requests"]`` requests; statuses, and everything that a server may not do."""
    users = {name: new_key() for name in ("bench", "alice", OWNER)}
    with Server(work, "--user-memory", "8192", users=users) as server, ExitStack() as held:
        for user, method, path, body in world():
            server.ns(method, path, body, user)
        began = time.monotonic()
        share, rest = divmod(settings["requests"], WORKERS)
        workers = [
            held.enter_context(
                Worker(
                    "fuzz",
                    {
                        "port": server.port,
                        "authorizations": {user: server.authorization(user) for user in ("bench", "alice")},
                        "seed": f"{settings['seed']}/{number}",
                        "requests": share + (number < rest),
                    },
                )
            )
            for number in range(WORKERS)
        ]
        while any(worker.running for worker in workers):
            next(worker for worker in workers if worker.running).wait(0.1)
            progress(sum(worker.done for worker in workers))
        results = [worker.result() for worker in workers]
        seconds = time.monotonic() - began
        alive = _correct(server)
    statuses: Counter[str] = Counter()
    for result in results:
        statuses.update(result["statuses"])
    faults = [fault for result in results for fault in result["faults"]]
    return {
        "requests": sum(result["requests"] for result in results),
        "malformed": sum(result["malformed"] for result in results),
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(statuses.items())),
        "status_500": sum(result["status_500"] for result in results),
        "platform_errors": sum(result["platform_errors"] for result in results),
        "unanswered": sum(result["unanswered"] for result in results),
        "faults": faults[:SHOWN],
        "defects": server.defects()[:SHOWN],
        "alive": alive,
    }


def _correct(server: Server) -> bool:
    """Whether the server still does what it is for."""
    try:
        server.put_action("after", "def main(args):\n    return {'sum': args['a'] + args['b']}\n", user=OWNER)
        result = server.ns("POST", "actions/after?blocking=true&result=true", {"a": 1, "b": 2}, OWNER)
        return result == {"sum": 3} and server.answers()
    except (BenchError, OSError, http.client.HTTPException):
        return False


def work(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """In a worker: send ``requests`` requests, one after the other."""
    rng = Random(job["seed"])
    found: dict[str, Any] = {
        **dict.fromkeys(("requests", "malformed", "status_500", "platform_errors", "unanswered"), 0),
        "faults": [],
        "statuses": Counter(),
    }
    connection = Connection(job["port"])
    for number in range(1, job["requests"] + 1):
        sent = request(rng, job["authorizations"])
        if rng.random() < MALFORMED:
            data = malformed(rng, sent)
            found["malformed"] += 1
            answers = send_raw(job["port"], data)
            for status in answers:
                found["statuses"][str(status)] += 1
            if 500 in answers:
                found["status_500"] += 1
                found["faults"].append({"sent": _shown(data), "answer": "500"})
        else:
            _judge(sent.encode(), connection.send(sent.method, sent.encode()), found)
        found["requests"] = number
        if number % 50 == 0 or number == job["requests"]:
            report(number)
    connection.close()
    return found


def _shown(sent: bytes) -> str:
    return repr(_KEY.sub(b"Authorization: ...", sent[:600]))


def _judge(sent: bytes, answer: Answer | None, found: dict[str, Any]) -> None:
    if answer is None:
        found["unanswered"] += 1
        found["faults"].append({"sent": _shown(sent), "answer": "none"})
        return
    found["statuses"][str(answer.status)] += 1
    if answer.status == 500 and answer.platform_error:
        found["platform_errors"] += 1
    elif answer.status == 500:
        found["status_500"] += 1
    elif b"Traceback (most recent call last)" not in answer.body or answer.of_activations:
        return
    found["faults"].append({"sent": _shown(sent), "answer": f"{answer.status} {answer.body[:400]!r}"})


class Answer:
    """Status, body, and whether it is about an activation."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.body = response.read()
        self.activation = response.getheader("X-Openwhisk-Activation-Id")
        self.closes = response.will_close

    @property
    def of_activations(self) -> bool:
        """A traceback in it may be that of an action."""
        return bool(self.activation) or b'"activationId"' in self.body

    @property
    def platform_error(self) -> bool:
        """It is how OpenWhisk answers that the platform failed an activation, which has a record."""
        try:
            return bool(self.activation) and json.loads(self.body)["response"]["status"] == "whisk internal error"
        except (ValueError, TypeError, KeyError):
            return False


class Connection:
    """Sends bytes that are a request and reads its answer, on one connection while the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, method: str, data: bytes) -> Answer | None:
        """None when no answer comes, also not on a new connection."""
        for fresh in (self._socket is None, True):
            if fresh:
                self.close()
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_S)
            assert self._socket is not None
            try:
                self._socket.sendall(data)
                response = http.client.HTTPResponse(self._socket, method=method)
                response.begin()
                answer = Answer(response)
            except (OSError, http.client.HTTPException):
                self.close()
                continue
            if answer.closes:
                self.close()
            return answer
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def send_raw(port: int, data: bytes) -> list[int]:
    """The statuses that come back for these bytes until the server closes the connection or falls silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while len(received) < 1 << 20 and (more := connection.recv(65536)):
                received += more
        except OSError:  # it has closed before everything was sent, or waits for more
            pass
    return [int(status) for status in _STATUS.findall(received)]
