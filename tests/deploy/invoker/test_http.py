"""Answers of a container, byte by byte and too large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone.invoker.http import BadResponse, Response, ResponseReader, post


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def test_a_request_carries_its_length() -> None:
    head, _, body = post("/run", b"{}").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /run HTTP/1.1\r\n")
    assert b"Content-Length: 2" in head
    assert body == b"{}"


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=5))
def test_however_an_answer_is_cut_it_is_the_same(body: bytes, cuts: list[int]) -> None:
    data = answer(body)
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    reader = ResponseReader(1000)
    pieces = [piece for start, end in zip([0, *cuts], [*cuts, len(data)]) if (piece := data[start:end])]
    results = [reader.feed(piece) for piece in pieces]
    assert results[:-1] == [None] * (len(pieces) - 1)
    assert results[-1] == Response(200, body, len(body), True)


def test_one_answer_after_the_other() -> None:
    reader = ResponseReader(1000)
    assert reader.feed(answer(b"1")).body == b"1"
    assert reader.feed(answer(b"22", "502 Bad Gateway", "Connection: close\r\n")) == Response(502, b"22", 2, False)


@pytest.mark.parametrize(("said", "stays"), [("", False), ("Connection: Keep-Alive\r\n", True)])
def test_a_connection_of_http_1_0_stays_only_if_that_is_said(said: str, stays: bool) -> None:
    data = answer(b"{}", more=said).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert ResponseReader(10).feed(data) == Response(200, b"{}", 2, stays)


def test_only_so_much_of_a_body_is_kept() -> None:
    reader = ResponseReader(10)
    data = answer(b"x" * 100)
    assert reader.feed(data[:80]) is None
    assert reader.feed(data[80:]) == Response(200, b"x" * 10, 100, True)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx",
        b"nonsense\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_answer_of_the_action_interface_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader(10).feed(data)
