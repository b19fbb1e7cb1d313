"""One self-contained page from the document of `owl bench loop`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from workloads import plots
from workloads.bench.compare import DEFINITIONS, Run, failures, pairs, rows
from workloads.bench.document import write
from workloads.bench.table import number
from workloads.stats import percentile

NAME = "report.html"


@dataclass(frozen=True, slots=True)
class Headline:
    """One large number. ``good`` colours it (None: neither good nor bad)."""

    value: str
    label: str
    detail: str
    good: bool | None = None


def write_report(document: dict[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``, the document's samples beside it as ``loop.json``; returns the page."""
    return save(render(document), document, folder)


def save(text: str, document: dict[str, Any], folder: Path) -> Path:
    """Write the page ``text`` into ``folder``, made if missing, with the document beside it; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / NAME
    page.write_text(text, encoding="utf-8")
    write(folder / f"{document['bench']}.json", document)
    return page


def environment() -> Environment:
    """Templates of the reports; every value in them is escaped."""
    return Environment(
        loader=PackageLoader("workloads"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(document: dict[str, Any]) -> str:
    """The page as HTML. ``document`` is what :func:`workloads.bench.loop.run` returns, or its JSON read back."""
    runs = [Run.from_json(one) for one in document["samples"]["runs"]]
    joined = pairs(runs)
    table = rows(runs, document["settings"]["resources"])
    templates = environment()
    templates.filters["ms"] = _ms
    templates.filters["share"] = _share
    return templates.get_template("report.html.j2").render(
        document=document,
        headlines=headlines(document["figures"], document["samples"]["intervals"]),
        rows=table,
        short=plots.short,
        failures=failures(runs),
        figures={
            key: (_number(value), DEFINITIONS[key], _interval(document, key))
            for key, value in document["figures"].items()
        },
        late_ms=percentile([(call.sent_s - call.scheduled_s) * 1000 for run in runs for call in run.invocations], 99),
        calls=len(joined[0].off.invocations),
        audits=[run for run in runs if run.audit],
        plot={
            "speed": Markup(plots.speed(joined)),
            "functions": Markup(plots.functions(table)),
            "timeline": Markup(plots.timeline(joined[0], document["settings"]["seconds"])),
            "arrivals": Markup(plots.arrivals(joined[0])),
        },
    )


def headlines(figures: dict[str, float | None], intervals: dict[str, dict[str, float]]) -> list[Headline]:
    """The large numbers on top of the page."""

    def between(key: str, percent: bool) -> str:
        bounds = [intervals[key][bound] for bound in (("high", "low") if percent else ("low", "high"))]
        if any(map(_missing, bounds)):
            return "no interval"
        return "95 %: " + " to ".join(_change(bound) if percent else f"{bound:.2f}x" for bound in bounds)

    mean, p99, slowdown = (figures[key] for key in ("mean_reduction", "p99_reduction", "donor_p99_slowdown"))
    return [
        Headline(_change(mean), "mean completion time", between("mean_reduction", True), _sign(mean)),
        Headline(_change(p99), "P99 completion time", between("p99_reduction", True), _sign(p99)),
        Headline(
            "-" if _missing(slowdown) else f"{slowdown:.2f}x",
            "P99 of the donors' calls",
            between("donor_p99_slowdown", False),
            None if _missing(slowdown) else slowdown <= 1.1,
        ),
        Headline(
            _number(figures["oom_kills"]),
            "calls killed by a harvest",
            "out of memory below their own",
            not figures["oom_kills"],
        ),
        Headline(
            _number(figures["conservation_violations"]),
            "violations of conservation",
            "more given out than owned",
            not figures["conservation_violations"],
        ),
        Headline(
            _number(figures["generate_tokens_per_s"]),
            "tokens per second",
            f"LLM function, first token after {_number(figures['generate_ttft_ms'])} ms",
        ),
    ]


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _change(reduction: float | None) -> str:
    return "-" if _missing(reduction) else f"{-reduction:+.0%}".replace("-", "\N{MINUS SIGN}")


def _sign(reduction: float | None) -> bool | None:
    return None if _missing(reduction) or abs(reduction) < 0.01 else reduction > 0


def _number(value: float | None) -> str:
    return "-" if _missing(value) else number(value)


def _interval(document: dict[str, Any], key: str) -> str:
    bounds = document["samples"]["intervals"].get(key)
    return f"{_number(bounds['low'])} to {_number(bounds['high'])}" if bounds and not _missing(bounds["low"]) else ""


def _ms(value: float) -> str:
    return "-" if _missing(value) else f"{value:,.0f}"


def _share(value: float) -> str:
    return "-" if _missing(value) else f"{value:.0%}"
