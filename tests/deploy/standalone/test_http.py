"""HTTP as bad clients and bad networks speak it: raw bytes against a real server."""

from __future__ import annotations

import base64
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.http_server import room_for_connections
from deploy.standalone.server import Server

MAX_BODY = 4 * 65_536  # of the server below
AUTH = b"Authorization: Basic " + base64.b64encode(WELL_KNOWN_USERS[0].api_key.encode()) + b"\r\n"
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
PING = b"GET /ping HTTP/1.1\r\n" + HOST + b"\r\n"
FIRE = b"POST /api/v1/namespaces/_/actions/none HTTP/1.1\r\n" + HOST + AUTH + JSON
NAP = "import time\n\ndef main(args):\n    time.sleep(args['s'])\n    return {'slept': args['s']}\n"


@pytest.fixture(scope="module")
def server(serving: Any) -> Iterator[Server]:
    with serving(stem_cells=1, request_timeout_s=1.0, keep_alive_s=1.5, max_body_bytes=65_536) as running:
        yield running


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection on which bytes are sent as they are."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=20)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *parts: bytes, pause_s: float = 0.0) -> Wire:
        for part in parts:
            self.socket.sendall(part)
            time.sleep(pause_s)
        return self

    def answer(self, *, bodiless: bool = False) -> Answer:
        first = self._file.readline()
        assert first.startswith(b"HTTP/1.1 "), first
        headers: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if bodiless else int(headers.get("content-length", 0))
        return Answer(int(first.split()[1]), headers, self._file.read(length))

    def rest(self) -> bytes:
        """All that still comes."""
        return self._file.read()

    def ended(self) -> bool:
        """The server closed the connection, without another word."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def asked(server: Server, *parts: bytes, **options: Any) -> Answer:
    """The answer to one request, which must be in the API's form when it is an error."""
    with Wire(server) as wire:
        answer = wire.send(*parts, **options).answer()
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["error"]
        assert answer.json["code"] == answer.headers["x-request-id"]
    return answer


# what is too slow or never complete


