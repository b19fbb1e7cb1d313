"""The node socket: what counts as a report, and whose it is."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_agent.telemetry.reports import Report, ReportSocket, SocketInUse, parse
from tests.rm_agent.conftest import until

GOOD = {
    "v": 1,
    "event": "start",
    "phase": "run",
    "container": "wsk0_3_guest_hello",
    "action": "/guest/hello",
    "version": "0.0.1",
    "activation": "0123456789abcdef" * 2,
    "inflight": 1,
    "input_bytes": 12,
}


def test_a_report_is_understood() -> None:
    assert parse(json.dumps(GOOD).encode()) == Report("start", "run", "/guest/hello", "0123456789abcdef" * 2, 1, 12)


def test_init_has_no_activation_yet() -> None:
    report = parse(json.dumps(GOOD | {"phase": "init", "activation": None}).encode())
    assert report is not None and report.activation == ""


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"event": "middle"},
        {"event": ["start"]},
        {"phase": None},
        {"action": 7},
        {"action": "hello"},
        {"activation": "../../etc"},
        {"inflight": -1},
        {"inflight": True},
        {"input_bytes": 1e300},
    ],
)
def test_anything_else_is_not_a_report(change: dict[str, object]) -> None:
    assert parse(json.dumps(GOOD | change).encode()) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    assert parse(data) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
def test_no_json_breaks_the_parser(change: dict[str, object]) -> None:
    report = parse(json.dumps(GOOD | change).encode())
    assert report is None or (report.event in ("start", "end") and report.inflight >= 0)


def test_the_kernel_says_who_sent_it(tmp_path: Path) -> None:
    reports = ReportSocket(tmp_path / "node.sock")
    seen: list[tuple[Report, str, float]] = []
    pids: list[int] = []

    def group_of(pid: int) -> str | None:
        pids.append(pid)
        return "root/one"

    thread = threading.Thread(target=reports.listen, args=(group_of, lambda *report: seen.append(report)))
    thread.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for datagram in (b"garbage", b"", b"x" * 5000, json.dumps(GOOD).encode()):
            sender.sendto(datagram, str(reports.path))
        # Descriptors that come along are closed, not kept.
        before = len(os.listdir("/proc/self/fd"))
        sender.connect(str(reports.path))
        socket.send_fds(sender, [json.dumps(GOOD).encode()], [0, 0, 0])
        until(lambda: len(seen) == 2)
        assert len(os.listdir("/proc/self/fd")) == before
    reports.close()
    thread.join(2)
    assert seen[0][1] == "root/one" and set(pids) == {os.getpid()}
    assert reports.malformed == 3
    assert not reports.path.exists()


def test_a_socket_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    reports = ReportSocket(path)
    with pytest.raises(SocketInUse, match="another agent listens"):
        ReportSocket(path)
    reports.close()


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "node.sock").write_text("precious")
    with pytest.raises(SocketInUse, match="is not a socket"):
        ReportSocket(tmp_path / "node.sock")
    assert (tmp_path / "node.sock").read_text() == "precious"


def test_a_path_too_long_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SocketInUse, match="cannot listen"):
        ReportSocket(tmp_path / ("x" * 120))
