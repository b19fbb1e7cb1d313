"""Benchmarks by name, one module each; `owl bench NAME` runs them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

BENCHES = {
    "platform": "whether the embedded OpenWhisk answers as OpenWhisk does, how fast, and what survives kills",
    "loop": "the same bursty trace on the whole platform, without and with the resource manager",
}


class BenchError(Exception):
    """A benchmark cannot be run as asked; ``str()`` is one line that says why and what to do."""


def run(
    name: str,
    *,
    quick: bool = False,
    json: Path | None = None,
    report: Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run benchmark ``name`` and return its document (``bench, commit, date, machine, settings, figures, samples``).

    Args:
        quick: fewer and shorter runs, the same keys.
        json: file for the document.
        report: folder for ``report.html``.
        console: where progress and the table go; the terminal by default.
        options: those of the benchmark's own ``run``.

    Raises:
        BenchError: unknown name, or a platform, function or file that does not work.
    """
    if name not in BENCHES:
        raise BenchError(f"there is no benchmark {name!r}; there is: {', '.join(sorted(BENCHES))}")
    module = import_module(f"workloads.bench.{name}")
    return module.run(quick=quick, json=json, report=report, console=console or Console(), **options)
