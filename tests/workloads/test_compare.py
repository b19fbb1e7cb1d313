from __future__ import annotations

import json
import math

import pytest

from tests.workloads.runs import RESOURCES, pair_of_runs, use
from workloads.bench.compare import DEFINITIONS, Run, failures, figures, pairs, rows

KEYS = {
    "mean_reduction", "p99_reduction", "donor_p99_slowdown", "lender_p99_slowdown", "oom_kills", "conservation_violations",
    "generate_ttft_ms", "generate_tokens_per_s", "setup_seconds", "run_seconds",
}  # fmt: skip


def test_known_effects_are_found() -> None:
    runs = pair_of_runs(1, speed=0.5, donor_slowdown=1.08) + pair_of_runs(2, speed=0.5, donor_slowdown=1.08)
    values, intervals = figures(runs, 100.0, 300.0)
    assert set(values) == KEYS == set(DEFINITIONS)
    assert 0.4 < values["mean_reduction"] < 0.5
    assert values["p99_reduction"] == pytest.approx(0.5, abs=0.02)
    assert values["donor_p99_slowdown"] == pytest.approx(1.08, abs=0.001)
    assert intervals["mean_reduction"].low < values["mean_reduction"] < intervals["mean_reduction"].high
    assert (values["oom_kills"], values["conservation_violations"]) == (0, 0)
    assert (values["generate_tokens_per_s"], values["setup_seconds"], values["run_seconds"]) == (30.0, 100.0, 300.0)


def test_donors_of_different_scale_count_alike() -> None:
    runs = pair_of_runs(calls=90, speed=1.0, donor_slowdown=2.0)
    for call in runs[1].invocations:
        call.use = use(min_cpu=300)
    # A third of the calls is twice as slow; the slowest function alone would hide that.
    assert figures(runs, 0, 0)[0]["donor_p99_slowdown"] > 1.3


def test_a_donor_that_was_also_accelerated_is_none() -> None:
    runs = pair_of_runs()
    for call in runs[1].invocations:
        call.use = use(min_cpu=300, max_cpu=900)
    assert math.isnan(figures(runs, 0, 0)[0]["donor_p99_slowdown"])


def test_a_call_after_its_container_lent_is_a_donors_call() -> None:
    runs = pair_of_runs(speed=1.0, donor_slowdown=1.5)
    for call in runs[1].invocations:
        call.use = use(lender=call.action == "faasrm/arithmetic")
    assert figures(runs, 0, 0)[0]["donor_p99_slowdown"] == pytest.approx(1.5, abs=0.001)


def test_a_call_that_failed_in_either_run_is_no_speed_up_and_is_shown() -> None:
    runs = pair_of_runs()
    before = figures(runs, 0, 0)[0]["mean_reduction"]
    for call in runs[1].invocations[:2]:
        call.status, call.error, call.finished_s = "application error", "first line\nno such file", call.scheduled_s
    assert abs(figures(runs, 0, 0)[0]["mean_reduction"] - before) < 0.05
    assert failures(runs) == {
        ("on", "faasrm/arithmetic", "no such file"): 1,
        ("on", "faasrm/image_recognition", "no such file"): 1,
    }
    assert rows(runs, RESOURCES)[-1].failed == (0, 2)


@pytest.mark.parametrize(
    ("mode", "seen", "kills"),
    [("on", use(min_memory=200), 1), ("on", use(), 0), ("on", None, 1), ("off", None, 0)],
)
def test_a_death_of_memory_is_the_managers_only_below_the_calls_own(mode: str, seen: dict | None, kills: int) -> None:
    runs = pair_of_runs()
    call = runs[mode == "on"].invocations[0]
    call.status, call.error, call.use = (
        "action developer error",
        "The action exhausted its memory and was aborted.",
        seen,
    )
    assert figures(runs, 0, 0)[0]["oom_kills"] == kills


def test_a_kill_that_only_the_manager_saw_counts() -> None:
    runs = pair_of_runs()
    runs[1].counts = {"harvest_oom_kills": 2}
    assert figures(runs, 0, 0)[0]["oom_kills"] == 2


def test_violations_of_all_journals_are_summed() -> None:
    runs = pair_of_runs(1) + pair_of_runs(2)
    runs[1].audit["violations"], runs[3].audit["violations"] = 2, 3
    assert figures(runs, 0, 0)[0]["conservation_violations"] == 5


def test_only_warm_managed_generations_count() -> None:
    runs = pair_of_runs(calls=6)
    # Calls 2 (cold) and 5 (warm) are generations; the unmanaged run says otherwise.
    runs[0].invocations[5].timings = {"ttft_ms": 1.0, "tokens_per_s": 1.0}
    assert figures(runs, 0, 0)[0]["generate_ttft_ms"] == 45.0


def test_rows_add_up() -> None:
    runs = pair_of_runs(1) + pair_of_runs(2)
    table = rows(runs, RESOURCES)
    assert [row.action for row in table] == [*sorted(RESOURCES), "all"]
    parts, total = table[:-1], table[-1]
    assert total.calls == sum(row.calls for row in parts) == 60
    assert total.gb_s[0] == pytest.approx(sum(row.gb_s[0] for row in parts))
    assert total.vcpu_s[1] < total.vcpu_s[0]
    arithmetic = table[0]
    assert (arithmetic.harvested, arithmetic.accelerated) == (1.0, 0.0)
    durations = [
        call.duration_ms for run in (runs[0], runs[2]) for call in run.invocations if call.action == "faasrm/arithmetic"
    ]
    assert arithmetic.gb_s[0] == pytest.approx(sum(durations) / 1000 * 128 / 1024 / 2)


def test_a_pair_with_a_run_missing_is_left_out_and_order_does_not_matter() -> None:
    first, second = pair_of_runs(1), pair_of_runs(2)
    assert [pair.off.pair for pair in pairs([second[1], first[1], first[0]])] == [1]


def test_runs_survive_json() -> None:
    for run in pair_of_runs():
        assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run
