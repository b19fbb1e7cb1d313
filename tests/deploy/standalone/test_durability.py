"""What outlives a server: killed at any moment, on a full disk, after an upgrade. Real processes on real folders."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from deploy.standalone import schema
from deploy.standalone.errors import ApiError, StartError
from deploy.standalone.history import Activation, Page
from deploy.standalone.server import Server
from deploy.standalone.settings import Settings
from deploy.standalone.store import Entity, Store

ROOT = Path(__file__).parents[3]
KILLED = "The server was stopped before the action finished (it was killed or the machine went down)."
DAY_MS = 86_400_000
LIMITS = {"timeout": 60_000, "memory": 256, "logs": 10, "concurrency": 1}
SERVE = [sys.executable, "-c", "from deploy.cli import main; main()", "serve", "--port", "0", "--stem-cells", "1"]
SERVE += ["--invocations-per-minute", "1000000", "--fires-per-minute", "1000000", "--concurrent-invocations", "5000"]

_NO_FLOOD_S = 0.03  # between calls that do not wait for what they start


class Running:
    """`owl serve` on a folder, as a process that can be killed."""

    def __init__(self, data: Path, log: Path) -> None:
        self.data = data
        with log.open("ab") as stderr:
            began = stderr.tell()
            self.process = subprocess.Popen(
                [*SERVE, "--data", str(data)],
                stderr=stderr,
                cwd=ROOT,
            )
        until = time.monotonic() + 30
        while not (found := re.search(rb"http://localhost:\d+", log.read_bytes()[began:])):
            assert self.process.poll() is None and time.monotonic() < until, log.read_bytes()[began:].decode()
            time.sleep(0.01)
        self.url = found.group().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """``run(data)``: a server; stopped in the end, after a start that clears away what a killed one left."""
    started: list[Running] = []

    def start(data: Path) -> Running:
        started.append(Running(data, tmp_path / "stderr"))
        return started[-1]

    yield start
    last = started[-1]
    if last.process.poll() == -signal.SIGKILL:
        last = start(last.data)
    last.stop()


def crashed(work: Callable[[], object]) -> None:
    """Do ``work`` in a process that is killed right after it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def key(number: int) -> str:
    return f"{number:032x}"


def accepted(number: int, *, cause: int | None = None, composed: bool = False, start: int | None = None) -> Activation:
    """What is known of an activation before it starts."""
    annotations = [{"key": "limits", "value": LIMITS}]
    if composed:
        annotations.append({"key": "topmost", "value": cause is None})
    begun = start or int(time.time() * 1000)
    doc = {
        "activationId": key(number),
        "annotations": annotations,
        "start": begun,
        "end": begun,
        "duration": 0,
        "logs": [],
        "response": {"result": {"error": KILLED}, "status": "whisk internal error", "success": False},
    }
    return Activation("guest", "a", number, doc if cause is None else {**doc, "cause": key(cause)})


def finished(number: int, *, cause: int | None = None, result: Any = None, start: int | None = None) -> Activation:
    doc = accepted(number, cause=cause, start=start).doc
    response = {"result": result, "status": "success", "success": True}
    return Activation("guest", "a", number, {**doc, "response": response})


@contextlib.contextmanager
def opened(folder: Path, days: float = 0) -> Iterator[Store]:
    store = Store(folder, days)
    try:
        yield store
    finally:
        store.close()


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(folder / "owl.db")) as database:
        return {name: json.loads(doc) for name, doc in database.execute("SELECT id, doc FROM activations")}


# what a killed server leaves


def test_finished_records_are_kept_as_they_were_and_the_others_fail_with_a_reason(tmp_path: Path) -> None:
    odd = {"text": "\ud800 \n \0 \u2028", "number": 1e300}

    def work() -> None:
        store = Store(tmp_path)
        for number in range(4):
            store.accept(accepted(number))
        store.add(finished(0, result=odd))
        store.add(finished(1, result=[1]))

    before = int(time.time() * 1000)
    crashed(work)
    with opened(tmp_path) as store:
        assert store.activation("guest", key(0)).doc["response"]["result"] == odd
        assert store.activation("guest", key(1)).doc["response"]["success"]
        for number in (2, 3):
            record = store.activation("guest", key(number)).doc
            assert record["response"] == accepted(number).doc["response"]
            assert before <= record["start"] <= record["end"] == record["start"] + record["duration"]
        assert {found.id for found in store.activations("guest", Page())} == {key(number) for number in range(4)}
        assert store.count_activations("guest", Page()) == 4
    assert list((tmp_path / "journal").iterdir()) == []


