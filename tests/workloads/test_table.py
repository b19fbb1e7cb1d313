from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.workloads.runs import RESOURCES, pair_of_runs
from workloads.bench.compare import Run, figures
from workloads.bench.table import number, summary


def printed(runs: list[Run]) -> str:
    text = io.StringIO()
    values, intervals = figures(runs, 0.0, 1.0)
    summary(Console(file=text, width=200), runs, RESOURCES, values, intervals)
    return text.getvalue()


def test_every_function_and_every_figure_has_a_line() -> None:
    text = printed(pair_of_runs())
    for name in (*RESOURCES, "all", "mean_reduction", "run_seconds"):
        assert name in text
    assert "95 %" in text and "failed " not in text.replace("failed  ", "")


def test_failures_are_told_with_their_reason() -> None:
    runs = pair_of_runs()
    for call in runs[0].invocations[:2]:
        call.status, call.error = "refused", "429 Too many requests [count: 61]"
    text = printed(runs)
    assert "1 x faasrm/arithmetic, manager off: 429 Too many requests [count: 61]" in text


def test_nothing_answered_is_no_crash() -> None:
    runs = pair_of_runs(calls=3)
    for call in runs[1].invocations:
        call.status = "refused"
    assert "faasrm/arithmetic" in printed(runs)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (3.0, "3"), (0.123456, "0.1235"), (12345.6, "12,346"), (float("nan"), "-")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
