"""Requests that no client means: each gets an answer that is not the server's fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.standalone.auth import WELL_KNOWN_USERS, User
from deploy.standalone.server import Server
from workloads.bench.platform_fuzz import Connection, send_raw
from workloads.bench.platform_requests import OWNER, malformed, request, world

USERS = {
    name: User(name, str(number) * 36, name.ljust(64, "x")) for number, name in enumerate(("bench", "alice", OWNER))
}
AUTHORIZATIONS = {name: requests.auth._basic_auth_str(user.uuid, user.key) for name, user in USERS.items()}
NO_DEADLINE = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def server(serving: Any, client: Any) -> Iterator[Server]:
    with serving(users=(*WELL_KNOWN_USERS, *USERS.values())) as running:
        for user, method, path, body in world():
            assert client(running.url, USERS[user]).ns(method, path, body).status_code == 200, path
        yield running


def _port(server: Server) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


@pytest.mark.slow
@NO_DEADLINE
@given(st.randoms())
def test_no_request_is_the_servers_fault(server: Server, rng: Random) -> None:
    sent = request(rng, AUTHORIZATIONS)
    with closing(Connection(_port(server))) as connection:
        answer = connection.send(sent.method, sent.encode())
    assert answer is not None, sent
    assert answer.status != 500, (sent, answer.body)
    assert answer.of_activations or b"Traceback" not in answer.body, sent


@pytest.mark.slow
@NO_DEADLINE
@given(st.randoms())
def test_bytes_that_are_no_request_are_not_the_servers_fault_either(server: Server, rng: Random) -> None:
    sent = malformed(rng, request(rng, AUTHORIZATIONS))
    assert 500 not in send_raw(_port(server), sent), sent


@pytest.mark.parametrize("address", [b"http://[", b"http://[::1/"])
def test_an_address_that_is_none_is_refused(server: Server, address: bytes) -> None:
    assert send_raw(_port(server), b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % address) == [400]


@pytest.mark.slow
def test_the_server_works_as_before(server: Server, client: Any) -> None:
    owner = client(server.url, USERS[OWNER])
    owner.put_action("after")
    assert owner.invoke("after", {"a": 1}, "&result=true").json() == {"a": 1}
