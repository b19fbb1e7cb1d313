"""The number of threads follows what is fastest, on machines whose step times are known."""

from __future__ import annotations

import pytest

from action_runtime.llm.threads import ThreadTuner

ALONE = {1: 40.0, 2: 27.0, 4: 18.0, 8: 17.5}  # ms a step
CONTENDED = {1: 41.0, 2: 80.0, 4: 160.0, 8: 300.0}


def run(tuner: ThreadTuner, times: dict[int, float], steps: int) -> list[int]:
    chosen = []
    for _ in range(steps):
        chosen.append(tuner.count())
        tuner.took(chosen[-1], times[chosen[-1]] / 1000)
    return chosen


@pytest.mark.parametrize(("cores", "best"), [(1, 1), (2, 2), (4, 4), (8, 4)])
def test_finds_the_number_from_which_more_is_not_worth_it(cores: int, best: int) -> None:
    tuner = ThreadTuner(lambda: cores)
    run(tuner, ALONE, 40)
    assert run(tuner, ALONE, 400).count(best) >= 360


def test_leaves_contended_cores_soon_and_comes_back() -> None:
    tuner = ThreadTuner(lambda: 2)
    run(tuner, ALONE, 40)
    assert run(tuner, CONTENDED, 200)[-20:].count(1) >= 18
    assert run(tuner, ALONE, 400)[-20:].count(2) >= 14


def test_trials_in_vain_are_short_and_become_rare() -> None:
    tuner = ThreadTuner(lambda: 2)
    assert run(tuner, CONTENDED, 100).count(2) <= 9
    assert run(tuner, CONTENDED, 400).count(2) <= 9


def test_the_quota_is_the_most_at_every_step() -> None:
    cores = 4
    tuner = ThreadTuner(lambda: cores)
    run(tuner, ALONE, 100)
    cores = 1
    assert set(run(tuner, ALONE, 50)) == {1}
    cores = 2
    assert run(tuner, ALONE, 30)[-10:].count(2) == 10
