"""Entities and activations in SQLite.

Entities are durable (WAL, synchronous=FULL) when ``put`` or ``delete`` returns. Activations are written by a thread of
their own in batches; until then they are read from memory, so that a reader never misses what an answer has shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from deploy.standalone import jsontext, schema
from deploy.standalone.errors import ApiError, StartError, exists, not_found, other_collection

_SELECT_ONE = "SELECT collection, namespace, path, doc, code, revision FROM entities WHERE namespace = ? AND path = ?"
_READERS = 4
_CACHE_ENTRIES = 512
_CACHED_CODE_BYTES = 1 << 20
_BATCH_S = 0.02
_RETRY_S = 1.0
_MAX_PENDING = 20_000
# What SQLite says of a row it will never take, whatever the state of the disk.
_UNFIT = (
    OverflowError,
    UnicodeError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


@dataclass(frozen=True, slots=True)
class Entity:
    """One revision of an action, package, trigger or rule. ``doc`` is its JSON without the code; never change it."""

    collection: str
    namespace: str
    path: str
    doc: dict[str, Any]
    code: str | None = None
    revision: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def package(self) -> str:
        return self.path.rpartition("/")[0]

    def with_doc(self, **changes: Any) -> Entity:
        return replace(self, doc={**self.doc, **changes})


@dataclass(frozen=True, slots=True)
class Activation:
    """A finished activation. ``path`` is what ``?name=`` finds; ``received_ns`` orders records of one millisecond."""

    namespace: str
    path: str
    received_ns: int
    doc: dict[str, Any]

    @property
    def id(self) -> str:
        return self.doc["activationId"]

    @property
    def order(self) -> tuple[int, int]:
        return (self.doc["start"], self.received_ns)


@dataclass(frozen=True, slots=True)
class Page:
    """Which activations a list asks for; times are inclusive, in ms since the epoch."""

    path: str | None = None
    since: int | None = None
    upto: int | None = None
    limit: int | None = None
    skip: int = 0

    def takes(self, activation: Activation) -> bool:
        start = activation.doc["start"]
        return (
            (self.path is None or activation.path == self.path)
            and (self.since is None or start >= self.since)
            and (self.upto is None or start <= self.upto)
        )


class Store:
    """All state of a server, in ``folder``; one process at a time (StartError for the second)."""

    def __init__(self, folder: Path) -> None:
        self._lock_file = _lock(folder)
        try:
            self._writer = _connect(folder / "owl.db")
            schema.migrate(self._writer)
        except sqlite3.Error as error:
            self._lock_file.close()
            raise StartError(
                f"The database in {folder} cannot be opened ({error}); start with another --data."
            ) from None
        except StartError:
            self._lock_file.close()
            raise
        self._write_lock = threading.RLock()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        for _ in range(_READERS):
            self._readers.put(_connect(folder / "owl.db"))
        self._cache: dict[tuple[str, str], Entity] = {}
        self._cache_lock = threading.Lock()
        self._generation = 0
        self._changing: set[tuple[str, str]] = set()
        self._pending: dict[str, Activation] = {}
        self._pending_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._batcher = threading.Thread(target=self._write_batches, name="activations", daemon=True)
        self._batcher.start()

    def close(self) -> None:
        """Write what is pending and release the folder."""
        self._closing = True
        self._wake.set()
        self._batcher.join()
        with self._write_lock:
            self._writer.close()
        for _ in range(_READERS):
            self._readers.get().close()
        self._lock_file.close()

    # entities

    def find(self, namespace: str, path: str) -> Entity | None:
        """The entity of that name, whatever it is."""
        cached = self._cache.get((namespace, path))
        if cached is not None:
            return cached
        generation = self._generation
        with self._reader() as reader:
            row = reader.execute(
                _SELECT_ONE,
                (namespace, path),
            ).fetchone()
        if row is None:
            return None
        entity = _entity(row)
        self._remember(entity, generation)
        return entity

    def get(self, collection: str, namespace: str, path: str) -> Entity:
        """The entity of that name and collection; 404 when there is none, 409 when it is something else."""
        entity = self.find(namespace, path)
        if entity is None:
            raise not_found()
        if entity.collection != collection:
            raise other_collection()
        return entity

    def listing(self, collection: str, namespace: str, package: str | None = None) -> list[Entity]:
        """The entities of a collection without their code, newest first; of one package when it is given."""
        inside = "" if package is None else " AND path GLOB ?"
        arguments = (collection, namespace) if package is None else (collection, namespace, _prefix(package))
        with self._reader() as reader:
            rows = reader.execute(
                "SELECT collection, namespace, path, doc, NULL, revision FROM entities"
                f" WHERE collection = ? AND namespace = ?{inside} ORDER BY updated DESC, revision DESC",
                arguments,
            ).fetchall()
        return [_entity(row) for row in rows]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Changes that become durable together, or not at all. Reads inside see them; others wait."""
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                transaction = Transaction(self._writer)
                yield transaction
                self._uncache(transaction.touched)
                self._writer.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise _storage_error(error) from None
                raise
            finally:
                self._uncache(set())

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _uncache(self, changing: set[tuple[str, str]]) -> None:
        """From now on read ``changing`` from the database only, and forget what is being read of it right now."""
        with self._cache_lock:
            self._generation += 1
            self._changing = changing
            for key in changing:
                self._cache.pop(key, None)

    def _remember(self, entity: Entity, generation: int) -> None:
        if len(entity.code or "") > _CACHED_CODE_BYTES:
            return
        with self._cache_lock:
            # Something was written since the entity was read: it may be an old revision.
            if generation != self._generation or (entity.namespace, entity.path) in self._changing:
                return
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[entity.namespace, entity.path] = entity

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        reader = self._readers.get()
        try:
            yield reader
        except sqlite3.Error as error:
            raise _storage_error(error) from None
        finally:
            self._readers.put(reader)

    # activations

    def add(self, activation: Activation) -> None:
        """Keep a record: readable at once, on disk within the next batch."""
        with self._pending_lock:
            self._pending[activation.id] = activation
            overflow = len(self._pending) - _MAX_PENDING
            for lost in list(self._pending)[:overflow] if overflow > 0 else ():
                del self._pending[lost]
        self._wake.set()
        if overflow > 0:
            _warn("The disk has not taken activation records for too long: the oldest unwritten ones are lost.")

    def activation(self, namespace: str, activation_id: str) -> Activation:
        with self._pending_lock:
            found = self._pending.get(activation_id)
        if found is None:
            with self._reader() as reader:
                row = reader.execute(
                    "SELECT namespace, path, received_ns, doc FROM activations WHERE id = ?", (activation_id,)
                ).fetchone()
            found = _activation(row) if row else None
        if found is None or found.namespace != namespace:
            raise not_found()
        return found

    def activations(self, namespace: str, page: Page) -> list[Activation]:
        """Records of a namespace, newest first."""
        # The memory first: what is written in between is then seen twice, never missed.
        found = {activation.id: activation for activation in self._unwritten(namespace, page)}
        where, arguments = _where(namespace, page)
        limit = -1 if page.limit is None else page.skip + page.limit
        with self._reader() as reader:
            for row in reader.execute(
                f"SELECT namespace, path, received_ns, doc FROM activations WHERE {where}"
                " ORDER BY start DESC, received_ns DESC LIMIT ?",
                (*arguments, limit),
            ):
                activation = _activation(row)
                found[activation.id] = activation
        newest = sorted(found.values(), key=lambda activation: activation.order, reverse=True)
        return newest[page.skip : None if page.limit is None else page.skip + page.limit]

    def count_activations(self, namespace: str, page: Page) -> int:
        pending = [activation.id for activation in self._unwritten(namespace, page)]
        where, arguments = _where(namespace, page)
        with self._reader() as reader:
            # In one view of the database: a batch that is written between two counts would be in neither.
            reader.execute("BEGIN")
            try:
                (written,) = reader.execute(f"SELECT count(*) FROM activations WHERE {where}", arguments).fetchone()
                one = "SELECT count(*) FROM activations WHERE id = ?"
                both = sum(reader.execute(one, (pending_id,)).fetchone()[0] for pending_id in pending)
            finally:
                reader.execute("COMMIT")
        return written + len(pending) - both

    def _unwritten(self, namespace: str, page: Page) -> list[Activation]:
        with self._pending_lock:
            pending = list(self._pending.values())
        return [activation for activation in pending if activation.namespace == namespace and page.takes(activation)]

    def _write_batches(self) -> None:
        failing = False
        while True:
            self._wake.wait()
            if not self._closing:
                time.sleep(_RETRY_S if failing else _BATCH_S)
            self._wake.clear()
            with self._pending_lock:
                batch = list(self._pending.values())
            try:
                self._write(batch)
            except Exception as error:  # whatever it is, without this thread no record would be written any more
                if not failing:
                    _warn(f"Activation records cannot be written ({error}); they are kept in memory until it works.")
                failing = True
                if not self._closing:
                    self._wake.set()
                    continue
            else:
                failing = False
                with self._pending_lock:
                    for activation in batch:
                        self._pending.pop(activation.id, None)
            if self._closing and (failing or not self._pending):
                if self._pending:
                    _warn(f"{len(self._pending)} activation records could not be written and are lost.")
                return

    def _write(self, batch: list[Activation]) -> None:
        if not batch:
            return
        rows = []
        for activation in batch:
            try:
                rows.append((activation, _row(activation)))
            except Exception as error:
                self._drop(activation, error)
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                for activation, row in rows:
                    try:
                        self._writer.execute("INSERT OR REPLACE INTO activations VALUES (?, ?, ?, ?, ?, ?)", row)
                    except _UNFIT as error:
                        self._drop(activation, error)
                self._writer.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _drop(self, activation: Activation, error: Exception) -> None:
        """One bad record must not keep the others from the disk."""
        with self._pending_lock:
            self._pending.pop(activation.id, None)
        # Not the message of the exception: it may quote what the action was given.
        _warn(f"The record of activation {activation.id} cannot be written ({type(error).__name__}) and is lost.")


