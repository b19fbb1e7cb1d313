"""`owl bench loop`: the same bursty trace on the whole platform, without and with the resource manager.

Runs come in pairs, one with the manager off and one with it on, on the same arrivals with the same parameters, each
on a fresh server that was warmed up in the same way; which of the two is first alternates. Pair k replays the trace
of seed ``seed + k - 1``, so that several pairs are also several traces. Finished runs are kept until the benchmark is
complete: ``resume`` does only those that are missing.
"""

from __future__ import annotations

import hashlib
import json as jsonlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rm_agent.journal import JournalError, activations, audit
from workloads import inputs, mix
from workloads.bench import BenchError
from workloads.bench.compare import Run, figures
from workloads.bench.document import ROOT, document, write
from workloads.bench.table import summary
from workloads.platform import Platform, PlatformError
from workloads.replay import Invocation, Request, replay
from workloads.trace import AZURE_FILE, TraceError, azure_profiles, bursty_profiles, place

CORES = 2  # the load is sized for a node of two cores wherever it runs, so that everyone replays the same calls
LOAD = 0.35
SECONDS, QUICK_SECONDS = 150.0, 40.0
PAIRS = 3
WARM_CALLS = 2
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
        pairs: 3, or 1 when ``quick``.
        seconds: length of one replay: 150, or 40 when ``quick``.
        load: expected CPU work of the trace as a share of two cores.
        seed: of the first pair's trace.
        trace: ``bursty`` (generated) or ``azure`` (the Azure Functions 2019 sample in ``OWL_DATA``).
        resume: continue with the finished runs of an interrupted benchmark of the same settings.

    Raises:
        BenchError: the settings make no trace, or the platform or a function does not work here.
    """
    began = time.monotonic()
    settings = {
        "pairs": pairs or (1 if quick else PAIRS),
        "seconds": seconds or (QUICK_SECONDS if quick else SECONDS),
        "load": load,
        "cores": CORES,
        "seed": seed,
        "trace": trace,
        "warm_calls": WARM_CALLS,
        "quick": quick,
    }
    store = _Store(settings, resume)
    try:
        with _terminable():
            runs, resources = _measure(settings, store, console)
    except (PlatformError, TraceError, JournalError) as error:
        raise BenchError(str(error)) from error
    except KeyboardInterrupt:
        console.print(f"Stopped. {store.finished()} of {2 * settings['pairs']} runs are kept; --resume continues with the others.")
        raise
    values, intervals = figures(runs, _setup_seconds(), store.spent_before + time.monotonic() - began)
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
    store.clear()
    return result


def _measure(settings: dict[str, Any], store: _Store, console: Console) -> tuple[list[Run], dict[str, dict[str, int]]]:
    prepared = inputs.prepare(_cache())
    work = mix.mix(prepared)
    runs: list[Run] = []
    resources: dict[str, dict[str, int]] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for pair in range(1, settings["pairs"] + 1):
            requests = _requests(settings, pair, work)
            for mode in ("off", "on") if pair % 2 else ("on", "off"):
                saved = store.load(pair, mode)
                if saved is None:
                    saved = _one(pair, mode, requests, work, settings, store.folder, progress)
                    store.save(*saved)
                runs.append(saved[0])
                resources = saved[1]
    return runs, resources


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
        profiles, expected, seconds=settings["seconds"], cores=settings["cores"], load=settings["load"], seed=seed, source=settings["trace"]
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
        with _Watch(platform) as watch:
            invocations = replay(requests, platform.openwhisk, on_done=lambda call: progress.advance(task))
        platform.check()
    found = Run(pair, mode, invocations, watch.cpu, watch.timeline)
    if platform.managed:
        attach(invocations, platform.journal)
        found.audit = asdict(audit(platform.journal))
    found.wall_s = round(time.monotonic() - began, 1)
    progress.update(task, description=f"{name}: done")
    return found, resources


def _warm_calls(work: dict[str, mix.Work], settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(f"warm/{settings['seed']}")
    return {action: [one.warm] + [one.sample(rng) for _ in range(settings["warm_calls"])] for action, one in work.items()}


def attach(invocations: Sequence[Invocation], journal: Path) -> None:
    """Give each invocation what the manager's journal tells about its activation."""
    keys = (
        "own_cpu", "min_cpu", "max_cpu", "own_memory", "min_memory", "max_memory", "peak_cpu", "peak_memory",
        "harvested", "accelerated",
    )  # fmt: skip
    uses = {use.activation: {key: getattr(use, key) for key in keys} for use in activations(journal)}
    for call in invocations:
        call.use = uses.get(call.activation)


class _Watch:
    """Once a second, how busy the machine is and what the manager has lent."""

    def __init__(self, platform: Platform) -> None:
        self.cpu: list[list[float]] = []
        self.timeline: list[list[float]] = []
        self._platform = platform
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        start = time.monotonic()
        psutil.cpu_percent()
        while not self._stop.wait(1.0):
            now = round(time.monotonic() - start, 1)
            self.cpu.append([now, psutil.cpu_percent()])
            if self._platform.managed:
                try:
                    self.timeline.append([now, *_totals(self._platform.state())])
                except PlatformError:
                    # A gap in a plot; an agent that has died is found after the replay.
                    continue


class _Store:
    """Finished runs of a benchmark in its work folder, by pair and mode, until it is complete."""

    def __init__(self, settings: dict[str, Any], resume: bool) -> None:
        home = Path(os.environ.get("OWL_HOME") or Path.home() / ".owl")
        key = hashlib.sha256(jsonlib.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = home / "bench" / f"loop-{key}"
        self.spent_before = 0.0
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            self.clear()

    def _file(self, pair: int, mode: str) -> Path:
        return self.folder / f"{pair}-{mode}.json"

    def finished(self) -> int:
        return len(list(self.folder.glob("*-o*.json")))

    def load(self, pair: int, mode: str) -> tuple[Run, dict[str, dict[str, int]]] | None:
        try:
            data = jsonlib.loads(self._file(pair, mode).read_text())
            found = Run.from_json(data["run"]), data["resources"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{self._file(pair, mode)} cannot be continued from ({error}); run without --resume") from error
        self.spent_before += found[0].wall_s
        return found

    def save(self, run: Run, resources: dict[str, dict[str, int]]) -> None:
        write(self._file(run.pair, run.mode), {"run": run.to_json(), "resources": resources})

    def clear(self) -> None:
        for file in self.folder.glob("*-o*.json"):
            file.unlink()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the benchmark as Ctrl-C does, with the platform torn down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cache() -> Path:
    return Path(os.environ.get("OWL_CACHE") or Path.home() / ".cache" / "owl")


def _setup_seconds() -> float:
    """What `make setup` wrote when it set this environment up; 0 where it did not."""
    file = Path(os.environ.get("OWL_SETUP_SECONDS_FILE") or Path(sys.prefix) / "setup_seconds")
    try:
        return float(file.read_text().strip())
    except (OSError, ValueError):
        return 0.0
