"""The tables, and the steps that bring an older database up to them."""

from __future__ import annotations

import sqlite3

from deploy.standalone.errors import StartError

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
)

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to :data:`VERSION`, each step in a transaction of its own; StartError for a newer one."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise StartError(
            f"The data folder was written by a newer version (its schema is {found}, this version knows {VERSION}); "
            "upgrade, or start with another --data folder."
        )
    for number in range(found, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
