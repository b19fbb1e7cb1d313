"""Nothing is lost: activations under way while containers and the server itself are killed.

Clients note each activation id that they were given, and what must come of it. At the end each id must have exactly
one record, and a record of success the right result.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from workloads.bench import BenchError
from workloads.bench.platform_server import Server, new_key
from workloads.bench.platform_worker import Report, Worker

WORKERS, THREADS = 4, 4
PAUSES_S = (0.3, 1.5)  # between kills of containers
QUIET_S = 180.0
MOST_ATTEMPTS = 1000
MOST_STARTS = 5
SHOWN = 100  # findings of one sort kept in the document
SUCCESS, APPLICATION_ERROR = "success", "application error"
# What a record may say of a call whose container or server was killed.
KILLED = frozenset({"action developer error", "whisk internal error"})
ACTIONS = {
    "step": "def main(args):\n    return {'call': args['call'], 'n': args['n'] + 1}\n",
    "slow": "import time\n\n\ndef main(args):\n    time.sleep(args['n'] % 10 / 20)\n"
    "    return {'call': args['call'], 'n': args['n'] + 1}\n",
    "fail": "def main(args):\n    return {'error': args['call']}\n",
}
CHAIN = 3
# (what is called, blocking) -> how often
MIX = {
    ("step", True): 45,
    ("step", False): 20,
    ("chain", True): 8,
    ("chain", False): 4,
    ("event", False): 8,
    ("slow", True): 4,
    ("slow", False): 3,
    ("fail", True): 5,
    ("fail", False): 3,
}


def soak(settings: dict[str, Any], work: Path, progress: Callable[[str, int], None]) -> dict[str, Any]:
    """Run ``settings["activations"]`` calls with kills, and audit what is left. ``progress(text, calls answered)``."""
    rng = random.Random(settings["seed"])
    wanted = settings["activations"]
    moments = sorted(rng.uniform(0.02, 0.95) * wanted for _ in range(settings["server_kills"]))
    users = {"bench": new_key()}
    with Server(work, "--user-memory", "8192", users=users) as server, ExitStack() as held:
        _prepare(server)
        began = time.time()
        workers = [held.enter_context(Worker("soak", _job(server, number, settings))) for number in range(WORKERS)]
        kills, refusals = _kill(server, workers, moments, rng, lambda done: progress("calls and kills", done))
        calls = [call for worker in workers for call in worker.result()["calls"]]
        seconds = time.time() - began
        progress("audit", wanted)
        _quiet(server)
        found = audit(server, calls)
    return {
        **found,
        "seconds": round(seconds, 1),
        "kills": [[round(at - began, 2), what] for at, what in kills],
        "timeline": _timeline(calls, began),
        "refused_starts": refusals,
        "repeated": sum(call["attempts"] - 1 for call in calls),
        "defects": server.defects()[:SHOWN],
    }


def _prepare(server: Server) -> None:
    for name, code in ACTIONS.items():
        server.put_action(name, code)
    components = {"kind": "sequence", "components": ["/_/step"] * CHAIN}
    server.ns("PUT", "actions/chain?overwrite=true", {"exec": components})
    server.ns("PUT", "triggers/event", {})
    for rule, action in (("to-step", "step"), ("to-chain", "chain")):
        server.ns("PUT", f"rules/{rule}", {"trigger": "/_/event", "action": f"/_/{action}", "status": "active"})


def _job(server: Server, number: int, settings: dict[str, Any]) -> dict[str, Any]:
    share = settings["activations"] // WORKERS + (number < settings["activations"] % WORKERS)
    return {
        "port": server.port,
        "authorization": server.authorization("bench"),
        "seed": f"{settings['seed']}/{number}",
        "calls": share,
        "worker": number,
    }


def _kill(
    server: Server, workers: list[Worker], moments: list[float], rng: random.Random, progress: Callable[[int], None]
) -> tuple[list[tuple[float, str]], list[str]]:
    """Kill at random until all workers are done.

    [(when, "server" or the container's name)], and why the server once refused to start again.
    """
    kills, refusals = [], []
    due = time.monotonic() + rng.uniform(*PAUSES_S)
    while any(worker.running for worker in workers):
        workers[0].wait(0.02) if workers[0].running else time.sleep(0.02)
        done = sum(worker.done for worker in workers)
        progress(done)
        if moments and done >= moments[0]:
            moments.pop(0)
            time.sleep(rng.uniform(0, 0.3))
            kills.append((time.time(), "server"))
            server.kill()
            time.sleep(rng.uniform(0, 0.3))
            refusals += _restart(server)
        elif time.monotonic() >= due:
            at, name = time.time(), server.kill_in_a_container(rng)
            if name:
                kills.append((at, name))
            due = time.monotonic() + rng.uniform(*PAUSES_S)
    return kills, refusals


def _restart(server: Server) -> list[str]:
    """Start again, as an operator's supervisor would; why it was refused before it went."""
    refusals = []
    while True:
        try:
            server.start()
            return refusals
        except BenchError as error:
            refusals.append(str(error))
            if len(refusals) == MOST_STARTS:
                raise


def _quiet(server: Server) -> None:
    """Wait until nothing runs any more and no further record appears."""
    deadline, before = time.monotonic() + QUIET_S, -1
    while time.monotonic() < deadline:
        running = server.metric("gauge_loadbalancer_activationsInflight_counter")
        count = server.ns("GET", "activations?count=true")["activations"]
        if not running and count == before:
            return
        before = count
        time.sleep(1.0)
    raise BenchError(f"activations still run {QUIET_S:g} s after the last call of the soak")


def audit(server: Server, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What the server has kept of ``calls``, against what their callers know."""
    records = list(_listed(server))
    times = Counter(record["activationId"] for record in records)
    by_id = {record["activationId"]: record for record in records}
    given = {activation for call in calls for activation in call["ids"]}
    given |= {part for activation in given & by_id.keys() for part in _parts(by_id[activation])}
    missing = sorted(activation for activation in given if activation not in times or not _kept(server, activation))
    wrong = [
        [call["ids"][-1], reason]
        for call in calls
        if call["ids"] and (record := by_id.get(call["ids"][-1])) and (reason := wrongness(call, record))
    ]
    twice = [activation for activation, count in times.items() if count > 1]
    twice += [f"call {call}" for call in _recorded_twice(calls, records)]
    return {
        "activations": len(given),
        "records": len(records),
        "lost": len(missing) + len(wrong),
        "duplicates": len(twice),
        "missing": missing[:SHOWN],
        "wrong": wrong[:SHOWN],
        "twice": twice[:SHOWN],
        "statuses": Counter(record["response"]["status"] for record in records),
        "calls": Counter(f"{call['what']}, {'blocking' if call['blocking'] else 'not blocking'}" for call in calls),
    }


def _listed(server: Server) -> Iterable[dict[str, Any]]:
    skip = 0
    while page := server.ns("GET", f"activations?docs=true&limit=200&skip={skip}"):
        yield from page
        skip += len(page)


def _kept(server: Server, activation: str) -> bool:
    status, record = server.send("GET", f"/api/v1/namespaces/_/activations/{activation}")
    return status == 200 and record["activationId"] == activation


def _parts(record: dict[str, Any]) -> list[str]:
    """Ids of the activations that a sequence or a trigger caused, as its record lists them."""
    kinds = {pair["value"] for pair in record["annotations"] if pair["key"] == "kind"}
    if "sequence" in kinds:
        return [line for line in record["logs"] if len(line) == 32]
    if record["name"] == "event":
        return [found["activationId"] for found in map(json.loads, record["logs"]) if "activationId" in found]
    return []


def wrongness(call: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Why the record cannot be that of the call; None where it can."""
    status, result = record["response"]["status"], record["response"].get("result")
    expected = {
        "fail": (APPLICATION_ERROR, {"error": call["call"]}),
        "event": (SUCCESS, {"call": call["call"], "n": call["n"]}),
        "chain": (SUCCESS, {"call": call["call"], "n": call["n"] + CHAIN}),
    }.get(call["what"], (SUCCESS, {"call": call["call"], "n": call["n"] + 1}))
    if status == SUCCESS and (status, result) != expected:
        return f"success with another's result: {str(result)[:120]}"
    if call["answered"] is not None and call["answered"] != [status, result]:
        return f"the caller was answered {str(call['answered'])[:120]}, the record says {status}"
    if status not in KILLED and (status, result) != expected:
        return f"{status}: {str(result)[:120]}"
    return None


def _recorded_twice(calls: list[dict[str, Any]], records: list[dict[str, Any]]) -> list[str]:
    """Calls that were sent once, and ran more than once."""
    sent_once = {call["call"] for call in calls if call["attempts"] == 1}
    found: dict[str, int] = defaultdict(int)
    for record in records:
        result = record["response"].get("result")
        caused = "cause" in record or record["name"] == "event"
        if not caused and isinstance(result, dict):
            found[str(result.get("call") or result.get("error"))] += 1
    # An event runs its two rules' actions, which no record says to be caused by it.
    events = {call["call"] for call in calls if call["what"] == "event"}
    return [call for call, count in found.items() if call in sent_once and count > (2 if call in events else 1)]


def _timeline(calls: list[dict[str, Any]], began: float) -> list[list[float]]:
    """[second, calls answered in it, calls repeated that were answered in it]."""
    seconds: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for call in calls:
        second = seconds[int(call["at"] - began)]
        second[0] += 1
        second[1] += call["attempts"] > 1
    return [[second, *seconds[second]] for second in range(max(seconds, default=-1) + 1)]


def work(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """In a worker: make ``calls`` calls from some threads, each until it is answered."""
    numbers = iter(range(job["calls"]))
    lock = threading.Lock()
    calls: list[dict[str, Any]] = []

    def client(thread: int) -> None:
        rng = random.Random(f"{job['seed']}/{thread}")
        connection = _Connection(job["port"], job["authorization"])
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return connection.close()
            what, blocking = rng.choices(list(MIX), list(MIX.values()))[0]
            call = {"call": f"{job['worker']}-{number}", "what": what, "blocking": blocking, "n": rng.randrange(1000)}
            call |= connection.call(call)
            with lock:
                calls.append(call)
                if len(calls) % 20 == 0 or len(calls) == job["calls"]:
                    report(len(calls))

    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(client, number) for number in range(THREADS)]:
            done.result()
    return {"calls": calls}


class _Connection:
    """A connection kept open where that goes, and what a careful client does when it breaks."""

    def __init__(self, port: int, authorization: str) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": authorization, "Content-Type": "application/json"}

    def close(self) -> None:
        self._http.close()

    def call(self, call: dict[str, Any]) -> dict[str, Any]:
        """``{"ids", "attempts", "answered": [status, result] or None, "at": seconds since the epoch}``.

        ``ids``: every activation that an answer named, also one of which only the head arrived; the last is that of the
        complete answer.
        """
        kind = "triggers" if call["what"] == "event" else "actions"
        path = f"/api/v1/namespaces/_/{kind}/{call['what']}" + ("?blocking=true" if call["blocking"] else "")
        body = json.dumps({"call": call["call"], "n": call["n"]})
        ids: list[str] = []
        for attempts in range(1, MOST_ATTEMPTS + 1):
            try:
                self._http.request("POST", path, body, self._headers)
                response = self._http.getresponse()
                if named := response.getheader("X-Openwhisk-Activation-Id"):
                    ids.append(named)
                data = response.read()
            except (OSError, http.client.HTTPException):
                self._http.close()
                time.sleep(0.05)
                continue
            try:
                body = json.loads(data)
                named = body["activationId"]
            except (ValueError, TypeError, KeyError):  # it was not accepted
                time.sleep(0.1)
                continue
            if ids[-1:] != [named]:
                ids.append(named)
            record = body.get("response")
            answered = record and [record["status"], record.get("result")]
            return {"ids": ids, "answered": answered, "attempts": attempts, "at": time.time()}
        raise BenchError(f"{path} was not answered with an activation in {MOST_ATTEMPTS} attempts")
