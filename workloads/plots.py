"""The plots of the report, as SVG that takes the page's own text colour (and so suits light and dark)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from workloads.bench.compare import Pair, Row, accelerated, donor

OFF, ON, LENT, TAKEN, MEMORY = "#9a9ea6", "#2f81f7", "#2da44e", "#d4762c", "#a371f7"
# Stands for the page's text colour until the SVG is finished; no plot uses it for anything else.
TEXT = "#012345"
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    **{
        key: TEXT
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    },
}


def speed(pairs: Sequence[Pair]) -> str:
    """Distribution of on/off of each call's completion time: all, those lent to, those in donors."""
    calls = [both for pair in pairs for both in pair.answered()]
    kinds = (
        ("all calls", TEXT, 2.2, calls),
        ("accelerated", LENT, 1.8, [both for both in calls if accelerated(both[1])]),
        ("in donors, not accelerated", TAKEN, 1.8, [both for both in calls if donor(both[1])]),
    )
    with drawing("speed", 6.0, 3.6) as (figure, holder):
        axes = figure.subplots()
        for label, colour, width, chosen in kinds:
            if chosen:
                ratios = np.sort([on.completion_ms / off.completion_ms for off, on in chosen])
                axes.step(
                    ratios,
                    np.arange(1, len(ratios) + 1) / len(ratios),
                    where="post",
                    color=colour,
                    lw=width,
                    label=f"{label} ({len(ratios)})",
                )
        axes.axvline(1, color=TEXT, lw=0.8, ls=(0, (4, 3)), alpha=0.6)
        axes.set_xscale("log")
        axes.set_xlim(0.1, 10)
        axes.set_ylim(0, 1)
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("completion time, manager on / off  (left of 1: faster)")
        axes.set_ylabel("share of calls")
        axes.legend(loc="upper left", fontsize=8.5)
    return holder[0]


def functions(rows: Sequence[Row]) -> str:
    """Mean and P99 of each function, off and on, on one logarithmic scale."""
    shown = [row for row in rows if row.action != "all"][::-1]
    with drawing("functions", 6.0, 0.34 * len(shown) + 1.0) as (figure, holder):
        axes = figure.subplots()
        for place, row in enumerate(shown):
            for values, size in ((row.mean, 46), (row.p99, 34)):
                seconds = [value / 1000 for value in values]
                mean = values is row.mean
                for value, colour, shift in zip(seconds, (OFF, ON), (0.16, -0.16)):
                    axes.scatter(
                        value,
                        place + shift,
                        s=size,
                        zorder=3,
                        facecolor=colour if mean else "none",
                        edgecolor=colour,
                        linewidth=1.5,
                    )
            for values, colour, shift in ((0, OFF, 0.16), (1, ON, -0.16)):
                axes.plot(
                    [row.mean[values] / 1000, row.p99[values] / 1000],
                    [place + shift] * 2,
                    color=colour,
                    lw=1.5,
                    alpha=0.55,
                )
        axes.set_yticks(range(len(shown)), [short(row.action) for row in shown])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("completion time: filled = mean, open = P99")
        handles = [axes.scatter([], [], s=46, color=colour) for colour in (OFF, ON)]
        axes.legend(
            handles, ["manager off", "manager on"], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8.5
        )
    return holder[0]


def timeline(pair: Pair, seconds: float) -> str:
    """Calls that come, how busy the machine is, and what is lent, over one pair of replays."""
    with drawing("timeline", 12.4, 5.0) as (figure, holder):
        arrivals, busy, lent = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.2, 1.2])
        width = max(1.0, round(seconds / 75))
        times = [call.scheduled_s for call in pair.on.invocations]
        arrivals.hist(times, bins=np.arange(0, seconds + width, width), color=OFF, edgecolor="none", rwidth=0.86)
        arrivals.set_ylabel(f"calls in {width:g} s")
        for run, colour, label in ((pair.off, OFF, "manager off"), (pair.on, ON, "manager on")):
            if run.cpu:
                at, percent = zip(*run.cpu)
                busy.plot(at, np.asarray(percent) / 100, color=colour, lw=1.5, label=label)
        busy.set_ylim(0, 1.05)
        busy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        busy.set_ylabel("machine's CPU busy")
        _legend(busy)
        if pair.on.timeline:
            at, _, _, cpu, memory = map(np.asarray, zip(*pair.on.timeline))
            lent.fill_between(at, cpu / 1000, step="post", color=LENT, alpha=0.3, lw=0)
            lent.step(at, cpu / 1000, where="post", color=LENT, lw=1.5)
            beside = lent.twinx()
            beside.step(at, memory, where="post", color=MEMORY, lw=1.2)
            beside.set_ylabel("MiB lent", color=MEMORY)
            beside.set_ylim(0, max(64.0, 1.1 * memory.max()))
            beside.grid(visible=False)
            beside.spines["top"].set_visible(False)
        lent.set_ylim(bottom=0)
        lent.set_ylabel("cores lent", color=LENT)
        lent.set_xlabel("seconds")
        lent.set_xlim(0, max([seconds, *(call.finished_s for call in pair.off.invocations + pair.on.invocations)]))
    return holder[0]


def arrivals(pair: Pair) -> str:
    """Every call of the trace by function and time, coloured by what the manager did to it."""
    names = sorted({call.action for call in pair.on.invocations}, reverse=True)
    with drawing("arrivals", 12.4, 0.27 * len(names) + 1.0) as (figure, holder):
        axes = figure.subplots()
        kinds = (
            ("left as it is", OFF, lambda call: not accelerated(call) and not donor(call)),
            ("in a donor", TAKEN, donor),
            ("accelerated", LENT, accelerated),
        )
        for label, colour, test in kinds:
            chosen = [call for call in pair.on.invocations if test(call)]
            axes.scatter(
                [call.scheduled_s for call in chosen],
                [names.index(call.action) for call in chosen],
                s=22,
                marker="|",
                color=colour,
                linewidth=1.4,
                label=label,
            )
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds")
        _legend(axes)
    return holder[0]


def short(action: str) -> str:
    """The name without its package, in words."""
    return action.rpartition("/")[2].replace("_", " ")


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=3, fontsize=8.5, borderaxespad=0.1)


@contextmanager
def drawing(name: str, width: float, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; when the block ends, the list beside it holds its SVG."""
    holder: list[str] = []
    # Ids are made from the salt: several of these share a page, and equal data give equal files.
    with plt.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = plt.figure(figsize=(width, height))
        try:
            yield figure, holder
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(figure)
    holder.append(_inline(text.getvalue(), name))


def _inline(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" class="plot" data-plot="{name}"', svg, count=1)
    # Names such as line2d_7 come back in every plot and nothing refers to them; references are made of hashes.
    svg = re.sub(r' id="[A-Za-z0-9_.]+_\d+"', "", svg)
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    # SVG has text black unless it is told otherwise.
    return svg.replace(TEXT, "currentColor").replace("<text ", '<text fill="currentColor" ')