def test_what_ran_is_not_said_to_have_run_for_the_days_the_server_was_down(tmp_path: Path) -> None:
    long_ago = int(time.time() * 1000) - 3 * DAY_MS
    crashed(lambda: Store(tmp_path).accept(accepted(1, start=long_ago)))
    for file in (tmp_path / "journal").iterdir():
        os.utime(file, ns=((long_ago + 5_000) * 1_000_000,) * 2)
    with opened(tmp_path) as store:
        assert store.activation("guest", key(1)).doc["duration"] == 5_000 + LIMITS["timeout"]


def test_a_sequence_lists_the_parts_that_had_started(tmp_path: Path) -> None:
    def work() -> None:
        store = Store(tmp_path)
        store.accept(accepted(1, composed=True))
        store.accept(accepted(2, cause=1))
        store.add(finished(2, cause=1))
        store.accept(accepted(3, cause=1, composed=True))
        store.accept(accepted(4, cause=3))

    crashed(work)
    with opened(tmp_path) as store:
        assert store.activation("guest", key(1)).doc["logs"] == [key(2), key(3)]
        assert store.activation("guest", key(3)).doc["logs"] == [key(4)]


def test_a_crash_while_recovering_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        store = Store(tmp_path)
        store.accept(accepted(1))
        store.accept(accepted(2))
        store.add(finished(2))

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(place: str) -> Callable[[], None]:
        def start() -> None:
            monkeypatch.setattr(place, die)
            Store(tmp_path)

        return start

    crashed(work)
    crashed(dying("deploy.standalone.recovery.insert"))  # before anything is in the database
    crashed(dying("deploy.standalone.journal.Found.clear"))  # when all of it is, and the journal still there
    first = rows(tmp_path)
    assert first.keys() == {key(1), key(2)}
    crashed(dying("deploy.standalone.store.History"))  # before the server is up
    with opened(tmp_path):
        assert rows(tmp_path) == first


def test_several_crashes_in_a_row(tmp_path: Path) -> None:
    for number in range(5):
        crashed(lambda number=number: Store(tmp_path).accept(accepted(number)))
    with opened(tmp_path) as store:
        assert store.count_activations("guest", Page()) == 5


