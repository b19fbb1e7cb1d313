"""What the storage promises: durable, one server a folder, readable before it is written."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.standalone import schema
from deploy.standalone.database import Database
from deploy.standalone.errors import ApiError, StartError
from deploy.standalone.store import Activation, Entity, Page, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def entity(path: str = "a", **doc: object) -> Entity:
    return Entity("actions", "guest", path, {"name": path, **doc}, "code")


def activation(number: int, namespace: str = "guest", path: str = "a") -> Activation:
    doc = {"activationId": f"{number:032x}", "start": number, "response": {}}
    return Activation(namespace, path, number, doc)


def put(store: Store, item: Entity) -> Entity:
    with store.transaction() as transaction:
        return transaction.put(item)


def in_database(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "owl.db")) as other:
        return other.execute("SELECT count(*) FROM activations").fetchone()[0]


def written(folder: Path, wanted: int) -> int:
    """How many records are in the database, after a wait for ``wanted``."""
    until = time.monotonic() + 10
    while in_database(folder) < wanted and time.monotonic() < until:
        time.sleep(0.01)
    return in_database(folder)


def test_entities_are_on_disk_when_put_returns(store: Store, tmp_path: Path) -> None:
    put(store, entity())
    # As after kill -9: another process reads what is in the files, nothing was closed.
    with sqlite3.connect(tmp_path / "owl.db") as other:
        assert other.execute("SELECT path, code FROM entities").fetchall() == [("a", "code")]


def test_nobody_else_can_read_what_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "open to all"
    folder.mkdir()
    folder.chmod(0o755)
    opened = Store(folder)
    put(opened, entity())
    files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]
    assert {file.name for file in files} >= {"owl.db", "owl.db-wal"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    opened.close()


def test_each_put_is_another_revision(store: Store) -> None:
    revisions = [put(store, entity(n=n)).revision for n in range(3)]
    assert revisions == sorted(set(revisions))
    with store.transaction() as transaction:
        transaction.delete(transaction.get("actions", "guest", "a"))
    assert put(store, entity()).revision > revisions[-1]


def test_a_failed_transaction_changes_nothing(store: Store) -> None:
    put(store, entity(n=1))
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.put(entity(n=2))
        transaction.put(entity("b"))
        raise ZeroDivisionError
    assert store.get("actions", "guest", "a").doc["n"] == 1
    assert store.find("guest", "b") is None


def test_readers_never_see_an_old_revision_after_a_put(store: Store) -> None:
    stop, stale = threading.Event(), []

    def read() -> None:
        last = 0
        while not stop.is_set():
            found = store.find("guest", "a")
            if found:
                if found.doc["n"] < last:
                    stale.append(found.doc["n"])
                last = found.doc["n"]

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(100):
        put(store, entity(n=number))
        assert store.get("actions", "guest", "a").doc["n"] == number
    stop.set()
    for reader in readers:
        reader.join()
    assert stale == []


def test_changes_that_overlap_leave_nothing_old_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, entity("other"))
    put(store, entity("late"))
    writing = Database.writing
    first_committed, second_is_about_to_commit = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def held_up(database: Database) -> Iterator[sqlite3.Connection]:
        second = threading.current_thread() is threading.main_thread()
        with writing(database) as connection:
            yield connection
            if second:
                second_is_about_to_commit.set()
                first.join()
                store.find("guest", "late")
        if not second:
            first_committed.set()
            second_is_about_to_commit.wait(10)

    monkeypatch.setattr(Database, "writing", held_up)
    first = threading.Thread(target=put, args=(store, entity("other")))
    first.start()
    first_committed.wait(10)
    new = put(store, entity("late"))
    assert store.get("actions", "guest", "late").revision == new.revision


def test_activations_are_read_before_and_after_they_are_written(store: Store, tmp_path: Path) -> None:
    for number in range(10):
        store.add(activation(number))
    wanted = [activation(number).id for number in reversed(range(10))]
    until = time.monotonic() + 10
    while in_database(tmp_path) < 10 and time.monotonic() < until:
        assert [found.id for found in store.activations("guest", Page())] == wanted
        assert store.count_activations("guest", Page()) == 10
        assert store.activation("guest", wanted[3]).id == wanted[3]
    assert in_database(tmp_path) == 10


def test_pages_of_activations(store: Store) -> None:
    for number in range(20):
        store.add(activation(number, path="even" if number % 2 == 0 else "odd"))
    store.add(activation(100, namespace="alice"))
    page = Page(path="odd", since=5, upto=15, limit=2, skip=1)
    assert [found.doc["start"] for found in store.activations("guest", page)] == [13, 11]
    assert store.count_activations("guest", page) == 6
    with pytest.raises(ApiError) as caught:
        store.activation("guest", activation(100).id)
    assert caught.value.status == 404


def test_a_page_far_back_does_not_read_the_records_before_it(store: Store, tmp_path: Path) -> None:
    for number in range(200):
        small = activation(number)
        store.add(replace(small, doc=small.doc | {"response": "x" * 100_000}))
    assert written(tmp_path, 200) == 200
    for number in range(200, 210):
        store.add(activation(number))
    tracemalloc.start()
    try:
        found = store.activations("guest", Page(limit=3, skip=205))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.doc["start"] for each in found] == [4, 3, 2]
    assert peak < 5_000_000


def test_close_writes_what_is_pending(tmp_path: Path) -> None:
    first = Store(tmp_path)
    for number in range(100):
        first.add(activation(number))
    first.close()
    second = Store(tmp_path)
    assert second.count_activations("guest", Page()) == 100
    second.close()


def test_second_server_on_a_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="Another server uses the data folder"):
        Store(tmp_path)


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "owl.db") as database:
        database.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(StartError, match="newer version"):
        Store(tmp_path)
    with sqlite3.connect(tmp_path / "owl.db") as database:
        database.execute(f"PRAGMA user_version = {schema.VERSION}")
    Store(tmp_path).close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "owl.db").write_bytes(b"no database" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        Store(tmp_path)


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be written"):
        Store(tmp_path / "file" / "data")


def test_full_disk_refuses_changes_and_keeps_the_rest(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, entity(n=1))
    (pages,) = store._database.writer.execute("PRAGMA page_count").fetchone()
    store._database.writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ApiError) as caught:
        put(store, Entity("actions", "guest", "big", {"name": "big"}, "x" * 1_000_000))
    assert caught.value.status == 507
    assert "full" in caught.value.message
    assert store.get("actions", "guest", "a").doc["n"] == 1
    for number in range(200):
        store.add(activation(number))
    time.sleep(0.1)
    assert store.count_activations("guest", Page()) == 200
    store._database.writer.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    assert put(store, entity(n=2)).doc["n"] == 2
    assert written(tmp_path, 200) == 200
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    "bad", [{"response": object()}, {"start": 1 << 70}, {"start": None}], ids=("no JSON", "too large", "missing")
)
def test_what_is_no_record_is_refused(store: Store, bad: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        store.add(replace(activation(1), doc=activation(1).doc | bad))
    assert store.activations("guest", Page()) == []


def test_a_bad_row_keeps_no_other_from_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Store(tmp_path)
    first.add(activation(1))
    first.add(activation(2, path="\ud800"))
    first.add(activation(3))
    first.close()
    second = Store(tmp_path)
    assert [found.doc["start"] for found in second.activations("guest", Page())] == [3, 1]
    second.close()
    (warned,) = caplog.messages
    assert f"activation {activation(2).id} cannot be written" in warned


def test_the_writer_outlives_what_nobody_foresaw(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("deploy.standalone.history._RETRY_S", 0.01)
    monkeypatch.setattr("deploy.standalone.history.insert", defect)
    store.add(activation(1))
    time.sleep(0.2)
    assert store.activation("guest", activation(1).id).doc["start"] == 1
    monkeypatch.undo()
    assert written(tmp_path, 1) == 1
    assert caplog.text.count("cannot be written") == 1


def test_records_that_a_full_disk_never_took_are_written_by_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    (pages,) = store._database.writer.execute("PRAGMA page_count").fetchone()
    store._database.writer.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(200):
        store.add(activation(number))
    store.close()
    assert "200 activation records could not be written; the next start tries again" in caplog.text
    store = Store(tmp_path)
    assert written(tmp_path, 200) == 200
    store.close()
