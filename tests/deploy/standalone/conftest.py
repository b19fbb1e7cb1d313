"""Servers for the tests of the API, and a small client of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import requests

from deploy.standalone.auth import WELL_KNOWN_USERS, User
from deploy.standalone.server import Server
from deploy.standalone.settings import Settings

ALICE = User("alice", "a11ce0b1-71f6-4ed5-8c54-816aa4f8c502", WELL_KNOWN_USERS[0].key.replace("123", "al1", 1))
GUEST = WELL_KNOWN_USERS[0]
ECHO = "def main(args):\n    return args\n"


def _settings(**changes: Any) -> Settings:
    """An ephemeral server with limits that do not get in the way of a test."""
    given = {
        "port": 0,
        "users": (*WELL_KNOWN_USERS, ALICE),
        "invocations_per_minute": 60_000,
        "fires_per_minute": 60_000,
        "concurrent_invocations": 300,
        "user_memory_mib": 4096,
        "stem_cells": 1,
        "drain_s": 5.0,
    }
    return Settings(**{**given, **changes})


class Client:
    """Requests of one user; ``ns`` paths are below the own namespace."""

    def __init__(self, url: str, user: User | None = GUEST) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = (user.uuid, user.key) if user else None

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        if body is not None:
            options["json"] = body
        return self.session.request(method, self.url + path, timeout=30, allow_redirects=False, **options)

    def ns(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self(method, f"/api/v1/namespaces/_/{path}", body, **options)

    def put_action(self, name: str, code: str = ECHO, **body: Any) -> dict[str, Any]:
        reply = self.ns(
            "PUT", f"actions/{name}?overwrite=true", {"exec": {"kind": "python:3.11", "code": code}, **body}
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    def invoke(self, name: str, payload: dict[str, Any] | None = None, query: str = "") -> requests.Response:
        return self.ns("POST", f"actions/{name}?blocking=true{query}", payload or {})


@contextmanager
def _serving(**changes: Any) -> Iterator[Server]:
    """A running server whose stem cells are up."""
    with Server(_settings(**changes)) as server:
        until = time.monotonic() + 30
        while _stem_cells(server.url) < server.settings.stem_cells and time.monotonic() < until:
            time.sleep(0.05)
        yield server


def _stem_cells(url: str) -> float:
    for line in requests.get(f"{url}/metrics", timeout=10).text.splitlines():
        if line.startswith("gauge_containerPool_prewarmCount_counter "):
            return float(line.split()[1])
    return 0.0


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[Server]]:
    """``with serving(**settings) as server``: a server of its own."""
    return _serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for the tests of a file."""
    with _serving() as running:
        yield running


@pytest.fixture(scope="session")
def client() -> Callable[..., Client]:
    """``client(url, user)``."""
    return Client


@pytest.fixture(scope="module")
def guest(server: Server) -> Client:
    return Client(server.url)


@pytest.fixture(scope="module")
def alice(server: Server) -> Client:
    return Client(server.url, ALICE)


@pytest.fixture(scope="module")
def nobody(server: Server) -> Client:
    return Client(server.url, None)
