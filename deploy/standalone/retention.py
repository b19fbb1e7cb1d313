"""Old activations go, a few at a time, so that nobody who writes waits for it; their space is used again."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from deploy.standalone.database import Database

log = logging.getLogger(__name__)

_EVERY_S = 3600.0
_AT_ONCE = 200
_PAUSE_S = 0.05
_DAY_MS = 86_400_000


class Retention:
    """Deletes, at once and then every hour, the records of activations that began more than ``days`` ago."""

    def __init__(self, database: Database, days: float) -> None:
        self._database = database
        self._keep_ms = int(days * _DAY_MS)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                pause = _PAUSE_S if prune(self._database, time.time_ns() // 1_000_000 - self._keep_ms) else _EVERY_S
            except sqlite3.Error as error:
                log.warning("Old activation records cannot be deleted (%s); the next try is in an hour", error)
                pause = _EVERY_S


def prune(database: Database, before_ms: int) -> int:
    """Delete some records of activations that began before ``before_ms``; how many, 0 when there are no more."""
    with database.writing() as connection:
        # Per namespace, as the index by time is: one over all of them would make every record dearer to write.
        namespace: str | None = ""
        while namespace is not None:
            (namespace,) = connection.execute(
                "SELECT min(namespace) FROM activations WHERE namespace > ?", (namespace,)
            ).fetchone()
            deleted = connection.execute(
                "DELETE FROM activations WHERE id IN"
                " (SELECT id FROM activations WHERE namespace = ? AND start < ? ORDER BY start LIMIT ?)",
                (namespace, before_ms, _AT_ONCE),
            ).rowcount
            if deleted:
                return deleted
    return 0
