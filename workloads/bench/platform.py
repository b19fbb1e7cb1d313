"""`owl bench platform`: does the embedded OpenWhisk answer as OpenWhisk does, how fast, and does it lose anything?

Five parts, each on servers of its own: the recordings of a running OpenWhisk, warm calls, cold starts, a soak under
kills, and fuzzing. Clients run in processes of their own. Finished parts are kept until the benchmark is complete:
``resume`` does only those that are missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from workloads.bench import BenchError
from workloads.bench.document import document, write
from workloads.bench.platform_figures import figures
from workloads.bench.platform_fuzz import fuzz
from workloads.bench.platform_replay import replay, transcripts
from workloads.bench.platform_soak import soak
from workloads.bench.platform_speed import STEM_CELLS, cold, warm
from workloads.bench.platform_table import summary
from workloads.bench.running import terminable, writable
from workloads.bench.store import Store

Part = Literal["replay", "warm", "cold", "soak", "fuzz"]
PARTS: tuple[Part, ...] = get_args(Part)
FULL = {
    "rounds": 5, "calls": 2000, "seconds": 12.0, "idle_connections": 2000, "cold_trials": 30,
    "activations": 20_000, "server_kills": 24, "requests": 100_000,
}  # fmt: skip
QUICK = {
    "rounds": 3, "calls": 400, "seconds": 3.0, "idle_connections": 1000, "cold_trials": 8,
    "activations": 1000, "server_kills": 3, "requests": 2000,
}  # fmt: skip


def run(
    *,
    quick: bool = False,
    json: Path | None = None,
    report: Path | None = None,
    console: Console,
    only: Part | None = None,
    seed: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Measure, print a table, and return the document.

    Args:
        only: one part alone; the figures of the others are then null.
        seed: number that fixes the kills, the calls of the soak, and the requests of the fuzzing.
        resume: continue with the finished parts of an interrupted benchmark of the same settings.

    Raises:
        BenchError: the settings name no part, or the platform does not work here.
    """
    if only is not None and only not in PARTS:
        raise BenchError(f"--only must be one of {', '.join(PARTS)}")
    settings = {
        **(QUICK if quick else FULL),
        "memory_mib": 128,
        "stem_cells": STEM_CELLS,
        "seed": seed,
        "parts": only or "all",
        "recordings": transcripts() is not None,
        "quick": quick,
    }
    for folder in (json and json.parent, report):
        writable(folder)
    with terminable(), Store("platform", settings, resume) as store:
        if resume and not store.continued:
            console.print(
                "Nothing to continue: no interrupted run has these settings and this code. All parts are run."
            )
        try:
            samples = _measure([only] if only else list(PARTS), settings, store, console)
        except KeyboardInterrupt:
            kept = f"{len(store)} of the parts are kept; --resume continues with the others"
            console.print(f"Stopped: {kept if len(store) else 'no part was finished, nothing is kept'}.")
            raise
        result = document("platform", settings, figures(samples), samples)
        summary(console, result)
        if json:
            write(json, result)
            console.print(f"Figures and samples: {json}")
        if report:
            from workloads.bench.platform_page import write_page  # matplotlib takes a second to import

            console.print(f"Report: {write_page(result, report)}")
        store.complete()
    return result


def _measure(parts: list[str], settings: dict[str, Any], store: Store, console: Console) -> dict[str, Any]:
    samples: dict[str, Any] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description:<52}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for part in parts:
            task = progress.add_task(part, total=None)
            saved = store.load(part)
            if saved is None:
                samples[part] = _part(part, settings, store.folder / part, _Shown(progress, task, part))
                store.save(part, {"samples": samples[part]})
            else:
                samples[part] = saved["samples"]
            progress.update(task, description=f"{part}: done", total=1, completed=1)
    return samples


def _part(part: str, settings: dict[str, Any], work: Path, shown: _Shown) -> dict[str, Any] | None:
    if part == "soak":
        return soak(settings, work, lambda text, done: shown(text, done, settings["activations"]))
    if part == "fuzz":
        return fuzz(settings, work, lambda done: shown("requests", done, settings["requests"]))
    return {"replay": replay, "warm": warm, "cold": cold}[part](settings, work, shown)


class _Shown:
    """Tells how far a part is."""

    def __init__(self, progress: Progress, task: Any, part: str) -> None:
        self._progress, self._task, self._part = progress, task, part

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self._progress.update(self._task, description=f"{self._part}: {text}", completed=done, total=total)
