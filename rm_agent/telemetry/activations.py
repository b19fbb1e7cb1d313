"""Follows the platform's activation records over the OpenWhisk API, without gaps or doubles."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from rm_agent.journal import Journal
from rm_agent.openwhisk import Activation, OpenWhisk, OpenWhiskError, Unreachable

log = logging.getLogger(__name__)

PAGE = 200
# A record appears when its call has ended but is listed by its start: five minutes of run time, and some to be stored.
LATEST_MS = 6 * 60_000
RECENT_MS = 15_000


class ActivationPoller:
    """Keeps the journal's records complete. Each record is stored once, whatever is listed how often.

    Every ``interval_s`` the last seconds are listed, and every ``sweep_s`` as far back as a call can last. After a
    restart the first sweep starts that far before the latest record on file.
    """

    def __init__(self, api: OpenWhisk, journal: Journal, interval_s: float = 2.0, sweep_s: float = 30.0) -> None:
        self.records = 0
        self.reachable: bool | None = None
        self._api = api
        self._journal = journal
        self._interval_s = interval_s
        self._sweep_s = sweep_s
        latest = journal.latest_record_ms()
        self._complete_ms = int(time.time() * 1000) if latest is None else latest
        self._swept = -sweep_s

    def run(self, stop: threading.Event) -> None:
        """Poll until ``stop``; an unreachable API is told once and tried again."""
        while not stop.is_set():
            self.poll()
            stop.wait(self._interval_s if self.reachable else 5.0)

    def poll(self) -> int:
        """One round; returns the number of new records."""
        now = time.monotonic()
        sweep = now - self._swept >= self._sweep_s
        upto = int(time.time() * 1000)
        since = self._complete_ms - (LATEST_MS if sweep else RECENT_MS)
        try:
            new = self._fetch(max(0, since), upto)
        except sqlite3.Error as error:
            log.error("the journal cannot be written: %s", error)
            return 0  # what was listed is listed again
        except (OpenWhiskError, Unreachable) as error:
            if self.reachable is not False:
                log.warning("activations cannot be read, the containers are managed all the same: %s", error)
            self.reachable = False
            return 0
        if self.reachable is False:
            log.info("activations can be read again")
        self.reachable = True
        self.records += new
        self._complete_ms = upto
        if sweep:
            self._swept = now
        return new

    def _fetch(self, since: int, upto: int) -> int:
        new, skip = 0, 0
        while True:
            # Newest first up to a fixed time: what ends meanwhile moves others to later pages, never to earlier ones.
            page = self._api.activations(since=since, upto=upto, limit=PAGE, skip=skip)
            new += self._journal.add_records([_row(record) for record in page])
            if len(page) < PAGE:
                return new
            skip += PAGE


def _row(record: Activation) -> tuple[str, str, int, int, int, int, int]:
    return (
        record.id,
        f"/{record.path}",
        int(record.get("start") or 0),
        int(record.get("duration") or 0),
        record.wait_ms or 0,
        record.init_ms or 0,
        int(record.get("statusCode") or 0),
    )