@pytest.mark.parametrize(
    "half",
    [
        b"G",
        b"GET /ping HTTP/1.1\r\n",
        FIRE + b"Content-Length: 10\r\n\r\n{",
        FIRE + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
    ids=["first line", "head", "body", "chunk"],
)
def test_half_a_request_is_told_that_time_is_up(server: Server, half: bytes) -> None:
    with Wire(server) as wire:
        answer = wire.send(half).answer()
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
        assert wire.ended()


@pytest.mark.parametrize("first", [b"GET /ping HTTP/1.1\r\nX: ", FIRE + b"Content-Length: 60000\r\n\r\n"])
def test_bytes_that_trickle_in_do_not_buy_time(server: Server, first: bytes) -> None:
    began = time.monotonic()
    with Wire(server) as wire:
        wire.send(first)
        wire.socket.settimeout(0.1)
        while time.monotonic() - began < 10:
            wire.send(b"a")
            try:
                assert b" 408 " in wire.socket.recv(4096)
                break
            except TimeoutError:
                continue
    assert time.monotonic() - began < 5


def test_slow_clients_take_nothing_from_others(server: Server) -> None:
    slow = [Wire(server).send(FIRE + b"Content-Length: 10\r\n\r\n{") for _ in range(100)]
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert asked(server, PING).body == b"pong"
        took.append(time.monotonic() - began)
    assert min(took) < 0.5  # a busy machine may stop anybody for a moment
    for wire in slow:
        wire.__exit__()


def test_idle_connections_are_closed_in_silence(server: Server) -> None:
    with Wire(server) as wire:
        assert wire.send(PING).answer().status == 200
        assert wire.ended()


def test_a_client_that_reads_nothing_is_let_go(server: Server) -> None:
    with Wire(server) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.socket.settimeout(0.5)
        pipelined = b"GET /api/v1/api-docs HTTP/1.1\r\n" + HOST + b"\r\n"
        with pytest.raises((ConnectionError, TimeoutError)):
            for _ in range(20_000):
                wire.send(pipelined)
        time.sleep(2)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                wire.send(pipelined)
                time.sleep(0.02)
    assert asked(server, PING).body == b"pong"


def test_a_client_that_leaves_is_no_reason_to_lose_its_call(server: Server, guest: Any) -> None:
    guest.put_action("nap", NAP)
    body = b'{"s":0.5}'
    call = b"POST /api/v1/namespaces/_/actions/nap?blocking=true HTTP/1.1\r\n" + HOST + AUTH + JSON
    with Wire(server) as wire:
        wire.send(call + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.2)
    until = time.monotonic() + 10
    while not (found := guest.ns("GET", "activations?name=nap&docs=true").json()) and time.monotonic() < until:
        time.sleep(0.05)
    assert [record["response"]["result"] for record in found] == [{"slept": 0.5}]


def test_the_answer_comes_though_the_client_has_said_all_it_will(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(PING)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().body == b"pong"


# lengths and encodings


@pytest.mark.parametrize("length", [b"-1", b"1x", b"0x10", b"+5", b"5, 5", b"5\r\nContent-Length: 6", b"1 2", b""])
def test_lengths_that_are_none(server: Server, length: bytes) -> None:
    answer = asked(server, FIRE + b"Content-Length: " + length + b"\r\n\r\n{}   ")
    assert answer.status == 400
    assert answer.headers["connection"] == "close"


def test_a_length_with_more_digits_than_any_is_told_in_words_for_users(server: Server) -> None:
    answer = asked(server, FIRE + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n{}")
    assert answer.status == 400
    assert answer.json["error"] == "Content-Length is longer than any number of bytes."


def test_a_length_too_short_leaves_a_rest_that_is_no_request(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(FIRE + b'Content-Length: 2\r\n\r\n{}"rest": 1}\r\n\r\n')
        assert wire.answer().status == 404
        assert wire.answer().status == 400
        assert wire.ended()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked, identity\r\n", 501),
        (b"Transfer-Encoding: \x0bchunked\r\n", 400),
        (b"Transfer-Encoding : chunked\r\n", 400),
        (b" Transfer-Encoding: chunked\r\n", 404),  # continues the value of the line before
    ],
)
def test_encodings_that_two_servers_could_read_differently(server: Server, head: bytes, status: int) -> None:
    extra = b"Content-Length: 2\r\n" if status == 404 else b""
    request = b"POST /api/v1/namespaces/_/actions/none HTTP/1.1\r\n" + HOST + AUTH + JSON + b"X: y\r\n" + head + extra
    assert asked(server, request + b"\r\n2\r\n{}\r\n0\r\n\r\n" if not extra else request + b"\r\n{}").status == status


def test_http_1_0_knows_no_chunks(server: Server) -> None:
    request = FIRE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert asked(server, request).status == 400


@pytest.mark.parametrize("chunk", [b"zz\r\n{}\r\n", b"-2\r\n{}\r\n", b"2\r\n{}xx", b"2;=\0\r\n{}\r\n", b"2 " * 3000])
def test_chunks_that_are_none(server: Server, chunk: bytes) -> None:
    assert asked(server, FIRE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n").status == 400


def test_a_body_in_chunks_is_a_body(server: Server) -> None:
    request = FIRE + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = (b"1\r\n{\r\n", b"1;x=y\r\n}\r\n", b"0\r\nTrailer: x\r\n\r\n")
    assert asked(server, request, *chunks, pause_s=0.02).status == 404


def test_bodies_over_the_limit_with_a_length(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(FIRE + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
        wire.send(b"x" * (MAX_BODY + 1))
        assert wire.answer().status == 413


def test_bodies_over_the_limit_without_a_length(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(FIRE + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(MAX_BODY // 65_536 + 4):
            wire.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        assert wire.answer().status == 413


def test_chunk_sizes_beyond_all_bounds(server: Server) -> None:
    assert asked(server, FIRE + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 3000 + b"\r\n").status in (408, 413)


@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b"\xff\xfe{\x00}\x00", '{"a":1}'.encode("utf-16"), b"\x00{}"])
def test_bodies_in_other_encodings_are_told_so(server: Server, body: bytes) -> None:
    answer = asked(server, FIRE + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.status == 400
    assert "utf-16" not in answer.json["error"]
    assert "UTF-8" in answer.json["error"] or body.startswith(b"\x00")


# first lines and headers


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\x01\x02",
        b"GET",
        b"GET /ping",
        b"GET  /ping HTTP/1.1",
        b"GET /ping HTTP/one",
        b"get /ping HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"G\rET /ping HTTP/1.1",
    ],
)
def test_first_lines_that_are_none(server: Server, line: bytes) -> None:
    answer = asked(server, line + b"\r\n" + HOST + b"\r\n")
    assert answer.status == 400
    assert answer.headers["connection"] == "close"


def test_other_versions_of_http(server: Server) -> None:
    assert asked(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505


@pytest.mark.parametrize("header", [b"X: a\x00b", b"X\x00: a", b": a", b"X a", b"X: a\rb", b"X: a\nHost: b"])
def test_headers_that_are_none(server: Server, header: bytes) -> None:
    assert asked(server, b"GET /ping HTTP/1.1\r\n" + HOST + header + b"\r\n\r\n").status == 400


@pytest.mark.parametrize("hosts", [b"", HOST + HOST, b"Host: a, b\r\n"])
def test_http_1_1_names_one_host(server: Server, hosts: bytes) -> None:
    assert asked(server, b"GET /ping HTTP/1.1\r\n" + hosts + b"\r\n").status == 400


def test_an_answer_has_one_date_which_may_be_the_actions(server: Server, guest: Any) -> None:
    date = "Tue, 01 Jan 2030 00:00:00 GMT"
    code = f"def main(args):\n    return {{'headers': {{'date': '{date}'}}, 'body': 'b'}}\n"
    guest.put_action("dated", code, annotations=[{"key": "web-export", "value": True}])
    with Wire(server) as wire:
        wire.send(b"GET /api/v1/web/guest/default/dated.http HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        head = wire.rest().lower()
    assert head.count(b"\r\ndate:") == 1
    assert date.lower().encode() in head


def test_heads_without_end(server: Server) -> None:
    assert asked(server, b"GET /ping HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n").status == 431
    assert asked(server, b"GET /ping HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20_000 + b"\r\n").status == 431


def test_addresses_without_end(server: Server) -> None:
    assert asked(server, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n").status == 414
    assert asked(server, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n").status == 414


@pytest.mark.parametrize("name", [b"%ff%fe", b"%00", b"\xff", b"%", b"%zz", b"a%0d%0ab", b"%2e%2e%2f", b"%F0%9F%A6%89"])
def test_names_that_are_no_text(server: Server, name: bytes) -> None:
    request = b"GET /api/v1/namespaces/_/actions/" + name + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n"
    assert asked(server, request).status in (400, 404)


# methods, versions, pipelines


@pytest.mark.parametrize("method", [b"PATCH", b"TRACE", b"CONNECT", b"PROPFIND", b"BREW", b"M-SEARCH"])
def test_methods_that_no_resource_has(server: Server, method: bytes) -> None:
    inside = asked(server, method + b" /api/v1/namespaces/_/actions/a HTTP/1.1\r\n" + HOST + AUTH + b"\r\n")
    assert inside.status == 404
    outside = asked(server, method + b" /ping HTTP/1.1\r\n" + HOST + b"\r\n")
    assert outside.status == 405
    assert outside.headers["allow"] == "OPTIONS"


def test_head_has_no_body(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(b"HEAD /api/v1/namespaces HTTP/1.1\r\n" + HOST + AUTH + b"\r\n")
        assert wire.answer(bodiless=True).status == 404
        assert wire.send(PING).answer().body == b"pong"


def test_requests_in_one_go_are_answered_in_turn(server: Server, guest: Any) -> None:
    guest.put_action("echo")
    bodies = [b'{"n":%d}' % number for number in range(5)]
    call = b"POST /api/v1/namespaces/_/actions/echo?blocking=true&result=true HTTP/1.1\r\n" + HOST + AUTH + JSON
    with Wire(server) as wire:
        wire.send(b"".join(call + b"Content-Length: %d\r\n\r\n" % len(body) + body + PING for body in bodies))
        for body in bodies:
            assert wire.answer().json == json.loads(body)
            assert wire.answer().body == b"pong"


def test_requests_in_one_go_are_answered_though_the_client_has_said_all_it_will(server: Server, guest: Any) -> None:
    guest.put_action("echo")
    call = b"POST /api/v1/namespaces/_/actions/echo?blocking=true&result=true HTTP/1.1\r\n" + HOST + AUTH + JSON
    with Wire(server) as wire:
        wire.send((call + b"Content-Length: 2\r\n\r\n{}") * 3)
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().status for _ in range(3)] == [200, 200, 200]
        assert wire.ended()


def test_http_1_0_ends_with_the_answer_unless_asked(server: Server) -> None:
    with Wire(server) as wire:
        assert wire.send(b"GET /ping HTTP/1.0\r\n\r\n").answer().headers["connection"] == "close"
        assert wire.ended()
    with Wire(server) as wire:
        request = b"GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        assert wire.send(request).answer().headers["connection"] == "keep-alive"
        assert wire.send(request).answer().status == 200


def test_a_client_may_end_the_connection_with_its_request(server: Server) -> None:
    with Wire(server) as wire:
        answer = wire.send(b"GET /ping HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n").answer()
        assert (answer.body, answer.headers["connection"]) == (b"pong", "close")
        assert wire.ended()


def test_a_body_is_asked_for_when_the_client_waits_for_that(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(FIRE + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert wire.answer().status == 100
        assert wire.send(b"{}").answer().status == 404


def test_blank_lines_before_a_request_are_forgiven(server: Server) -> None:
    assert asked(server, b"\r\n\r\n" + PING).body == b"pong"


# ids


def test_a_request_keeps_the_id_it_came_with(server: Server) -> None:
    request = b"GET /api/v1/namespaces/_/actions/none HTTP/1.1\r\n" + HOST + AUTH
    answer = asked(server, request + b"X-Request-ID: from-a-proxy.1\r\n\r\n")
    assert answer.json["code"] == answer.headers["x-request-id"] == "from-a-proxy.1"


@pytest.mark.parametrize("given", [b"sid_invoker", b"a b", b"x" * 129, b"\xe9", b'a"', b"-x"])
def test_ids_that_could_do_harm_are_replaced(server: Server, given: bytes) -> None:
    answer = asked(server, b"GET /ping HTTP/1.1\r\n" + HOST + b"X-Request-ID: " + given + b"\r\n\r\n")
    assert answer.headers["x-request-id"].encode("latin-1") != given
    assert len(answer.headers["x-request-id"]) == 32


# many at once


@pytest.mark.parametrize(
    ("limits", "room"),
    [
        ((1024, 1024), 512),
        ((1024, 4096), 2048),
        ((1024, 10_000), 7952),
        ((1024, resource.RLIM_INFINITY), 16_384),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 16_384),
    ],
)
def test_connections_leave_room_for_what_else_is_open(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], room: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert room_for_connections() == room


def test_more_calls_at_once_than_there_are_threads(serving: Any, client: Any) -> None:
    with serving(concurrent_invocations=1000, stem_cells=0, user_memory_mib=256) as server:
        guest = client(server.url)
        guest.put_action("nap", NAP)
        body = b'{"s":0.01}'
        call = b"POST /api/v1/namespaces/_/actions/nap?blocking=true&result=true HTTP/1.1\r\n" + HOST + AUTH + JSON
        request = call + b"Content-Length: %d\r\n\r\n" % len(body) + body
        waiting = [Wire(server).send(request) for _ in range(300)]
        began = time.monotonic()
        assert asked(server, PING).body == b"pong"
        assert time.monotonic() - began < 2  # behind them it would be more than three
        assert {wire.answer().status for wire in waiting} == {200}
        for wire in waiting:
            wire.__exit__()


# chance

_LINES = st.lists(
    st.sampled_from(
        [
            b"GET /ping HTTP/1.1\r\n",
            b"POST /api/v1/namespaces/_/actions/none HTTP/1.1\r\n",
            b"PUT /api/v1/namespaces/_/packages/p?overwrite=true HTTP/1.0\r\n",
            HOST,
            AUTH,
            JSON,
            b"Content-Length: 2\r\n",
            b"Content-Length: 9999999\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: keep-alive\r\n",
            b"Expect: 100-continue\r\n",
            b"\r\n",
            b"\n",
            b"{}",
            b"2\r\n{}\r\n0\r\n\r\n",
            b"%",
        ]
    )
    | st.binary(max_size=12),
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=_LINES)
def test_no_bytes_are_the_servers_fault(server: Server, parts: list[bytes]) -> None:
    with Wire(server) as wire:
        try:
            wire.send(b"".join(parts))
            wire.socket.shutdown(socket.SHUT_WR)
            said = wire.rest()
        except ConnectionError:
            said = b""
    statuses = {int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)}
    assert statuses <= {100, 200, 400, 401, 404, 405, 408, 411, 413, 414, 415, 431, 501, 505}, said
    assert not said or said.startswith(b"HTTP/1.1 "), said
    assert asked(server, PING).body == b"pong"
