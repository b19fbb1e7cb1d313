"""The figures of ``owl bench loop`` from the samples of its runs. Pure: every figure can be recomputed from the JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workloads.generation import GENERATE
from workloads.replay import Invocation, from_columns, to_columns
from workloads.stats import (
    Estimate,
    Statistic,
    bootstrap,
    percentile,
    reduction_of_mean,
    reduction_of_p99,
    slowdown_of_p99,
)

DEFINITIONS = {
    "mean_reduction": "1 - mean(on) / mean(off) of the completion time of the calls answered in both runs of a pair; "
    "median over the pairs. Completion time runs from the moment a call is due to its answer.",
    "p99_reduction": "The same with the 99th percentile.",
    "donor_p99_slowdown": "P99(on) / P99(off) over the calls in containers that the manager had harvested from, while "
    "they ran or were idle before, and that it did not give more CPU than their own. Each is divided by the median of "
    "its function with the manager off; the calls of all pairs are pooled.",
    "lender_p99_slowdown": "The same over all calls in containers that had lent, also those that were then given more "
    "than their own: what lending costs and brings to those who lend.",
    "oom_kills": "Calls that died of memory while their container had less than its own; all runs.",
    "conservation_violations": "Moments in the journals of all runs at which more was given out than owned.",
    "generate_ttft_ms": "Time to the first token of the LLM function as it reports it; median of warm calls, manager on.",
    "generate_tokens_per_s": "Its decoding speed; median of warm calls, manager on.",
    "setup_seconds": "Set-up on a fresh clone: packages, model and inputs; 0 where it was not timed.",
    "run_seconds": "The whole benchmark, from its start to its figures.",
}


@dataclass(slots=True)
class Run:
    """One replay on a fresh server.

    ``mode`` is ``off`` or ``on`` (the manager). ``cpu``: [second, percent of all cores busy]. ``timeline``: [second,
    millicores of their own that busy containers have, idle ones have, millicores lent, MiB lent]. ``audit``: what the
    audit of the manager's journal found, ``counts``: the manager's own counters; None with the manager off.
    """

    pair: int
    mode: str
    invocations: list[Invocation]
    cpu: list[list[float]] = field(default_factory=list)
    timeline: list[list[float]] = field(default_factory=list)
    audit: dict[str, Any] | None = None
    counts: dict[str, int] | None = None
    wall_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"invocations": to_columns(self.invocations)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        return cls(**{**data, "invocations": from_columns(data["invocations"])})


@dataclass(frozen=True, slots=True)
class Pair:
    """The two runs of one pair, joined by the index of the arrival."""

    off: Run
    on: Run

    def answered(self, action: str | None = None) -> list[tuple[Invocation, Invocation]]:
        """(off, on) of each call that succeeded both times: a call that fails early is not a fast one."""
        on = {call.index: call for call in self.on.invocations}
        both = ((call, on[call.index]) for call in self.off.invocations if call.index in on)
        return [(a, b) for a, b in both if a.ok and b.ok and action in (None, a.action)]


def pairs(runs: Iterable[Run]) -> list[Pair]:
    """Runs of the same pair number joined; a pair with one run missing is left out."""
    found: dict[int, dict[str, Run]] = {}
    for run in runs:
        found.setdefault(run.pair, {})[run.mode] = run
    return [Pair(modes["off"], modes["on"]) for _, modes in sorted(found.items()) if {"off", "on"} <= modes.keys()]


def harvested(call: Invocation) -> bool:
    """The call had less than its own CPU or memory at some time while it ran."""
    return bool(call.use and call.use["harvested"])


def lender(call: Invocation) -> bool:
    """Its container has lent something, in the call or idle before it."""
    return bool(call.use and (call.use["lender"] or harvested(call)))


def donor(call: Invocation) -> bool:
    """Its container has lent something and nothing made up for that: the call never had more CPU than its own."""
    return bool(call.use and lender(call) and call.use["max_cpu"] <= call.use["own_cpu"])


def accelerated(call: Invocation) -> bool:
    """The manager gave this call more than its own allocation while it ran."""
    return bool(call.use and call.use["accelerated"])


def completion(calls: Iterable[tuple[Invocation, Invocation]]) -> tuple[list[float], list[float]]:
    """Completion times in ms, (off, on), paired."""
    both = [(off.completion_ms, on.completion_ms) for off, on in calls]
    return [off for off, _ in both], [on for _, on in both]


def over_pairs(pairs: Sequence[Pair], statistic: Statistic) -> Estimate:
    """Median over pairs of ``statistic`` of completion times, and of the bounds of its interval."""
    found = [bootstrap(statistic, *completion(pair.answered()), seed=pair.off.pair) for pair in pairs]
    return Estimate(*(statistics.median(getattr(one, bound) for one in found) for bound in ("value", "low", "high")))


def normalised(pairs: Sequence[Pair], test: Callable[[Invocation], bool]) -> tuple[list[float], list[float]]:
    """Completion times of the calls that pass ``test`` (managed), off and on, as multiples of their function's median.

    Functions differ in scale by a factor of a hundred; undivided, P99 would be that of the slowest one alone. Each
    pair is divided by its own medians; the calls of all pairs are pooled.
    """
    off_all: list[float] = []
    on_all: list[float] = []
    for pair in pairs:
        for action in {call.action for call in pair.off.invocations}:
            calls = pair.answered(action)
            if not calls:
                continue
            scale = statistics.median(off.completion_ms for off, _ in calls)
            off, on = completion([(a, b) for a, b in calls if test(b)])
            off_all += [value / scale for value in off]
            on_all += [value / scale for value in on]
    return off_all, on_all


def harvest_ooms(run: Run) -> int:
    """Calls of a managed run that died of memory while their container may have had less than its own.

    A call that the journal does not know is counted too: who dies of memory may not have reported its end. Where the
    manager saw the kernel kill more often than calls failed, its count holds.
    """
    died = sum(
        run.mode == "on"
        and not call.ok
        and "memory" in (call.error or "").lower()
        and (call.use is None or call.use["min_memory"] < call.use["own_memory"])
        for call in run.invocations
    )
    return max(died, (run.counts or {}).get("harvest_oom_kills", 0))


def generations(pairs: Sequence[Pair], key: str) -> list[float]:
    """Timing ``key`` of the warm, successful calls of the LLM function in the managed runs."""
    calls = (call for pair in pairs for call in pair.on.invocations)
    return [
        call.timings[key]
        for call in calls
        if call.action == GENERATE and call.ok and call.init_ms is None and call.timings and key in call.timings
    ]


def figures(
    runs: Sequence[Run], setup_seconds: float, run_seconds: float
) -> tuple[dict[str, float], dict[str, Estimate]]:
    """Figures by key (as :data:`DEFINITIONS` says) and the intervals of those that have one."""
    joined = pairs(runs)
    intervals = {
        "mean_reduction": over_pairs(joined, reduction_of_mean),
        "p99_reduction": over_pairs(joined, reduction_of_p99),
        "donor_p99_slowdown": bootstrap(slowdown_of_p99, *normalised(joined, donor)),
        "lender_p99_slowdown": bootstrap(slowdown_of_p99, *normalised(joined, lender)),
    }
    values = {key: estimate.value for key, estimate in intervals.items()}
    values["oom_kills"] = sum(harvest_ooms(run) for run in runs)
    values["conservation_violations"] = sum(run.audit["violations"] for run in runs if run.audit)
    values["generate_ttft_ms"] = percentile(generations(joined, "ttft_ms"), 50)
    values["generate_tokens_per_s"] = percentile(generations(joined, "tokens_per_s"), 50)
    values["setup_seconds"] = setup_seconds
    values["run_seconds"] = run_seconds
    return {key: round(value, 4) for key, value in values.items()}, intervals


@dataclass(frozen=True, slots=True)
class Row:
    """One function (or all) over all pairs. Times in ms; shares of the managed calls; cost summed, then per run."""

    action: str
    calls: int
    mean: tuple[float, float]  # off, on
    p50: tuple[float, float]
    p99: tuple[float, float]
    mean_ratio: float  # on / off
    harvested: float
    accelerated: float
    cold: tuple[int, int]
    failed: tuple[int, int]
    gb_s: tuple[float, float]
    vcpu_s: tuple[float, float]


def rows(runs: Sequence[Run], resources: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """A row per function in order of its name, and one named ``all``.

    ``resources``: action -> ``{"cpu": millicores, "memory": MiB}`` of its own. Cost is what OpenWhisk bills: its own
    memory (GB-s) and its own CPU (vCPU-s) times duration; what is lent is never billed.
    """
    joined = pairs(runs)
    actions = sorted({call.action for run in runs for call in run.invocations})
    return [_row(action, joined, [action], resources) for action in actions] + [_row("all", joined, actions, resources)]


def _row(title: str, joined: Sequence[Pair], actions: Sequence[str], resources: Mapping[str, Mapping[str, int]]) -> Row:
    both = [calls for pair in joined for calls in pair.answered() if calls[0].action in actions]
    off, on = completion(both)
    ran = [[call for pair in joined for call in run(pair).invocations if call.action in actions] for run in (_off, _on)]
    known = [call for call in ran[1] if call.use]

    def cost(calls: Sequence[Invocation], resource: str, unit: float) -> float:
        return sum((call.duration_ms or 0) / 1000 * resources[call.action][resource] / unit for call in calls) / max(
            len(joined), 1
        )

    def share(test: Callable[[Invocation], bool]) -> float:
        return sum(map(test, known)) / len(known) if known else float("nan")

    return Row(
        action=title,
        calls=len(ran[0]) // max(len(joined), 1),
        mean=(statistics.fmean(off), statistics.fmean(on)) if off else (float("nan"),) * 2,
        p50=(percentile(off, 50), percentile(on, 50)),
        p99=(percentile(off, 99), percentile(on, 99)),
        mean_ratio=sum(on) / sum(off) if off else float("nan"),
        harvested=share(harvested),
        accelerated=share(accelerated),
        cold=tuple(sum(call.init_ms is not None for call in calls) for calls in ran),
        failed=tuple(sum(not call.ok for call in calls) for calls in ran),
        gb_s=tuple(cost(calls, "memory", 1024) for calls in ran),
        vcpu_s=tuple(cost(calls, "cpu", 1000) for calls in ran),
    )


def _off(pair: Pair) -> Run:
    return pair.off


def _on(pair: Pair) -> Run:
    return pair.on


def failures(runs: Iterable[Run]) -> dict[tuple[str, str, str], int]:
    """(mode, function, reason) -> how many calls, most frequent first."""
    found: dict[tuple[str, str, str], int] = {}
    for run in runs:
        for call in run.invocations:
            if not call.ok:
                lines = (call.error or call.status).strip().splitlines()
                key = (run.mode, call.action, lines[-1][:160] if lines else call.status)
                found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
