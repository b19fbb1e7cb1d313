"""All state of a server: entities in SQLite, and the history of activations beside them.

Entities are durable (WAL, synchronous=FULL) when ``put`` or ``delete`` returns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from deploy.standalone import jsontext
from deploy.standalone.cache import Cache, Key
from deploy.standalone.database import Database, disk_full, storage_error
from deploy.standalone.errors import StartError, exists, not_found, other_collection
from deploy.standalone.history import Activation, History, Page
from deploy.standalone.recovery import recover
from deploy.standalone.retention import Retention

__all__ = ["Activation", "Entity", "Page", "Store", "Transaction"]

_SELECT_ONE = "SELECT collection, namespace, path, doc, code, revision FROM entities WHERE namespace = ? AND path = ?"


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


class Store:
    """All state of a server, in ``folder``; one process at a time.

    Records of activations are kept for ``activation_days``, for ever when it is 0. StartError, one line for the user,
    when the folder cannot be used.
    """

    def __init__(self, folder: Path, activation_days: float = 0) -> None:
        self._cache = Cache()
        with contextlib.ExitStack() as undo:
            undo.enter_context(_lock(folder))
            self._database = Database(folder / "owl.db")
            undo.callback(self._database.close)
            try:
                recover(self._database, folder / "journal")
                self._history = History(self._database, folder / "journal")
            except (OSError, sqlite3.Error) as error:
                raise _unusable(folder, error) from None
            undo.callback(self._history.close)
            if activation_days > 0:
                undo.callback(Retention(self._database, activation_days).close)
            self._closing = undo.pop_all()

    def close(self) -> None:
        """Write what is pending and release the folder."""
        self._closing.close()

    @property
    def cache_hits(self) -> int:
        """How often an entity was found without reading the database."""
        return self._cache.hits

    # entities

    def find(self, namespace: str, path: str) -> Entity | None:
        """The entity of that name, whatever it is."""
        cached = self._cache.get((namespace, path))
        if cached is not None:
            return cached
        generation = self._cache.generation
        with self._database.reading() as reader:
            row = reader.execute(_SELECT_ONE, (namespace, path)).fetchone()
        if row is None:
            return None
        entity = _entity(row)
        self._cache.put(entity, len(row[3]) + len(row[4] or ""), generation)
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
        with self._database.reading() as reader:
            rows = reader.execute(
                "SELECT collection, namespace, path, doc, NULL, revision FROM entities"
                f" WHERE collection = ? AND namespace = ?{inside} ORDER BY updated DESC, revision DESC",
                arguments,
            ).fetchall()
        return [_entity(row) for row in rows]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Changes that become durable together, or not at all. Reads inside see them; others wait."""
        try:
            with contextlib.ExitStack() as after_commit, self._database.writing() as connection:
                transaction = Transaction(connection)
                yield transaction
                after_commit.enter_context(self._cache.changing(transaction.touched))
        except sqlite3.Error as error:
            raise storage_error(error) from None

    # activations, as History has them

    def accept(self, activation: Activation) -> None:
        self._history.accept(activation)

    def add(self, activation: Activation) -> None:
        self._history.add(activation)

    def activation(self, namespace: str, activation_id: str) -> Activation:
        return self._history.get(namespace, activation_id)

    def activations(self, namespace: str, page: Page) -> list[Activation]:
        return self._history.page(namespace, page)

    def count_activations(self, namespace: str, page: Page) -> int:
        return self._history.count(namespace, page)


class Transaction:
    """What can be done inside :meth:`Store.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.touched: set[Key] = set()

    def find(self, collection: str, namespace: str, path: str) -> Entity | None:
        """The entity of that name, None when there is none, 409 when it is in another collection."""
        row = self._connection.execute(_SELECT_ONE, (namespace, path)).fetchone()
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


def _entity(row: tuple[Any, ...]) -> Entity:
    collection, namespace, path, doc, code, revision = row
    return Entity(collection, namespace, path, json.loads(doc), code, revision)


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


def _unusable(folder: Path, error: OSError | sqlite3.Error) -> StartError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) if isinstance(error, OSError) else "full" in str(error)
    if full:
        return disk_full(folder)
    return StartError(f"The data folder {folder} cannot be used ({error}); name another with --data.")
