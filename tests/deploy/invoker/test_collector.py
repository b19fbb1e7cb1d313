"""Whose log a container's output is, however the bytes arrive."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from deploy.standalone.invoker.collector import Demultiplexer, SoleCollector
from deploy.standalone.invoker.logs import LEFT_OUT, SENTINEL, STDERR, STDOUT, ActivationLog

A, B, STRANGER = "a" * 32, "b" * 32, "0123456789abcdef" * 2
END = SENTINEL + b"\n"


def tag(activation: str) -> bytes:
    return b"\x01" + activation.encode() + b" "


def opened(*activations: str) -> tuple[Demultiplexer, list[ActivationLog]]:
    collector, logs = Demultiplexer(), []
    for activation in activations:
        logs.append(ActivationLog(1 << 20))
        collector.open(activation, logs[-1])
    return collector, logs


def texts(log: ActivationLog) -> list[str]:
    return [line[31:].removeprefix("stdout: ") for line in log.finish()]


def test_with_one_place_all_output_is_the_activations() -> None:
    collector, log = SoleCollector(), ActivationLog(1 << 20)
    collector.feed(STDERR, b"no interpreter\n")
    assert collector.tail == b"no interpreter\n"
    collector.open(A, log)
    assert not collector.feed(STDOUT, b"hello\n" + END)
    assert list(collector.feed(STDERR, END)) == [A]
    assert texts(log) == ["hello"]


def test_tagged_lines_and_sentinels_go_to_their_activations() -> None:
    collector, (a, b) = opened(A, B)
    collector.feed(STDOUT, tag(A) + b"one\n" + tag(B) + b"two\n" + tag(A) + b"three\n" + tag(A) + END + tag(B) + b"fo")
    assert list(collector.feed(STDERR, tag(A) + END)) == [A]
    collector.feed(STDOUT, b"ur\n" + tag(B) + END)
    assert list(collector.feed(STDERR, tag(B) + END)) == [B]
    assert (texts(a), texts(b)) == (["one", "three"], ["two", "four"])


def test_untagged_bytes_without_a_newline_do_not_hide_a_tag() -> None:
    collector, (a,) = opened(A)
    collector.feed(STDOUT, b"50 %")
    collector.feed(STDOUT, tag(A) + b"tagged\n" + b"70 %" + tag(A) + END)
    collector.feed(STDERR, tag(A) + END)
    assert texts(a) == ["50 %", "tagged", "70 %"]


def test_an_untagged_line_stays_with_who_was_alone_as_it_began() -> None:
    collector, (a,) = opened(A)
    collector.feed(STDOUT, b"from a ")
    b = ActivationLog(1 << 20)
    collector.open(B, b)
    collector.feed(STDOUT, b"child\n" + tag(B) + b"mine\n")
    assert (texts(a), texts(b)) == (["from a child"], ["mine"])


def test_an_untagged_line_of_several_is_nobodys_and_each_is_told_once() -> None:
    collector, logs = opened(A, B)
    for _ in range(3):
        collector.feed(STDOUT, b"whose is this?\n")
    for log in logs:
        assert texts(log) == [f"stderr: {LEFT_OUT}"]


def test_a_stranger_s_line_is_nobodys_and_no_reason_to_tell() -> None:
    collector, (a,) = opened(A)
    collector.feed(STDOUT, tag(STRANGER) + b"a thread of an activation that is over\n" + tag(A) + b"x\n")
    assert texts(a) == ["x"]


def test_what_only_looks_like_a_tag_is_text() -> None:
    collector, (a,) = opened(A)
    looks = [b"say " + tag(STRANGER) + b"!", b"\x01" + b"A" * 32 + b" !", b"\x01abc", b"\x01" * 40]
    collector.feed(STDOUT, b"".join(tag(A) + text + b"\n" for text in looks) + tag(A) + END)
    assert texts(a) == [text.decode() for text in looks]


def test_sentinels_without_tags_end_who_was_answered_first_then_the_oldest() -> None:
    c = "c" * 32
    collector, _ = opened(A, B, c)
    collector.answered(c)
    collector.answered(B)
    collector.feed(STDOUT, END * 2)
    assert list(collector.feed(STDERR, END)) == [c]
    assert list(collector.feed(STDERR, SENTINEL)) == []
    assert list(collector.feed(STDERR, b"\n")) == [B]
    collector.close(c)
    collector.close(B)
    collector.feed(STDOUT, END)
    assert list(collector.feed(STDERR, END)) == [A]


def test_a_line_too_long_for_one_write_may_have_a_sentinel_in_it() -> None:
    collector, (a, b) = opened(A, B)
    collector.feed(STDOUT, tag(A) + b"x" * 5000 + tag(B) + END + b"x" * 10 + b"\n" + tag(A) + END)
    collector.feed(STDERR, tag(B) + END + tag(A) + END)
    assert a.complete and b.complete
    assert texts(a)[0] == "x" * 5000


TEXT = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b"").replace(b"\x01", b""))
NEARLY = st.sampled_from([b"\x01", tag(A)[:-1], tag(A)[:10], b"\x01" + b"G" * 32 + b" ", SENTINEL[:20], tag(STRANGER)])
LINE = (
    st.lists(TEXT | NEARLY, max_size=3)
    .map(b"".join)
    .filter(lambda text: not text.endswith(SENTINEL) and tag(A) not in text and tag(B) not in text)
)
LINES = st.lists(st.tuples(st.sampled_from([A, B]), LINE), max_size=12)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(place % (len(data) + 1) for place in cuts)
    return [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])]


@given(LINES, st.lists(st.integers(0, 5000), max_size=10))
def test_however_the_bytes_are_cut_each_gets_its_lines(lines: list[tuple[str, bytes]], cuts: list[int]) -> None:
    collector, logs = opened(A, B)
    stream = b"".join(tag(activation) + text + b"\n" for activation, text in lines) + tag(B) + END + tag(A) + END
    collector.feed(STDERR, tag(A) + END + tag(B) + END)
    completed = [activation for part in cut(stream, cuts) for activation in collector.feed(STDOUT, part)]
    assert completed == [B, A] or (completed == [A, B] and logs[0].complete)
    for activation, log in zip((A, B), logs):
        assert texts(log) == [text.decode(errors="replace") for of, text in lines if of == activation]


GARBAGE = st.lists(
    st.binary(max_size=50)
    | st.sampled_from([b"\n", b"\x01", tag(A), tag(B), tag(STRANGER), SENTINEL, END, tag(A)[:20]]),
    max_size=25,
).map(b"".join)


@given(GARBAGE, st.lists(st.integers(0, 2000), max_size=8))
def test_garbage_neither_breaks_nor_mixes(garbage: bytes, cuts: list[int]) -> None:
    """What stands between two tags of A in one line is never B's, wherever the chunks end."""
    whole, parts = opened(A, B), opened(A, B)
    mark = b"\n" + tag(A) + b"of a\n" + tag(B) + b"of b\n"
    whole[0].feed(STDOUT, garbage + mark)
    for part in cut(garbage + mark, cuts):
        parts[0].feed(STDOUT, part)
    for activation, one, other in zip("ab", whole[1], parts[1]):
        there = one.ended(STDOUT)
        assert there == other.ended(STDOUT)
        lines, same = texts(one), texts(other)
        assert sorted(lines) == sorted(same)
        assert there or f"of {activation}" in lines
        assert f"of {'b' if activation == 'a' else 'a'}" not in lines
