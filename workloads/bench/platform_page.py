"""One self-contained page from the document of `owl bench platform`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from workloads.bench import platform_plots as plots
from workloads.bench.platform_figures import FIGURES, met
from workloads.bench.platform_table import notes, shown, target
from workloads.report import environment, save

TILES = (
    ("replay_differences", "answers unlike OpenWhisk's", "of {replay_exchanges} recorded exchanges"),
    ("warm_p50_ms", "ms for a warm call, P50", "P99 {warm_p99_ms} ms"),
    ("invocations_per_s_16_clients", "calls per second, 16 clients", "P99 {warm_16_p99_ms} ms"),
    ("cold_ms", "ms for a cold start", "from a stem cell; {cold_without_stem_cell_ms} ms without"),
    (
        "soak_lost",
        "activations lost",
        "of {soak_activations}, {soak_duplicates} twice; server killed {soak_server_kills} times",
    ),
    ("fuzz_500s", "answers of status 500", "to {fuzz_requests} broken requests"),
)


def write_page(document: dict[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``, figures and samples beside it as ``platform.json``; returns the page."""
    return save(render(document), document, folder)


def render(document: dict[str, Any]) -> str:
    """The page as HTML. ``document`` is what the benchmark returns, or its JSON read back."""
    figures, samples = document["figures"], document["samples"]
    text = {key: shown(value) for key, value in figures.items()}
    drawn = {"warm": plots.latency, "cold": plots.starts, "soak": plots.kills}
    plot = {part: Markup(draw(samples[part])) for part, draw in drawn.items() if part in samples}
    if "fuzz" in samples:
        plot["fuzz"] = Markup(plots.answers(samples["fuzz"]["statuses"]))
    return (
        environment()
        .get_template("platform.html.j2")
        .render(
            document=document,
            tiles=[
                (text[key], label, detail.format(**text), met(key, figures[key]))
                for key, label, detail in TILES
                if figures[key] is not None
            ],
            figures=[
                (key, text[key], target(key), shown(FIGURES[key].openwhisk), FIGURES[key].meaning, met(key, value))
                for key, value in figures.items()
            ],
            notes=notes(document),
            files=(samples.get("replay") or {"files": {}})["files"],
            statuses=samples["soak"]["statuses"] if "soak" in samples else {},
            plot=plot,
        )
    )
