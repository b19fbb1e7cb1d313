"""What `owl bench loop` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from workloads.bench.compare import Row, Run, failures, rows
from workloads.stats import Estimate


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
    for (mode, action, reason), count in failures(runs).items():
        console.print(f"[red]failed[/] {count} x {action}, manager {mode}: ", end="")
        console.print(reason, markup=False, highlight=False)
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
