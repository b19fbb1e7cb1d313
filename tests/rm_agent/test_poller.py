"""The follower of activation records against an API that pages, fails and is late."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from waitress import create_server

from rm_agent.journal import Journal
from rm_agent.openwhisk import OpenWhisk
from rm_agent.telemetry.activations import ActivationPoller

KEY = "00000000-0000-0000-0000-000000000000:" + "k" * 27


class Platform:
    """Answers as the activations collection of OpenWhisk does: newest first, by start, 200 at most."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = False
        app = Flask("platform")

        @app.get("/api/v1/namespaces/_/activations")
        def _list() -> Any:
            if self.broken:
                return jsonify(error="down"), 500
            since, upto, skip, limit = (int(request.args[key]) for key in ("since", "upto", "skip", "limit"))
            found = [record for record in self.records if since <= record["start"] <= upto]
            found.sort(key=lambda record: -record["start"])
            return jsonify(found[skip : skip + limit])

        self.server = create_server(app, host="127.0.0.1", port=0, threads=1)
        self.api = OpenWhisk(f"http://127.0.0.1:{self.server.effective_port}", KEY, timeout=5)
        threading.Thread(target=self.server.run, daemon=True).start()

    def add(self, number: int, age_s: float = 0.0) -> None:
        path = {"key": "path", "value": "guest/hello"}
        start = int((time.time() - age_s) * 1000)
        self.records.append(
            {"activationId": f"{number:032x}", "start": start, "duration": 5, "statusCode": 0, "annotations": [path]}
        )


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    yield platform
    platform.server.close()


def stored(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as db:
        return db.execute("SELECT activation, action FROM records ORDER BY activation").fetchall()


def test_no_gaps_and_no_doubles(platform: Platform, tmp_path: Path) -> None:
    poller = ActivationPoller(platform.api, Journal(tmp_path / "j.db"), sweep_s=0.0)
    for number in range(450):
        platform.add(number, age_s=number / 10)
    assert poller.poll() == 450 and poller.poll() == 0
    platform.add(450)
    platform.add(451, age_s=299)  # a call of five minutes shows when it has ended
    assert poller.poll() == 2
    assert stored(tmp_path / "j.db") == [(f"{number:032x}", "/guest/hello") for number in range(452)]


def test_what_happened_while_nobody_looked_is_caught_up(platform: Platform, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    platform.add(0, age_s=3000)
    journal.add_records([(f"{0:032x}", "/guest/hello", platform.records[0]["start"], 5, 0, 0, 0)])
    platform.add(1, age_s=2000)
    platform.add(2, age_s=10)
    assert ActivationPoller(platform.api, journal).poll() == 2


def test_an_outage_loses_nothing(platform: Platform, tmp_path: Path) -> None:
    poller = ActivationPoller(platform.api, Journal(tmp_path / "j.db"))
    poller.poll()
    platform.broken = True
    platform.add(1)
    assert poller.poll() == 0 and poller.reachable is False
    platform.broken = False
    assert poller.poll() == 1 and poller.reachable is True


def test_a_journal_that_cannot_be_written_is_written_later(platform: Platform, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    poller = ActivationPoller(platform.api, journal)
    platform.add(1)
    with sqlite3.connect(tmp_path / "j.db", isolation_level=None) as blocker:
        blocker.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        assert poller.poll() == 0
        blocker.execute("DROP TRIGGER full")
    assert poller.poll() == 1
