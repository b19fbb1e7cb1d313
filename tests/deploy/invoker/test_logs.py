"""Log lines of an activation out of two byte streams."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone.invoker.logs import LOST, NOT_AS_EXPECTED, SENTINEL, STDERR, STDOUT, ActivationLog, timestamp

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr): (.*)", re.DOTALL)
END = SENTINEL + b"\n"


def texts(lines: list[str]) -> list[tuple[str, str]]:
    return [LINE.fullmatch(line).groups() for line in lines]


def test_the_time_is_padded_to_thirty_characters() -> None:
    assert timestamp(1_795_390_696_440_937_896) == "2026-11-22T23:38:16.440937896Z"
    assert len(timestamp(5)) == 30


def test_lines_of_both_streams_end_with_the_sentinels() -> None:
    log = ActivationLog(1 << 20)
    log.feed(STDOUT, b"hello\nw\xc3\xa4")
    log.feed(STDERR, b"oops\n" + END)
    assert not log.complete
    log.feed(STDOUT, b"lt\n" + END + b"the next activation")
    assert log.complete
    assert texts(log.finish()) == [("stdout", "hello"), ("stderr", "oops"), ("stdout", "wält")]


def test_output_without_a_final_newline_is_kept() -> None:
    log = ActivationLog(1 << 20)
    log.feed(STDOUT, b"no newline" + END)
    log.feed(STDERR, END)
    assert texts(log.finish()) == [("stdout", "no newline")]


def test_what_is_unfinished_when_the_container_dies_is_kept() -> None:
    log = ActivationLog(1 << 20)
    log.feed(STDOUT, b"last wor")
    assert texts(log.finish(failed=True)) == [("stdout", "last wor"), ("stderr", NOT_AS_EXPECTED)]


def test_missing_sentinels_are_told() -> None:
    assert texts(ActivationLog(1 << 20).finish(lost=True)) == [("stderr", LOST)]


def test_more_than_the_limit_is_truncated_with_a_notice() -> None:
    log = ActivationLog(160)
    for stream in (STDOUT, STDERR):
        for _ in range(5):
            log.feed(stream, b"0123456\n")
        log.feed(stream, END)
    assert log.complete
    *kept, notice = texts(log.finish())
    assert kept == [("stdout", "0123456")] * 2
    assert notice == ("stderr", "Logs were truncated because the total bytes size exceeds the limit of 160 bytes.")


def test_a_line_in_very_many_pieces_costs_no_more_than_its_length() -> None:
    log, before = ActivationLog(10 << 20), time.process_time()
    for _ in range(60_000):
        log.feed(STDOUT, b"." * 100)
    assert time.process_time() - before < 2  # with a copy of the whole for each piece it is a minute
    log.feed(STDOUT, b"\n" + END)
    log.feed(STDERR, END)
    assert "".join(text for _, text in texts(log.finish())) == "." * 6_000_000


@pytest.mark.parametrize(
    ("length", "pieces"), [(16_383, [16_383]), (16_384, [16_384, 0]), (40_000, [16_384, 16_384, 7_232])]
)
def test_a_long_line_becomes_several_as_in_docker(length: int, pieces: list[int]) -> None:
    for size in (length + 1, 1000):
        log = ActivationLog(1 << 20)
        data = b"." * length + b"\n"
        for start in range(0, len(data), size):
            log.feed(STDOUT, data[start : start + size])
        log.feed(STDOUT, END)
        log.feed(STDERR, END)
        assert [len(text) for _, text in texts(log.finish())] == pieces


def test_lines_of_one_character_do_not_slip_below_the_limit() -> None:
    log = ActivationLog(100_000)
    log.feed(STDOUT, b"x\n" * 40_000 + END)
    log.feed(STDERR, END)
    *kept, _ = log.finish()
    assert len(kept) == 100_000 // 72  # bytes that Docker's log file has for such a line


def test_an_endless_line_does_not_hide_the_sentinel() -> None:
    log = ActivationLog(1000)
    for _ in range(100):
        log.feed(STDOUT, b"x" * 1000)
    log.feed(STDOUT, SENTINEL[:10])
    log.feed(STDOUT, SENTINEL[10:] + b"\n")
    log.feed(STDERR, END)
    assert log.complete
    assert len(log.finish()) == 1


def test_a_limit_of_zero_collects_nothing_and_waits_for_nothing() -> None:
    log = ActivationLog(0)
    assert log.complete
    log.feed(STDOUT, b"hello\n")
    assert log.finish(failed=True) == []


def test_what_comes_after_the_end_does_not_change_the_lines() -> None:
    log = ActivationLog(1 << 20)
    log.feed(STDOUT, b"in time\n")
    lines = log.finish(lost=True)
    log.feed(STDOUT, b"too late\n")
    assert texts(lines) == [("stdout", "in time"), ("stderr", LOST)]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), max_size=8), st.data())
def test_however_the_bytes_are_cut_the_lines_are_the_same(lines: list[str], data: st.DataObject) -> None:
    stream = "".join(line + "\n" for line in lines).encode() + END
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    log = ActivationLog(1 << 20)
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        log.feed(STDOUT, stream[start:end])
    log.feed(STDERR, END)
    assert log.complete
    assert [text for _, text in texts(log.finish())] == lines