class Transaction:
    """What can be done inside :meth:`Store.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.touched: set[tuple[str, str]] = set()

    def find(self, collection: str, namespace: str, path: str) -> Entity | None:
        """The entity of that name, None when there is none, 409 when it is in another collection."""
        row = self._connection.execute(
            _SELECT_ONE,
            (namespace, path),
        ).fetchone()
        if row is None:
            return None
        if row[0] != collection:
            raise other_collection()
        return _entity(row)

    def get(self, collection: str, namespace: str, path: str) -> Entity:
        entity = self.find(collection, namespace, path)
        if entity is None:
            raise not_found()
        return entity

    def put(self, entity: Entity, *, touch: bool = True) -> Entity:
        """Write a new revision in place of the old one. ``touch=False`` keeps the time of the last update."""
        updated = int(time.time() * 1000) if touch else entity.doc["updated"]
        doc = {**entity.doc, "updated": updated}
        self.touched.add((entity.namespace, entity.path))
        cursor = self._connection.execute(
            "INSERT OR REPLACE INTO entities (namespace, path, collection, updated, doc, code)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                entity.namespace,
                entity.path,
                entity.collection,
                updated,
                jsontext.dumps(doc),
                entity.code,
            ),
        )
        return replace(entity, doc=doc, revision=cursor.lastrowid or 0)

    def create(self, entity: Entity) -> Entity:
        if self.find(entity.collection, entity.namespace, entity.path):
            raise exists()
        return self.put(entity)

    def delete(self, entity: Entity) -> None:
        self.touched.add((entity.namespace, entity.path))
        self._connection.execute("DELETE FROM entities WHERE revision = ?", (entity.revision,))

    def delete_package(self, namespace: str, package: str) -> None:
        """Delete the actions inside a package."""
        where, arguments = "namespace = ? AND path GLOB ?", (namespace, _prefix(package))
        for row in self._connection.execute(
            f"SELECT namespace, path FROM entities WHERE {where}", arguments
        ).fetchall():
            self.touched.add((row[0], row[1]))
        self._connection.execute(f"DELETE FROM entities WHERE {where}", arguments)

    def size_of(self, namespace: str, package: str) -> int:
        return self._connection.execute(
            "SELECT count(*) FROM entities WHERE namespace = ? AND path GLOB ?", (namespace, _prefix(package))
        ).fetchone()[0]


def _prefix(package: str) -> str:
    # Names hold none of the characters that GLOB gives a meaning.
    return f"{package}/*"


def _where(namespace: str, page: Page) -> tuple[str, tuple[Any, ...]]:
    terms: list[tuple[str, Any]] = [("namespace = ?", namespace)]
    if page.path is not None:
        terms.append(("path = ?", page.path))
    if page.since is not None:
        terms.append(("start >= ?", page.since))
    if page.upto is not None:
        terms.append(("start <= ?", page.upto))
    return " AND ".join(term for term, _ in terms), tuple(value for _, value in terms)


def _entity(row: tuple[Any, ...]) -> Entity:
    collection, namespace, path, doc, code, revision = row
    return Entity(collection, namespace, path, json.loads(doc), code, revision)


def _row(activation: Activation) -> tuple[Any, ...]:
    return activation.id, activation.namespace, activation.path, *activation.order, jsontext.dumps(activation.doc)


def _activation(row: tuple[Any, ...]) -> Activation:
    namespace, path, received_ns, doc = row
    return Activation(namespace, path, received_ns, json.loads(doc))


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _lock(folder: Path) -> BinaryIO:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(folder / "lock", "ab")  # noqa: SIM115 - it is held as long as the server runs
    except OSError as error:
        raise StartError(
            f"The data folder {folder} cannot be written ({os.strerror(error.errno or 0)}); name another with --data."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StartError(
            f"Another server uses the data folder {folder}; stop it, or name another folder with --data."
        ) from None
    return file


def _storage_error(error: sqlite3.Error) -> ApiError:
    if "full" in str(error):
        return ApiError(507, "The server's disk is full: nothing was changed. Free some space and try again.")
    return ApiError(503, f"The server's storage does not answer ({error}): nothing was changed. Try again.")


def _warn(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # whoever read it is gone, which is no reason to stop writing
        print(line, file=sys.stderr, flush=True)
