"""One SQLite file: a connection that writes, a few that read, and what goes wrong with either."""

from __future__ import annotations

import contextlib
import queue
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from deploy.standalone import schema
from deploy.standalone.errors import ApiError, StartError

_READERS = 4
_BUSY_S = 10
_ROOM_BYTES = 1 << 20  # with less than this a disk is full


class Database:
    """The database in ``file``, brought up to this version's schema. StartError when it cannot be used."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        with contextlib.ExitStack() as undo:
            try:
                self.writer = undo.enter_context(contextlib.closing(_connect(file)))
                schema.identify(self.writer, file)
                _prepare(self.writer)
                schema.migrate(self.writer)
                for _ in range(_READERS):
                    reader = undo.enter_context(contextlib.closing(_connect(file)))
                    _prepare(reader)
                    self._readers.put(reader)
            except sqlite3.Error as error:
                raise _unusable(file, error) from None
            undo.pop_all()

    def close(self) -> None:
        with self._lock:
            self.writer.close()
        for _ in range(_READERS):
            self._readers.get().close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on disk at the end, or nothing when anything is raised. One at a time."""
        with self._lock:
            try:
                self.writer.execute("BEGIN IMMEDIATE")
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if self.writer.in_transaction:
                        self.writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; ApiError when the storage fails."""
        reader = self._readers.get()
        try:
            yield reader
        except sqlite3.Error as error:
            raise storage_error(error) from None
        finally:
            self._readers.put(reader)


def storage_error(error: sqlite3.Error) -> ApiError:
    """What a client is told when the database does not take or give something."""
    if "full" in str(error):
        return ApiError(507, "The server's disk is full: nothing was changed. Free some space and try again.")
    return ApiError(503, f"The server's storage does not answer ({error}): nothing was changed. Try again.")


def disk_full(folder: Path) -> StartError:
    return StartError(f"The disk of the data folder {folder} is full; free some space, or name another with --data.")


def _connect(file: Path) -> sqlite3.Connection:
    if not file.exists():
        # It holds code and parameters, and the folder may be one that others can read. Of errors SQLite says more.
        with contextlib.suppress(OSError):
            file.touch(mode=0o600)
    return sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _unusable(file: Path, error: sqlite3.Error) -> StartError:
    # The files that WAL needs beside it: SQLite says no more than that it could not make them.
    no_room = "disk I/O" in str(error) and shutil.disk_usage(file.parent).free < _ROOM_BYTES
    if no_room or "full" in str(error):
        return disk_full(file.parent)
    if "readonly" in str(error):
        return StartError(f"The database {file} cannot be written; make it writable, or name another with --data.")
    return StartError(f"The database in {file.parent} cannot be opened ({error}); start with another --data.")