def test_a_torn_journal_does_not_keep_the_server_from_starting(tmp_path: Path) -> None:
    crashed(lambda: [Store(tmp_path).accept(accepted(1))])
    (file,) = [file for file in (tmp_path / "journal").iterdir() if file.read_bytes().strip(b"\0")]
    data = file.read_bytes().rstrip(b"\0")
    file.write_bytes(data + data[: len(data) // 2])
    (tmp_path / "journal" / "00000009.log").touch()
    (tmp_path / "journal" / "00000010.log").write_bytes(random.Random(0).randbytes(100_000))
    with opened(tmp_path) as store:
        assert [found.id for found in store.activations("guest", Page())] == [key(1)]


def test_what_a_drain_abandons_is_recorded(tmp_path: Path, serving: Any, client: Any) -> None:
    with serving(data=tmp_path, drain_s=0.1) as server:
        guest = client(server.url)
        guest.put_action("nap", "import time\n\ndef main(args):\n    time.sleep(20)\n")
        sequence = {"exec": {"kind": "sequence", "components": ["/_/nap", "/_/nap"]}}
        assert guest.ns("PUT", "actions/naps", sequence).status_code == 200
        given = {name: guest.ns("POST", f"actions/{name}", {}).json()["activationId"] for name in ("nap", "naps")}
    kept = rows(tmp_path)
    assert list((tmp_path / "journal").iterdir()) == []
    for name in given.values():
        assert kept[name]["response"]["result"] == {"error": "The server stopped before the action finished."}
    (part,) = kept[given["naps"]]["logs"]
    assert kept[part]["cause"] == given["naps"]
    assert len(kept) == 3


# upgrades and what is not ours

FIRST_VERSION = schema.MIGRATIONS[0]


def test_a_database_of_the_first_version_is_brought_up_with_all_in_it(tmp_path: Path) -> None:
    doc = {"name": "a", "updated": 7, "namespace": "guest"}
    with contextlib.closing(sqlite3.connect(tmp_path / "owl.db")) as old:
        old.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {FIRST_VERSION} PRAGMA user_version = 1; COMMIT;")
        old.execute(
            "INSERT INTO entities (namespace, path, collection, updated, doc, code) VALUES (?, ?, ?, ?, ?, ?)",
            ("guest", "a", "actions", 7, json.dumps(doc), "code"),
        )
        old.execute(
            "INSERT INTO activations VALUES (?, ?, ?, ?, ?, ?)",
            (key(1), "guest", "a", 5, 6, json.dumps(finished(1, start=5).doc)),
        )
        old.commit()
    with opened(tmp_path) as store:
        assert store.get("actions", "guest", "a") == Entity("actions", "guest", "a", doc, "code", 1)
        assert store.activation("guest", key(1)).doc["start"] == 5
    with contextlib.closing(sqlite3.connect(tmp_path / "owl.db")) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert new.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    with opened(tmp_path) as store:
        assert store.count_activations("guest", Page()) == 1


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE notes (text)",
        "CREATE TABLE entities (x); CREATE TABLE activations (x); PRAGMA application_id = 7; PRAGMA user_version = 1",
        "CREATE TABLE entities (x); PRAGMA user_version = 1",
        "PRAGMA user_version = 7",
    ],
    ids=("tables", "another's id", "half the tables", "a version"),
)
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "owl.db")) as foreign:
        foreign.executescript(script)
    before = (tmp_path / "owl.db").read_bytes()
    with pytest.raises(StartError, match=r"owl\.db is the database of another program"):
        Server(Settings(port=0, data=tmp_path)).start()
    assert (tmp_path / "owl.db").read_bytes() == before


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "owl.db")) as database:
        database.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(StartError, match="newer version .* upgrade"):
        Server(Settings(port=0, data=tmp_path)).start()


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "owl.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match="cannot be opened .*--data"):
        Server(Settings(port=0, data=tmp_path)).start()


# retention


