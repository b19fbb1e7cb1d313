"""The journal: what the agent was about to do, written before it did it (SQLite, write-ahead log).

A row is an intention. When the kernel refuses one, a second row undoes it, so that replaying the rows in order gives
what was enforced at each moment. :func:`audit` does that replay with nothing but the rows and knows nothing of the
ledger that produced them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rm_agent.harvest import RESOURCES, Allocation, Step

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE sessions (id INTEGER PRIMARY KEY, started_s REAL, ended_s REAL, policy TEXT, dry INTEGER);
CREATE TABLE containers (
    id INTEGER PRIMARY KEY, path TEXT, identity TEXT UNIQUE, first_seen_s REAL, gone_s REAL,
    cpu_millis INTEGER, memory_mib INTEGER, gpu_percent INTEGER, gpu_memory_mib INTEGER);
CREATE TABLE transitions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time_s REAL, session INTEGER, container INTEGER,
    kind TEXT, resource TEXT, before INTEGER, after INTEGER, reason TEXT);
CREATE TABLE bases (book INTEGER, container INTEGER, resource TEXT, own INTEGER, applied INTEGER);
CREATE TABLE activations (
    activation TEXT, action TEXT, container TEXT, start_s REAL, end_s REAL,
    own_cpu INTEGER, min_cpu INTEGER, max_cpu INTEGER, own_memory INTEGER, min_memory INTEGER, max_memory INTEGER,
    peak_cpu INTEGER, peak_memory INTEGER, saturated INTEGER);
CREATE TABLE records (
    activation TEXT PRIMARY KEY, action TEXT, start_ms INTEGER, duration_ms INTEGER, wait_ms INTEGER,
    init_ms INTEGER, status INTEGER) WITHOUT ROWID;
CREATE INDEX records_by_start ON records (start_ms);
CREATE INDEX activations_by_action ON activations (action);
CREATE INDEX transitions_by_container ON transitions (container);
"""


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ActivationUse:
    """One call as the runtime reported it, with the allocations it lived through (millicores, MiB)."""

    activation: str
    action: str
    container: str
    start_s: float  # seconds since the epoch
    end_s: float
    own_cpu: int
    min_cpu: int
    max_cpu: int
    own_memory: int
    min_memory: int
    max_memory: int
    peak_cpu: int  # 95th percentile of the use in windows of 100 ms
    peak_memory: int
    saturated: bool  # it used at least 0.9 of what it had, or was throttled

    @property
    def harvested(self) -> bool:
        """It had less than its own at some time."""
        return self.min_cpu < self.own_cpu or self.min_memory < self.own_memory

    @property
    def accelerated(self) -> bool:
        """It had more than its own at some time."""
        return self.max_cpu > self.own_cpu or self.max_memory > self.own_memory


@dataclass(frozen=True, slots=True)
class Known:
    """A container that a real (not dry) session took charge of and that was not seen to disappear."""

    path: str
    identity: str
    own: Allocation


@dataclass(frozen=True, slots=True)
class Transition:
    seq: int
    time_s: float
    container: str
    kind: str  # own | resize | failed | restore | note | gone
    resource: str
    before: int
    after: int
    reason: str


