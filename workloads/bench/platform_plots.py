"""The plots of the report of `owl bench platform`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from workloads.bench.platform_figures import FIGURES
from workloads.plots import LENT, MEMORY, OFF, ON, TAKEN, TEXT, drawing


def latency(warm: Mapping[str, Any]) -> str:
    """Distribution of the time of a call: 1 and 16 clients, beside OpenWhisk's P50 and P99."""
    kinds = [
        ("1 client", ON, [ms for one in warm["rounds"] for ms in one], ("warm_p50_ms", "warm_p99_ms")),
        (
            "16 clients",
            TAKEN,
            [ms for one in warm["rounds_16"] for ms in one["ms"]],
            ("warm_16_p50_ms", "warm_16_p99_ms"),
        ),
    ]
    with drawing("latency", 6.0, 3.6) as (figure, holder):
        axes = figure.subplots()
        for label, colour, ms, references in kinds:
            times = np.sort(ms)
            axes.step(times, np.arange(1, len(times) + 1) / len(times), where="post", color=colour, lw=2, label=label)
            axes.scatter(
                [FIGURES[key].openwhisk for key in references],
                [0.5, 0.99],
                color=colour,
                marker="x",
                zorder=3,
                label=f"OpenWhisk, {label} (P50, P99)",
            )
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("time of a blocking call in ms")
        axes.set_ylabel("share of calls")
        axes.legend(loc="lower right", fontsize=8.5)
    return holder[0]


def starts(cold: Mapping[str, Any]) -> str:
    """Every trial of a cold start by what it found."""
    kinds = [
        ("stem cell, Python", cold["python"]),
        ("stem cell, Node.js", cold["nodejs"]),
        ("no stem cell", cold["without_stem_cell"]),
    ]
    kinds = [(label, ms) for label, ms in kinds if ms][::-1]
    reference = FIGURES["cold_without_stem_cell_ms"].openwhisk
    with drawing("starts", 6.0, 3.6) as (figure, holder):
        axes = figure.subplots()
        rng = np.random.default_rng(0)
        for place, (_, ms) in enumerate(kinds):
            axes.scatter(ms, place + rng.uniform(-0.12, 0.12, len(ms)), s=22, color=ON, alpha=0.6, linewidth=0)
            axes.plot([np.median(ms)] * 2, [place - 0.28, place + 0.28], color=TEXT, lw=2)
        axes.axvline(reference, color=OFF, lw=1.2, ls=(0, (4, 3)))
        axes.annotate(
            "OpenWhisk",
            (reference, len(kinds) - 0.55),
            color=OFF,
            ha="right",
            fontsize=8.5,
            xytext=(-4, 0),
            textcoords="offset points",
        )
        axes.set_yticks(range(len(kinds)), [label for label, _ in kinds])
        axes.set_ylim(-0.6, len(kinds) - 0.4)
        axes.set_xlim(0, 1.08 * max(reference, *(max(ms) for _, ms in kinds)))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("first call of a new action in ms; the bar is the median")
    return holder[0]


def kills(soak: Mapping[str, Any]) -> str:
    """Calls answered per second of the soak, and every kill."""
    at, answered, repeated = map(np.asarray, zip(*soak["timeline"]))
    server = [second for second, what in soak["kills"] if what == "server"]
    containers = [second for second, what in soak["kills"] if what != "server"]
    with drawing("kills", 12.4, 3.2) as (figure, holder):
        axes = figure.subplots()
        axes.fill_between(at, answered, step="post", color=LENT, alpha=0.3, lw=0)
        axes.step(at, answered, where="post", color=LENT, lw=1.5, label="calls answered in a second")
        axes.step(at, repeated, where="post", color=TAKEN, lw=1.5, label="of them sent more than once")
        top = 1.12 * max(1, answered.max())
        for second in server:
            axes.axvline(second, color=MEMORY, lw=1.1, alpha=0.85)
        axes.plot([], [], color=MEMORY, lw=1.1, label=f"server killed ({len(server)})")
        axes.scatter(
            containers,
            [0.97 * top] * len(containers),
            marker="|",
            s=40,
            color=OFF,
            label=f"container killed ({len(containers)})",
        )
        axes.set_ylim(0, top)
        axes.set_xlim(0, max(at[-1] + 1, *(second for second, _ in soak["kills"])) if soak["kills"] else at[-1] + 1)
        axes.set_xlabel("seconds")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4, fontsize=8.5, borderaxespad=0.1)
    return holder[0]


def answers(statuses: Mapping[str, int]) -> str:
    """How often each status answered the fuzzing."""
    names: Sequence[str] = list(statuses)
    with drawing("answers", 12.4, 2.4) as (figure, holder):
        axes = figure.subplots()
        colours = [TAKEN if name.startswith("5") else ON if name.startswith("4") else LENT for name in names]
        bars = axes.bar(range(len(names)), list(statuses.values()), color=colours, width=0.7)
        axes.bar_label(bars, labels=[f"{count:,}" for count in statuses.values()], fontsize=8.5, color=TEXT)
        axes.set_xticks(range(len(names)), names)
        axes.set_yscale("log")
        axes.set_ylim(0.7, 4 * max(statuses.values(), default=1))
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("answers")
    return holder[0]
