"""What a server that was killed left in its journal becomes records: each activation has exactly one."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

from deploy.standalone import journal, jsontext
from deploy.standalone.content import value_of
from deploy.standalone.database import Database
from deploy.standalone.history import Row, from_text, insert

log = logging.getLogger(__name__)


def recover(database: Database, folder: Path) -> None:
    """Write the finished records of the journal as they are, and those of activations that never ended as failed.

    A crash in here loses nothing: the journal's files go after the records are on disk, and a second time the records
    that are there are left alone. Raises OSError or sqlite3.Error when the disk does not take it.
    """
    found = journal.read(folder)
    unfinished = [from_text(text) for text in found.unfinished.values()]
    with database.writing() as connection:
        insert(connection, map(from_text, found.finished.values()))
        # The parts of a sequence first: their ids are in its logs.
        for row in sorted(unfinished, key=lambda row: row[4], reverse=True):
            insert(connection, [_ended(connection, row, found.last_write_ms)])
    found.clear()
    if unfinished:
        log.info(
            "%d activations had not finished when the server stopped; they are recorded as failed", len(unfinished)
        )


def _ended(connection: sqlite3.Connection, row: Row, last_write_ms: int) -> Row:
    *head, text = row
    record: dict[str, Any] = json.loads(text)
    if "end" in record:  # a trigger's has none
        start = record["start"]
        # It cannot have run for longer than its limit after the last sign of life, whenever the next start is.
        latest = max(last_write_ms, start) + value_of(record["annotations"], "limits")["timeout"]
        record["end"] = max(start, min(time.time_ns() // 1_000_000, latest))
        record["duration"] = record["end"] - start
    if value_of(record["annotations"], "topmost") is not None:
        record["logs"] = _parts(connection, row)
    return (*head, jsontext.dumps(record))


def _parts(connection: sqlite3.Connection, row: Row) -> list[str]:
    activation_id, namespace, _, start, *_ = row
    found = connection.execute(
        "SELECT id FROM activations WHERE namespace = ? AND start >= ? AND instr(doc, ?) ORDER BY start, received_ns",
        (namespace, start, f'"cause":"{activation_id}"'),
    )
    return [part for (part,) in found]
