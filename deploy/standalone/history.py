"""Activations: noted before they start, readable when they end, written to the database in batches.

An accepted or finished activation is in the journal, and so outlives a killed server; what the journal holds at the
next start goes to the database first (:mod:`deploy.standalone.recovery`). Until the batch with a record is on disk it
is read from memory, so that a reader never misses what an answer has shown.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.standalone import jsontext
from deploy.standalone.database import Database
from deploy.standalone.errors import ApiError, not_found
from deploy.standalone.journal import Journal

log = logging.getLogger(__name__)

_BATCH_S = 0.1
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

Row = tuple[str, str, str, int, int, str]  # as the table has it: id, namespace, path, start, received_ns, doc


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation and its record. ``path`` is what ``?name=`` finds; ``received_ns`` orders those of one ms."""

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

    def row(self) -> Row:
        """TypeError or ValueError for what is no record."""
        start = self.doc["start"]
        if not isinstance(start, int) or start.bit_length() > 63:
            raise ValueError(f"The start of activation {self.id} is no time in milliseconds.")
        return self.id, self.namespace, self.path, *self.order, jsontext.dumps(self.doc)


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


class History:
    """The activations of a server, in ``database``; ``folder`` is the journal's, which must have been recovered."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._journal = Journal(folder)
        self._pending: dict[str, tuple[Activation, Row]] = {}
        self._pending_lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._batcher = threading.Thread(target=self._write_batches, name="activations", daemon=True)
        self._batcher.start()

    def close(self) -> None:
        """Write what is pending; what the disk does not take stays in the journal for the next start."""
        self._closing = True
        self._wake.set()
        self._batcher.join()
        self._journal.close()

    def accept(self, activation: Activation) -> None:
        """Note that it is about to start. Its ``doc`` is the record it gets if the server dies before it ends.

        507 when there is no room for that, or the disk has not taken records for long: then nothing may be started.
        """
        if len(self._pending) >= _MAX_PENDING:
            raise _refused("The server's disk has not taken activation records for too long")
        row = activation.row()
        try:
            self._journal.accept(row[0], to_text(row))
        except OSError as error:
            if error.errno == errno.ESHUTDOWN:
                raise ApiError(503, "The server is stopping.") from None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _refused("The server's disk is full") from None
            raise _refused(f"The server's disk takes no records ({os.strerror(error.errno or 0)})") from None

    def add(self, activation: Activation) -> None:
        """Keep the record of a finished activation: readable and safe from a crash at once, in the database soon."""
        row = activation.row()
        self._journal.finish(row[0], to_text(row))
        with self._pending_lock:
            self._pending[row[0]] = activation, row
        self._wake.set()

    def get(self, namespace: str, activation_id: str) -> Activation:
        with self._pending_lock:
            pending = self._pending.get(activation_id)
        found = pending[0] if pending is not None else None
        if found is None:
            with self._database.reading() as reader:
                found = _find(reader, activation_id)
        if found is None or found.namespace != namespace:
            raise not_found()
        return found

    def page(self, namespace: str, page: Page) -> list[Activation]:
        """Records of a namespace, newest first."""
        # The memory first: what is written in between is then seen twice, never missed.
        pending = {activation.id: activation for activation in self._unwritten(namespace, page)}
        where, arguments = _where(namespace, page)
        last = None if page.limit is None else page.skip + page.limit
        with self._database.reading() as reader:
            written = reader.execute(
                f"SELECT start, received_ns, id FROM activations WHERE {where}"
                " ORDER BY start DESC, received_ns DESC LIMIT ?",
                (*arguments, -1 if last is None else last),
            ).fetchall()
            order = {activation_id: (start, received_ns) for start, received_ns, activation_id in written}
            order |= {activation.id: activation.order for activation in pending.values()}
            shown = sorted(order, key=order.__getitem__, reverse=True)[page.skip : last]
            # Only now the records, which may be large.
            found = (pending.get(activation_id) or _find(reader, activation_id) for activation_id in shown)
            return [activation for activation in found if activation is not None]

    def count(self, namespace: str, page: Page) -> int:
        pending = [activation.id for activation in self._unwritten(namespace, page)]
        where, arguments = _where(namespace, page)
        with self._database.reading() as reader:
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
            pending = [activation for activation, _ in self._pending.values()]
        return [activation for activation in pending if activation.namespace == namespace and page.takes(activation)]

    def _write_batches(self) -> None:
        failing = False
        while True:
            self._wake.wait()
            if not self._closing:
                time.sleep(_RETRY_S if failing else _BATCH_S)
            self._wake.clear()
            with self._pending_lock:
                batch = [row for _, row in self._pending.values()]
            try:
                self._write(batch)
            except Exception as error:  # whatever it is, without this thread no record would be written any more
                if not failing:
                    log.warning("Activation records cannot be written (%s); they are kept in memory meanwhile", error)
                failing = True
                if not self._closing:
                    self._wake.set()
                    continue
            else:
                failing = False
                with self._pending_lock:
                    for row in batch:
                        self._pending.pop(row[0], None)
            if self._closing and (failing or not self._pending):
                if self._pending:
                    log.warning(
                        "%d activation records could not be written; the next start tries again", len(self._pending)
                    )
                return

    def _write(self, batch: list[Row]) -> None:
        if batch:
            with self._database.writing() as connection:
                insert(connection, batch)
            self._journal.settle([row[0] for row in batch])


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write records that are not there yet, within the caller's transaction."""
    for row in rows:
        try:
            connection.execute("INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?, ?, ?)", row)
        except _UNFIT as error:
            # One bad record must not keep the others from the disk. The exception may quote what the action was given.
            log.warning("The record of activation %s cannot be written (%s) and is lost", row[0], type(error).__name__)


def to_text(row: Row) -> str:
    """A row as one line for the journal; the record in it stays as it is."""
    return f"{jsontext.dumps(row[:5])}\t{row[5]}"


def from_text(text: str) -> Row:
    head, _, doc = text.partition("\t")
    return (*json.loads(head), doc)


def _refused(reason: str) -> ApiError:
    return ApiError(507, f"{reason}: nothing was started. Free some space and try again.")


def _where(namespace: str, page: Page) -> tuple[str, tuple[Any, ...]]:
    terms: list[tuple[str, Any]] = [("namespace = ?", namespace)]
    if page.path is not None:
        terms.append(("path = ?", page.path))
    if page.since is not None:
        terms.append(("start >= ?", page.since))
    if page.upto is not None:
        terms.append(("start <= ?", page.upto))
    return " AND ".join(term for term, _ in terms), tuple(value for _, value in terms)


def _find(reader: sqlite3.Connection, activation_id: str) -> Activation | None:
    row = reader.execute(
        "SELECT namespace, path, received_ns, doc FROM activations WHERE id = ?", (activation_id,)
    ).fetchone()
    return Activation(*row[:3], json.loads(row[3])) if row else None