class Journal:
    """Opens or makes the journal at ``path``. Thread-safe.

    ``keep`` bounds the rows of each growing table. Raises :class:`JournalError` when the file is not a journal,
    is of a newer version, or cannot be written.
    """

    def __init__(self, path: Path | str, keep: int = 200_000) -> None:
        self.path = Path(path)
        self._keep = keep
        self._lock = threading.Lock()
        self._ids: dict[str, int] = {}
        self._session = 0
        self._dry = False
        self._exclusive: int | None = None
        self._records: int | None = None  # rows of the table, once counted
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"cannot create {self.path.parent}: {error.strerror}") from None
        self._db = _connect(self.path)

    def close(self) -> None:
        with self._lock:
            self._db.close()
            if self._exclusive is not None:
                os.close(self._exclusive)
                self._exclusive = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Become the only one who acts on this journal; released by :meth:`close` or the end of the process."""
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.01)
            else:
                self._exclusive = descriptor
                return True

    def begin(self, policy: str, dry: bool = False) -> None:
        """Start a session; dry sessions keep books of their own."""
        with self._lock, self._db:
            cursor = self._db.execute(
                "INSERT INTO sessions (started_s, policy, dry) VALUES (?, ?, ?)", (time.time(), policy, dry)
            )
            self._session, self._dry = cursor.lastrowid or 0, dry

    def end(self) -> None:
        """Close the session in good order."""
        with self._lock, self._db:
            self._db.execute("UPDATE sessions SET ended_s = ? WHERE id = ?", (time.time(), self._session))

    def take_charge(self, path: str, identity: str, own: Allocation) -> Allocation:
        """Record a container with its own allocation; returns the one on record where it is known already.

        ``identity`` tells a container from a later one of the same name.
        """
        with self._lock, self._db:
            row = self._db.execute(
                f"SELECT id, {', '.join(RESOURCES)} FROM containers WHERE identity = ?", (identity,)
            ).fetchone()
            if row is None:
                cursor = self._db.execute(
                    f"INSERT INTO containers (path, identity, first_seen_s, {', '.join(RESOURCES)})"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (path, identity, time.time(), *own),
                )
                number = cursor.lastrowid or 0
            else:
                number, own = row[0], Allocation(*row[1:])
                self._db.execute("UPDATE containers SET gone_s = NULL WHERE id = ?", (number,))
            self._ids[path] = number
            self._insert((number, "own", name, amount, amount, "first seen") for name, amount in _pairs(own))
        return own

    def change_own(self, path: str, own: Allocation, reason: str) -> None:
        """The platform itself gave the container other limits."""
        with self._lock, self._db:
            number = self._ids[path]
            values = ", ".join(f"{name} = ?" for name in RESOURCES)
            self._db.execute(f"UPDATE containers SET {values} WHERE id = ?", (*own, number))
            self._insert((number, "own", name, amount, amount, reason) for name, amount in _pairs(own))

    def resizes(self, resource: str, steps: Iterable[tuple[str, Step]], reason: str) -> None:
        """Intended writes as (path, step), in the order in which they will be done."""
        with self._lock, self._db:
            self._insert((self._ids[path], "resize", resource, step.before, step.after, reason) for path, step in steps)

    def failed(self, resource: str, steps: Sequence[tuple[str, Step]], reason: str) -> None:
        """These writes, the last of a decision, were refused or not tried. The latest is undone first."""
        with self._lock, self._db:
            self._insert(
                (self._ids[path], "failed", resource, step.after, step.before, reason) for path, step in reversed(steps)
            )

    def note(self, path: str, resource: str, has: int, due: int, reason: str) -> None:
        """Something that could not be done and must not go unsaid; no write follows."""
        with self._lock, self._db:
            self._insert([(self._ids[path], "note", resource, has, due, reason)])

    def settled(self, resource: str, paths: Iterable[tuple[str, int]], reason: str) -> None:
        """State of affairs as (path, own amount) after writes that could not be recorded: all are at their own."""
        with self._lock, self._db:
            self._insert((self._ids[path], "restore", resource, own, own, reason) for path, own in paths)

    def restored(self, known: Known, resource: str, before: int, reason: str) -> None:
        """Recovery is about to give a container its own amount back."""
        after = getattr(known.own, resource)
        with self._lock, self._db:
            number = self._number(known)
            self._insert([(number, "restore", resource, before, after, reason)])

    def gone(self, path: str) -> None:
        with self._lock:
            with self._db:
                self._gone(self._ids[path])
            del self._ids[path]  # only now: a caller whose row was not written tries again

    def forget(self, known: Known) -> None:
        """Recovery found that the container is gone."""
        with self._lock, self._db:
            self._gone(self._number(known))

    def in_charge(self) -> list[Known]:
        """The containers that real sessions left behind."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT path, identity, {', '.join(RESOURCES)} FROM containers WHERE gone_s IS NULL AND id IN"
                " (SELECT container FROM bases WHERE book = 0 UNION SELECT container FROM transitions"
                " JOIN sessions ON sessions.id = session WHERE NOT dry)"
            ).fetchall()
        return [Known(path, identity, Allocation(*own)) for path, identity, *own in rows]

    def add_activations(self, uses: Sequence[ActivationUse]) -> None:
        with self._lock, self._db:
            self._db.executemany(
                f"INSERT INTO activations VALUES ({', '.join('?' * len(ActivationUse.__dataclass_fields__))})",
                [tuple(getattr(use, name) for name in ActivationUse.__dataclass_fields__) for use in uses],
            )

    def add_records(self, records: Sequence[tuple[str, str, int, int, int, int, int]]) -> int:
        """Activation records of the platform: id, action, start, duration, wait and init time in ms, status.

        Returns how many were new; a record known already is left as it is.
        """
        with self._lock, self._db:
            before = self._db.total_changes
            self._db.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", records)
            new = self._db.total_changes - before
            if self._records is not None:
                self._records += new
            return new

    def latest_record_ms(self) -> int | None:
        """Start of the latest activation on record, in ms since the epoch."""
        with self._lock:
            return self._db.execute("SELECT MAX(start_ms) FROM records").fetchone()[0]

    def prune(self, at_most: int = 500) -> int:
        """Drop up to ``at_most`` of the oldest rows beyond the bound of each table; returns how many.

        What the dropped transitions led to is kept as the base from which the rest is replayed.
        """
        dropped = 0
        with self._lock, self._db:
            first, last = self._db.execute("SELECT MIN(seq), MAX(seq) FROM transitions").fetchone()
            if first is not None and last - first >= self._keep:
                cut = min(last - self._keep, first + at_most - 1)
                books = _replay(self._db, cut)
                self._db.execute("DELETE FROM bases")
                self._db.executemany(
                    "INSERT INTO bases VALUES (?, ?, ?, ?, ?)",
                    [row for row in books.rows() if row[0] in (0, self._session)],
                )
                dropped += self._db.execute("DELETE FROM transitions WHERE seq <= ?", (cut,)).rowcount
            first, last = self._db.execute("SELECT MIN(rowid), MAX(rowid) FROM activations").fetchone()
            if first is not None and last - first >= self._keep:
                cut = min(last - self._keep, first + at_most - 1)
                dropped += self._db.execute("DELETE FROM activations WHERE rowid <= ?", (cut,)).rowcount
            surplus = min(at_most, self._count_records() - self._keep)
            if surplus > 0:
                gone = self._db.execute(
                    "DELETE FROM records WHERE activation IN (SELECT activation FROM records ORDER BY start_ms LIMIT ?)",
                    (surplus,),
                ).rowcount
                self._records = self._count_records() - gone
                dropped += gone
            if dropped:
                self._db.execute(
                    "DELETE FROM containers WHERE gone_s IS NOT NULL"
                    " AND NOT EXISTS (SELECT 1 FROM transitions WHERE container = containers.id)"
                    " AND id NOT IN (SELECT container FROM bases)"
                )
        return dropped

    def _count_records(self) -> int:
        # Counted once: counting reads the whole table, under the lock that the return of CPU waits for.
        if self._records is None:
            self._records = self._db.execute("SELECT count(*) FROM records").fetchone()[0]
        return self._records

    def _number(self, known: Known) -> int:
        return self._db.execute("SELECT id FROM containers WHERE identity = ?", (known.identity,)).fetchone()[0]

    def _gone(self, number: int) -> None:
        if not self._dry:
            self._db.execute("UPDATE containers SET gone_s = ? WHERE id = ?", (time.time(), number))
        self._insert([(number, "gone", "", 0, 0, "")])

    def _insert(self, rows: Iterable[tuple[int, str, str, int, int, str]]) -> None:
        now = time.time()
        self._db.executemany(
            "INSERT INTO transitions (time_s, session, container, kind, resource, before, after, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(now, self._session, *row) for row in rows],
        )


