"""What `owl bench loop` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from workloads.bench.compare import Row, Run, failures, rows
from workloads.stats import Estimate, percentile


def summary(
    console: Console,
    runs: Sequence[Run],
    resources: Mapping[str, Mapping[str, int]],
    figures: Mapping[str, float],
    intervals: Mapping[str, Estimate],
) -> None:
    """Print a row per function, every failure by its reason, and the figures with their intervals."""
    table = Table(
        title="Completion time in ms, manager off > on", box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left",
        caption="calls, failures and cost per run; harvested/lent: share of calls; cost as OpenWhisk bills: own allocation x duration",
    )  # fmt: skip
    table.add_column("function")
    for title in ("calls", "mean", "P50", "P99", "on/off", "harvested", "lent to", "cold", "failed", "GB-s", "vCPU-s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows(runs, resources):
        if row.action == "all":
            table.add_section()
        table.add_row(*_cells(row))
    console.print(table)
    _failures(console, runs)
    figure_table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in figures.items():
        interval = intervals.get(key)
        figure_table.add_row(
            key,
            number(value),
            f"95 %: {number(interval.low)} to {number(interval.high)}"
            if interval and not math.isnan(interval.low)
            else "",
        )
    console.print(figure_table)


def served(console: Console, runs: Sequence[Run]) -> None:
    """Print how long the calls of each function took, where there is nothing to compare them with."""
    table = Table(title="Completion time in ms", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("function")
    for title in ("calls", "mean", "P50", "P99", "cold", "failed"):
        table.add_column(title, justify="right", no_wrap=True)
    calls = [call for run in runs for call in run.invocations]
    for action in sorted({call.action for call in calls}):
        of_action = [call for call in calls if call.action == action]
        times = [call.completion_ms for call in of_action if call.ok] or [math.nan]
        cells = (sum(times) / len(times), percentile(times, 50), percentile(times, 99))
        cold, failed = sum(call.init_ms is not None for call in of_action), sum(not call.ok for call in of_action)
        table.add_row(action, *map(number, (len(of_action), *cells, cold, failed)))
    console.print(table)
    _failures(console, runs)


def _failures(console: Console, runs: Sequence[Run]) -> None:
    for (mode, action, reason), count in failures(runs).items():
        console.print(f"[red]failed[/] {count} x {action}, manager {mode}: ", end="")
        console.print(reason, markup=False, highlight=False)


def _cells(row: Row) -> list[str]:
    def change(values: tuple[float, float], digits: int = 0) -> str:
        return " > ".join("-" if math.isnan(value) else f"{value:,.{digits}f}" for value in values)

    def share(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.0%}"

    ratio = row.mean_ratio
    colour = "green" if ratio < 0.97 else "red" if ratio > 1.03 else "default"
    return [
        row.action,
        str(row.calls),
        change(row.mean),
        change(row.p50),
        change(row.p99),
        "-" if math.isnan(ratio) else f"[{colour}]{ratio:.2f}[/]",
        share(row.harvested),
        share(row.accelerated),
        change(row.cold),
        change(row.failed),
        change(row.gb_s, 1),
        change(row.vcpu_s, 1),
    ]


def number(value: float) -> str:
    """Four significant digits at most; a dash for what could not be measured."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
