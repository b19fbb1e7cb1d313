"""Docker's output frames, and the thread that serves a container's pipes."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone.invoker.docker_streams import Attendant, Frames

FRAMES = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=50)), max_size=20)


def encoded(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack(">BxxxI", stream, len(data)) + data for stream, data in frames)


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 1500)))
def test_each_stream_comes_out_whole_however_the_frames_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data, found, parser = encoded(frames), [b"", b""], Frames()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        for stream, piece in parser.feed(data[start:end]):
            found[stream] += piece
    for stream in (0, 1):
        assert found[stream] == b"".join(data for kind, data in frames if kind == stream + 1)


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 5)[0])


def test_a_container_is_ready_when_it_listens_and_ended_when_its_output_is_all_there() -> None:
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening, theirs:
        ended: list[int] = []
        attendant = Attendant("x", ours, listening.getsockname(), lambda: ended.append(1))
        assert readable(attendant.ready) and os.read(attendant.ready, 9) == b"1"
        theirs.sendall(encoded([(1, b"out"), (2, b"err")]))
        assert readable(attendant.streams[0]) and os.read(attendant.streams[0], 9) == b"out"
        assert not ended
        theirs.close()
        assert readable(attendant.exited) and os.read(attendant.exited, 9) == b""
        assert ended and os.read(attendant.streams[1], 9) == b"err"
        attendant.close()


def test_a_container_that_never_listens_and_ends_is_never_ready() -> None:
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    attendant = Attendant("x", ours, address, lambda: None)
    assert not select.select([attendant.ready], [], [], 0.05)[0]
    theirs.close()
    assert readable(attendant.ready) and os.read(attendant.ready, 9) == b""
    attendant.close()


def test_output_that_nobody_reads_does_not_keep_the_thread() -> None:
    ours, theirs = socket.socketpair()
    attendant = Attendant("x", ours, None, lambda: None)
    theirs.setblocking(False)
    frame = encoded([(1, b"x" * 60_000)])
    sent = 0
    while select.select([], [theirs], [], 0.2)[1]:
        sent += theirs.send(frame[sent % len(frame) :])
    before = threading.active_count()
    attendant.close()
    assert threading.active_count() == before - 1
    theirs.close()


def test_an_address_that_cannot_be_reached_is_told_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.standalone.invoker.docker_streams.UNREACHABLE_S", -1.0)
    ours, theirs = socket.socketpair()
    attendant = Attendant("x", ours, ("255.255.255.255", 8080), lambda: None)
    assert readable(attendant.ready) and os.read(attendant.ready, 9) == b""
    assert b"255.255.255.255:8080" in os.read(attendant.streams[1], 999)
    theirs.close()
    attendant.close()