def test_old_activations_go_and_the_others_stay(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    with opened(tmp_path) as store:
        for number in range(700):
            record = finished(number, start=now - 3 * DAY_MS + number)
            store.add(Activation(("guest", "alice")[number % 2], "a", number, record.doc))
        for number in range(1000, 1003):
            store.add(finished(number, start=now - DAY_MS))
    with opened(tmp_path, days=2) as store:
        until = time.monotonic() + 10
        while len(rows(tmp_path)) > 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert rows(tmp_path).keys() == {key(number) for number in range(1000, 1003)}
        assert store.count_activations("alice", Page()) == 0
    with opened(tmp_path, days=0):
        time.sleep(0.1)
    assert len(rows(tmp_path)) == 3


# full and read-only disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return filler


@pytest.mark.root
def test_no_server_starts_on_a_full_disk(disk: Path) -> None:
    for folder in ("new", "used"):
        if folder == "used":
            (disk / "filler").unlink()
            with opened(disk / folder) as store, store.transaction() as transaction:
                transaction.put(Entity("actions", "guest", "a", {"name": "a"}, "code"))
        fill(disk)
        with pytest.raises(StartError, match="full; free some space|No space left"):
            Server(Settings(port=0, data=disk / folder)).start()
    (disk / "filler").unlink()
    with opened(disk / "used") as store:
        assert store.get("actions", "guest", "a").code == "code"


@pytest.mark.root
def test_a_read_only_folder_and_a_read_only_database_are_refused(disk: Path) -> None:
    with opened(disk / "data"):
        pass
    database = disk / "data" / "owl.db"
    subprocess.run(["mount", "--bind", database, database], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", database], check=True)
        with pytest.raises(StartError, match=r"owl\.db cannot be written; make it writable"):
            Server(Settings(port=0, data=disk / "data")).start()
    finally:
        subprocess.run(["umount", "--lazy", database], check=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StartError, match="cannot be written .Read-only file system.; name another with --data"):
        Server(Settings(port=0, data=disk / "data")).start()


@pytest.mark.root
def test_a_full_disk_refuses_what_is_new_and_loses_nothing(disk: Path, tmp_path: Path, client: Any, run: Any) -> None:
    server = run(disk / "data")
    guest = client(server.url)
    guest.put_action("echo")
    assert guest.invoke("echo").status_code == 200  # its container is there
    filler = fill(disk)
    reply = guest.ns("PUT", "actions/big", {"exec": {"kind": "python:3.11", "code": "#" * 500_000}})
    assert reply.status_code == 507, reply.text
    assert "full" in reply.json()["error"]
    assert guest.ns("GET", "actions/big").status_code == 404
    answered, refused = [], 0
    for number in range(500):
        reply = guest.invoke("echo", {"n": number, "text": "x" * 40_000})
        if reply.status_code == 507:
            assert reply.json()["error"].startswith("The server's disk is full: nothing was started.")
            assert "X-Openwhisk-Activation-Id" not in reply.headers
            refused += 1
            if refused == 3:
                break
        else:
            assert reply.status_code == 200, reply.text
            answered.append(reply.json()["activationId"])
    assert answered
    assert refused == 3
    for name in (answered[0], answered[-1]):
        assert guest.ns("GET", f"activations/{name}").status_code == 200
    server.kill()
    filler.unlink()
    server = run(disk / "data")
    guest = client(server.url)
    kept = rows(disk / "data")
    assert kept.keys() >= set(answered)
    assert all(kept[name]["response"]["success"] for name in answered)
    assert guest.invoke("echo").status_code == 200


@pytest.mark.root
def test_a_body_for_which_the_disk_has_no_room_is_told_so(
    disk: Path, tmp_path: Path, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 700_000)
    with serving(data=tmp_path / "data", stem_cells=0) as server:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        head = b"PUT /api/v1/namespaces/_/actions/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=10) as wire:
                wire.sendall(head + b"x" * 650_000)
                with contextlib.suppress(ConnectionError):
                    for _ in range(100):  # little by little: then some of it waits to be written when the disk is full
                        wire.sendall(b"x" * 1000)
                        time.sleep(0.003)
                assert wire.recv(100).startswith(b"HTTP/1.1 507 ")
        assert requests.get(f"{server.url}/ping", timeout=10).text == "pong"


def test_a_sequence_that_the_disk_stops_has_a_record_that_says_so(
    tmp_path: Path, serving: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(data=tmp_path) as server:
        guest, accept = client(server.url), server.platform.store.accept
        guest.put_action("echo")
        sequence = {"exec": {"kind": "sequence", "components": ["/_/echo", "/_/echo"]}}
        assert guest.ns("PUT", "actions/twice", sequence).status_code == 200
        left = iter(range(2))

        def full_after_two(activation: Activation) -> None:
            if next(left, None) is None:
                raise ApiError(507, "The server's disk is full: nothing was started.")
            accept(activation)

        monkeypatch.setattr(server.platform.store, "accept", full_after_two)
        reply = guest.invoke("twice")
        assert reply.status_code == 500
        answered = reply.json()
        assert answered["response"]["result"] == {"error": "The server's disk is full: nothing was started."}
        assert len(answered["logs"]) == 1
        assert guest.ns("GET", f"activations/{answered['activationId']}").json() == answered
        assert guest.invoke("echo").status_code == 507


def test_nothing_starts_when_the_disk_has_taken_no_records_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.standalone.history._MAX_PENDING", 2)
    with opened(tmp_path) as store:
        for number in range(2):
            store.accept(accepted(number))
            store.add(finished(number))
        with pytest.raises(ApiError, match="not taken activation records for too long: nothing was started"):
            store.accept(accepted(2))
    assert rows(tmp_path).keys() == {key(0), key(1)}


# a server killed at any moment


class Load:
    """Clients in threads, and what the server has answered them."""

    def __init__(self, client: Callable[..., Any]) -> None:
        self._client = client
        self.given: set[str] = set()
        self.puts: dict[str, int] = {}
        self.tried: dict[str, int] = {}
        self.mistakes: list[str] = []
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, url: str) -> None:
        self._ended.clear()
        kinds = (*[self._blocking] * 2, self._later, self._sequence, self._slow, self._fire, *[self._put] * 2)
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind, f"{kind.__name__}{number}", self._client(url)))
            for number, kind in enumerate(kinds)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _repeat(self, kind: Callable[..., None], name: str, guest: Any) -> None:
        with contextlib.suppress(requests.RequestException):  # the server is killed in the middle of it
            while not self._ended.is_set():
                kind(guest, name)

    def _keep(self, reply: requests.Response, *allowed: int) -> None:
        if reply.status_code not in allowed:
            self.mistakes.append(f"{reply.status_code} {reply.text[:200]}")
        else:
            self.given.add(reply.headers["X-Openwhisk-Activation-Id"])
            self.given.add(reply.json()["activationId"])

    def _blocking(self, guest: Any, _: str) -> None:
        self._keep(guest.invoke("echo", {"text": "x" * 300}), 200)

    def _later(self, guest: Any, _: str) -> None:
        self._keep(guest.ns("POST", "actions/echo", {}), 202)
        self._ended.wait(_NO_FLOOD_S)

    def _sequence(self, guest: Any, _: str) -> None:
        reply = guest.invoke("twice")
        self._keep(reply, 200)
        self.given.update(reply.json()["logs"])

    def _slow(self, guest: Any, _: str) -> None:
        self._keep(guest.invoke("nap", query="&timeout=20"), 202)
        self._ended.wait(_NO_FLOOD_S)

    def _fire(self, guest: Any, _: str) -> None:
        self._keep(guest.ns("POST", "triggers/t", {}), 202)
        self._ended.wait(_NO_FLOOD_S)

    def _put(self, guest: Any, name: str) -> None:
        number = self.tried[name] = self.tried.get(name, 0) + 1
        body = {"exec": {"kind": "python:3.11", "code": f"# {number}\n" + "#" * 20_000}, "annotations": pairs(number)}
        reply = guest.ns("PUT", f"actions/{name}?overwrite=true", body)
        if reply.status_code == 200:
            self.puts[name] = number
        else:
            self.mistakes.append(f"{reply.status_code} {reply.text[:200]}")


