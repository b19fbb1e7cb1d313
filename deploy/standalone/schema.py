"""The tables, and the steps that bring an older database up to them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from deploy.standalone.errors import StartError

# "OWL1" in the file's header; databases of version 1 do not have it yet.
APPLICATION_ID = 0x4F574C31

# Step N takes a database from version N to N + 1. A step that was released is never changed; append the next one.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE entities (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        path TEXT NOT NULL,
        collection TEXT NOT NULL,
        updated INTEGER NOT NULL,
        doc TEXT NOT NULL,
        code TEXT,
        UNIQUE (namespace, path)
    );
    CREATE INDEX entities_by_time ON entities (collection, namespace, updated DESC, revision DESC);
    CREATE TABLE activations (
        id TEXT PRIMARY KEY,
        namespace TEXT NOT NULL,
        path TEXT NOT NULL,
        start INTEGER NOT NULL,
        received_ns INTEGER NOT NULL,
        doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX activations_by_time ON activations (namespace, start DESC, received_ns DESC);
    CREATE INDEX activations_by_name ON activations (namespace, path, start DESC, received_ns DESC);
    """,
    f"PRAGMA application_id = {APPLICATION_ID};",
)

VERSION = len(MIGRATIONS)


def identify(connection: sqlite3.Connection, file: Path) -> None:
    """StartError when ``file`` is another program's database. Changes nothing."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    empty = found == 0 and not tables
    first = found == 1 and {"entities", "activations"} <= tables
    if application != APPLICATION_ID and (application != 0 or not (empty or first)):
        raise StartError(f"{file} is the database of another program; name another folder with --data.")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to :data:`VERSION`, each step in a transaction of its own; StartError for a newer one."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise StartError(
            f"The data folder was written by a newer version (its schema is {found}, this version knows {VERSION}); "
            "upgrade, or start with another --data folder."
        )
    # Also when there is nothing to do: a disk that takes no writes is to be noticed now, not by the first user.
    connection.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {found}; COMMIT;")
    for number in range(found, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