def activations(path: Path | str, latest: int | None = None) -> list[ActivationUse]:
    """The reported calls in the journal at ``path``, all or the ``latest``, in order of their ends."""
    db = _read_only(path)
    try:
        limit = -1 if latest is None else latest
        rows = db.execute("SELECT * FROM activations ORDER BY rowid DESC LIMIT ?", (limit,)).fetchall()
    finally:
        db.close()
    rows.reverse()
    rows.sort(key=lambda row: row[4])
    return [ActivationUse(*row[:-1], bool(row[-1])) for row in rows]


def history(path: Path | str, container: str, limit: int = 20) -> list[Transition]:
    """The latest transitions of a container (its path or the last part of it), newest first."""
    db = _read_only(path)
    try:
        rows = db.execute(
            "SELECT seq, time_s, path, kind, resource, before, after, reason FROM transitions"
            " JOIN containers ON containers.id = container WHERE path = ? OR path LIKE ? ESCAPE '\\'"
            " ORDER BY seq DESC LIMIT ?",
            (container, "%/" + container.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_"), limit),
        ).fetchall()
    finally:
        db.close()
    return [Transition(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Audit:
    """What a replay of the journal shows. Integrals are amounts above the borrowers' own, times seconds."""

    sessions: int
    containers: int
    transitions: int
    resizes: int
    failed: int
    violations: int  # moments at which more was given out than owned, or that contradict the rows before them
    findings: list[str] = field(default_factory=list)  # the first of them in words
    lent_cpu_millis_s: float = 0.0
    lent_memory_mib_s: float = 0.0
    activations: int = 0
    harvested: int = 0
    accelerated: int = 0


def audit(path: Path | str) -> Audit:
    """Replay the journal's transitions in order and check conservation after each.

    Raises :class:`JournalError` when there is no journal at ``path``.
    """
    db = _read_only(path)
    try:
        books = _replay(db)
        sessions = db.execute("SELECT COUNT(*) FROM sessions").fetchone()[0]
        containers = db.execute("SELECT COUNT(*) FROM containers").fetchone()[0]
    finally:
        db.close()
    uses = activations(path)
    return Audit(
        sessions=sessions,
        containers=containers,
        transitions=sum(books.kinds.values()),
        resizes=books.kinds.get("resize", 0),
        failed=books.kinds.get("failed", 0),
        violations=books.violations,
        findings=books.findings,
        lent_cpu_millis_s=round(books.lent.get("cpu_millis", 0.0), 3),
        lent_memory_mib_s=round(books.lent.get("memory_mib", 0.0), 3),
        activations=len(uses),
        harvested=sum(use.harvested for use in uses),
        accelerated=sum(use.accelerated for use in uses),
    )


class _Books:
    """State of the replay: (book, resource) -> container -> (own, applied).

    Real sessions go on where the one before ended: they share book 0. Each dry session has a book of its own.
    """

    def __init__(self) -> None:
        self.amounts: dict[tuple[int, str], dict[int, tuple[int, int]]] = {}
        self.kinds: dict[str, int] = {}
        self.violations = 0
        self.findings: list[str] = []
        self.lent: dict[str, float] = {}
        self._since: dict[tuple[int, str], float] = {}

    def rows(self) -> list[tuple[int, int, str, int, int]]:
        return [
            (book, container, resource, own, applied)
            for (book, resource), amounts in self.amounts.items()
            for container, (own, applied) in amounts.items()
        ]

    def row(
        self, seq: int, time_s: float, book: int, container: int, kind: str, name: str, before: int, after: int
    ) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if kind == "note":
            return
        for resource in RESOURCES if kind == "gone" else (name,):
            self._advance(book, resource, time_s)
            amounts = self.amounts.setdefault((book, resource), {})
            own, applied = amounts.get(container, (after, after))
            if kind == "gone":
                amounts.pop(container, None)
            elif kind == "own":
                amounts[container] = (after, applied if own == after else after)
            elif container not in amounts:
                self._find(seq, f"{resource} of container {container} is resized before its own amount is on record")
            else:
                if kind in ("resize", "failed") and before != applied:
                    self._find(seq, f"{resource} of container {container} goes from {before}, but was {applied}")
                if after < 0:
                    self._find(seq, f"{resource} of container {container} becomes negative")
                amounts[container] = (own, after)
            given = sum(applied for _, applied in amounts.values())
            owned = sum(own for own, _ in amounts.values())
            if given > owned:
                self._find(seq, f"{given} of {resource} is given out, {owned} is owned")

    def _advance(self, book: int, resource: str, time_s: float) -> None:
        since = self._since.get((book, resource), time_s)
        if book == 0:
            lent = sum(max(0, applied - own) for own, applied in self.amounts.get((book, resource), {}).values())
            self.lent[resource] = self.lent.get(resource, 0.0) + lent * max(0.0, time_s - since)
        self._since[book, resource] = time_s

    def _find(self, seq: int, text: str) -> None:
        self.violations += 1
        if len(self.findings) < 20:
            self.findings.append(f"transition {seq}: {text}")


def _replay(db: sqlite3.Connection, upto: int | None = None) -> _Books:
    books = _Books()
    for book, container, resource, own, applied in db.execute("SELECT * FROM bases"):
        books.amounts.setdefault((book, resource), {})[container] = (own, applied)
    for row in db.execute(
        "SELECT seq, time_s, CASE WHEN dry THEN session ELSE 0 END, container, kind, resource, before, after"
        " FROM transitions JOIN sessions ON sessions.id = session WHERE ? IS NULL OR seq <= ? ORDER BY seq",
        (upto, upto),
    ):
        books.row(*row)
    return books


def _pairs(own: Allocation) -> list[tuple[str, int]]:
    return [(name, amount) for name, amount in zip(RESOURCES, own) if amount]


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            db.close()
            raise JournalError(f"{path} is the database of something else; name another file with --journal")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            with db:
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            path.chmod(0o600)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"cannot use {path} as a journal: {error}; name another file with --journal") from None
    _check_version(path, version or SCHEMA_VERSION)
    return db


def _read_only(path: Path | str) -> sqlite3.Connection:
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"there is no journal at {path}")
    try:
        db = sqlite3.connect(path, timeout=2.0)
        db.execute("PRAGMA query_only = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise JournalError(f"cannot read {path} as a journal: {error}") from None
    if version == 0:
        raise JournalError(f"{path} is not a journal")
    _check_version(path, version)
    return db


def _check_version(path: Path, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise JournalError(
            f"{path} is a journal of version {version}, this program knows {SCHEMA_VERSION}: "
            "update the program or name another file with --journal"
        )