def pairs(number: int) -> list[dict[str, int | str]]:
    return [{"key": "n", "value": number}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment_it_has_one_record_of_each_id_and_all_entities(
    tmp_path: Path, client: Any, run: Any, seed: int
) -> None:
    moments = random.Random(seed)
    data = tmp_path / "data"
    server = run(data)
    guest = client(server.url)
    guest.put_action("echo")
    guest.put_action("nap", "import time\n\ndef main(args):\n    time.sleep(0.3)\n    return {}\n")
    sequence = {"exec": {"kind": "sequence", "components": ["/_/echo", "/_/echo"]}}
    assert guest.ns("PUT", "actions/twice", sequence).status_code == 200
    assert guest.ns("PUT", "triggers/t", {}).status_code == 200
    assert guest.ns("PUT", "rules/r", {"trigger": "/_/t", "action": "/_/echo"}).status_code == 200
    load = Load(client)
    for _ in range(3):
        load.begin(server.url)
        time.sleep(moments.uniform(0.3, 1.5))
        server.kill()
        load.end()
        server = run(data)
        guest = client(server.url)
        for name, number in load.puts.items():
            found = guest.ns("GET", f"actions/{name}").json()
            # What was answered, or what was being written when the server was killed: the whole of one of them.
            (written,) = {pair["value"] for pair in found["annotations"] if pair["key"] == "n"}
            assert number <= written <= load.tried[name]
            assert found["exec"]["code"] == f"# {written}\n" + "#" * 20_000
        for name in moments.sample(sorted(load.given), min(20, len(load.given))):
            record = guest.ns("GET", f"activations/{name}")
            assert record.status_code == 200, name
    assert load.mistakes == []
    assert len(load.given) > 20  # it did run
    kept = rows(data)
    assert kept.keys() >= load.given
    failed = [record for record in kept.values() if not record["response"]["success"]]
    assert all(record["response"]["result"] == {"error": KILLED} for record in failed)
    assert failed
    for record in kept.values():
        if record["name"] == "twice":
            assert kept.keys() >= set(record["logs"])
        elif record["name"] == "t":
            assert kept.keys() >= {json.loads(line)["activationId"] for line in record["logs"]}
        else:
            assert record["end"] == record["start"] + record["duration"]
    server.stop()
    assert list((data / "journal").iterdir()) == []
    assert rows(data).keys() >= kept.keys()
