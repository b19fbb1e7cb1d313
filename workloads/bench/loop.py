"""`owl bench loop`: the same bursty trace on the whole platform, without and with the resource manager.

Runs come in pairs, one with the manager off and one with it on, on the same arrivals with the same parameters, each
on a fresh server that was warmed up in the same way; which of the two is first alternates. Pair k replays the trace
of seed ``seed + k - 1``, so that several pairs are also several traces. Finished runs are kept until the benchmark is
complete: ``resume`` does only those that are missing.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rm_agent.cgroup import detect
from rm_agent.journal import JournalError, audit
from workloads import inputs, mix
from workloads.bench import BenchError
from workloads.bench.compare import Run, figures
from workloads.bench.document import ROOT, document, write
from workloads.bench.running import terminable, writable
from workloads.bench.store import Store
from workloads.bench.table import served, summary
from workloads.bench.watch import Watch, attach
from workloads.platform import Platform, PlatformError
from workloads.replay import Request, replay
from workloads.trace import AZURE_FILE, TraceError, azure_profiles, bursty_profiles, place

CORES = 2  # the load is sized for a node of two cores wherever it runs, so that everyone replays the same calls
LOAD = 0.35
SECONDS, QUICK_SECONDS = 150.0, 40.0
PAIRS = 3
WARM_CALLS = 2
NOTICE = (
    "[yellow]No root or no writable control groups: limits are not enforced and nothing can be lent. The functions are "
    "served and timed without the resource manager; run it as root to see what the manager does.[/]"
)
MANIFESTS = (ROOT / "actions" / "manifest.yaml", ROOT / "workloads" / "functions" / "manifest.yaml")


def run(
    *,
    quick: bool = False,
    json: Path | None = None,
    report: Path | None = None,
    console: Console,
    pairs: int | None = None,
    seconds: float | None = None,
    load: float = LOAD,
    seed: int = 1,
    trace: str = "bursty",
    resume: bool = False,
) -> dict[str, Any]:
    """Measure, print a table, and return the document.

    Args:
        pairs: how many traces, each replayed without and with the manager: 3, or 1 when ``quick``.
        seconds: length of one replay: 150, or 40 when ``quick``.
        load: expected CPU work of the trace as a share of two cores.
        seed: number that fixes the trace of the first pair.
        trace: which calls: ``bursty`` (generated) or ``azure`` (the Azure Functions 2019 sample in ``OWL_DATA``).
        resume: continue with the finished runs of an interrupted benchmark of the same settings.

    Without root or writable control groups nothing can be lent: one replay is then made without the manager, with a
    notice, and its times are printed.

    Raises:
        BenchError: the settings make no trace, or the platform or a function does not work here.
    """
    began = time.monotonic()
    settings = {
        "pairs": pairs if pairs is not None else (1 if quick else PAIRS),
        "seconds": seconds if seconds is not None else (QUICK_SECONDS if quick else SECONDS),
        "load": load,
        "cores": CORES,
        "seed": seed,
        "trace": trace,
        "warm_calls": WARM_CALLS,
        "modes": ["off", "on"],
        "quick": quick,
    }
    if settings["pairs"] < 1 or settings["seconds"] <= 0 or not 0 < load <= 1 or trace not in ("bursty", "azure"):
        raise BenchError("pairs and seconds must be positive, load between 0 and 1, trace `bursty` or `azure`")
    enforced = detect() is not None
    if not enforced:
        if json:
            raise BenchError(
                "without root or writable control groups nothing can be lent, so there is nothing to compare; run it as root"
            )
        settings |= {"pairs": 1, "modes": ["off"]}
        console.print(NOTICE)
    for folder in (json and json.parent, report):
        writable(folder)
    with terminable(), Store("loop", settings, resume) as store:
        if resume and not store.continued:
            console.print(
                "Nothing to continue: no interrupted run has these settings and this code. All runs are made."
            )
        runs, resources, earlier_s = _stoppable(settings, store, console)
        if not enforced:
            served(console, runs)
            store.complete()
            return document("loop", settings | {"resources": resources}, {}, {"runs": [one.to_json() for one in runs]})
        values, intervals = figures(runs, _setup_seconds(), earlier_s + time.monotonic() - began)
        samples = {
            "runs": [one.to_json() for one in runs],
            "intervals": {key: asdict(estimate) for key, estimate in intervals.items()},
        }
        result = document("loop", settings | {"resources": resources}, values, samples)
        summary(console, runs, resources, values, intervals)
        if json:
            write(json, result)
            console.print(f"Figures and samples: {json}")
        if report:
            from workloads.report import write_report  # matplotlib takes a second to import

            console.print(f"Report: {write_report(result, report)}")
        store.complete()
    return result


Measured = tuple[
    list[Run], dict[str, dict[str, int]], float
]  # runs, own allocations, seconds spent by an earlier start


def _stoppable(settings: dict[str, Any], store: Store, console: Console) -> Measured:
    try:
        return _measure(settings, store, console)
    except (PlatformError, TraceError, JournalError, inputs.InputsError) as error:
        raise BenchError(str(error)) from error
    except KeyboardInterrupt:
        console.print(
            f"Stopped. {len(store)} of {len(settings['modes']) * settings['pairs']} runs are kept; --resume continues with the others."
        )
        raise


def _measure(settings: dict[str, Any], store: Store, console: Console) -> Measured:
    with console.status("input files"):
        prepared = inputs.prepare(_cache())
    work = mix.mix(prepared)
    runs: list[Run] = []
    resources: dict[str, dict[str, int]] = {}
    earlier_s = 0.0
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for pair in range(1, settings["pairs"] + 1):
            requests = _requests(settings, pair, work)
            for mode in settings["modes"][:: 1 if pair % 2 else -1]:
                saved = store.load(f"{pair}-{mode}")
                if saved is not None:
                    run, resources = Run.from_json(saved["run"]), saved["resources"]
                    earlier_s += run.wall_s
                else:
                    run, resources = _one(pair, mode, requests, work, settings, store.folder, progress)
                    store.save(f"{pair}-{mode}", {"run": run.to_json(), "resources": resources})
                runs.append(run)
    return runs, resources, earlier_s


def _requests(settings: dict[str, Any], pair: int, work: dict[str, mix.Work]) -> list[Request]:
    expected = {action: one.cpu_s for action, one in work.items()}
    seed = settings["seed"] + pair - 1
    if settings["trace"] == "azure":
        data = os.environ.get("OWL_DATA")
        if not data:
            raise TraceError("OWL_DATA must name the folder that holds azure_functions_2019/1000_inv.csv")
        profiles = azure_profiles(Path(data) / AZURE_FILE, expected, seed)
    else:
        profiles = bursty_profiles(expected, seed)
    trace = place(
        profiles,
        expected,
        seconds=settings["seconds"],
        cores=settings["cores"],
        load=settings["load"],
        seed=seed,
        source=settings["trace"],
    )
    return mix.requests(trace, work)


def _one(
    pair: int,
    mode: str,
    requests: Sequence[Request],
    work: dict[str, mix.Work],
    settings: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> tuple[Run, dict[str, dict[str, int]]]:
    began = time.monotonic()
    name = f"pair {pair}, manager {mode}"
    task = progress.add_task(f"{name}: warm-up", total=len(work))
    platform = Platform(managed=mode == "on", manifests=MANIFESTS, work=folder / f"{pair}-{mode}")
    with platform:
        resources = platform.resources(sorted(work))
        platform.warm(_warm_calls(work, settings), on_done=lambda action: progress.advance(task))
        progress.update(task, description=f"{name}: replay", completed=0, total=len(requests))
        with Watch(platform) as watch:
            invocations = replay(requests, platform.openwhisk, on_done=lambda call: progress.advance(task))
        platform.check()
        counts = platform.state()["counts"] if platform.managed else None
    found = Run(pair, mode, invocations, watch.cpu, watch.timeline, counts=counts)
    if platform.managed:
        # Read after its end, when the manager has written the last of it.
        attach(invocations, platform.journal)
        found.audit = asdict(audit(platform.journal))
    found.wall_s = round(time.monotonic() - began, 1)
    progress.update(task, description=f"{name}: done")
    return found, resources


def _warm_calls(work: dict[str, mix.Work], settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(f"warm/{settings['seed']}")
    return {
        action: [one.warm] + [one.sample(rng) for _ in range(settings["warm_calls"])] for action, one in work.items()
    }


def _cache() -> Path:
    return Path(os.environ.get("OWL_CACHE") or Path.home() / ".cache" / "owl")


def _setup_seconds() -> float:
    """What `make setup` wrote when it set this environment up; 0 where it did not."""
    file = Path(os.environ.get("OWL_SETUP_SECONDS_FILE") or Path(sys.prefix) / "setup_seconds")
    try:
        return float(file.read_text().strip())
    except (OSError, ValueError):
        return 0.0
