from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.trace import AZURE_FILE, TraceError, azure_profiles, bursty_profiles, place

WORK = {"a": 0.02, "b": 0.1, "c": 0.3, "d": 0.8, "e": 1.5}


def make(seed: int = 1, load: float = 0.35, seconds: float = 150):
    return place(bursty_profiles(WORK, seed), WORK, seconds=seconds, cores=2, load=load, seed=seed)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), load=st.floats(0.2, 0.9), seconds=st.floats(60, 400))
def test_offers_the_load_asked_for_whatever_the_seed(seed: int, load: float, seconds: float) -> None:
    trace = make(seed, load, seconds)
    work = sum(WORK[arrival.function] for arrival in trace.arrivals)
    assert work / (2 * seconds) == pytest.approx(trace.load)
    assert load - 3 / seconds <= trace.load <= load + 1e-9
    times = [arrival.at_s for arrival in trace.arrivals]
    assert times == sorted(times) and 0 <= times[0] and times[-1] <= seconds
    assert {arrival.function for arrival in trace.arrivals} == set(WORK)


def test_same_seed_same_arrivals_other_seed_others() -> None:
    assert make(3) == make(3)
    assert make(3).arrivals != make(4).arrivals


def test_another_function_leaves_the_bursts_of_the_others_where_they_were() -> None:
    fewer, more = bursty_profiles(WORK, 1), bursty_profiles({**WORK, "z": 9.0}, 1)
    for name in WORK:
        assert [rate > 0 for rate in fewer[name]] == [rate > 0 for rate in more[name]]


def test_most_minutes_are_idle_and_popularity_is_skewed() -> None:
    idle, shares = [], []
    for seed in range(40):
        profiles = bursty_profiles(WORK, seed)
        idle += [sum(rate == 0 for rate in rates) / len(rates) for rates in profiles.values()]
        shares.append(sum(profiles["a"]) / sum(profiles["e"]))
    assert 0.55 <= statistics.mean(idle) <= 0.85
    assert min(shares) > 3


def test_busy_seconds_far_exceed_the_mean() -> None:
    trace = make(2)
    work = [0.0] * 30
    for arrival in trace.arrivals:
        work[int(arrival.at_s // 5) % 30] += WORK[arrival.function]
    assert max(work) > 2 * statistics.mean(work)


def test_a_trace_too_short_for_its_functions_says_how_long_it_must_be() -> None:
    with pytest.raises(TraceError, match=r"need a trace of \d+ s"):
        make(seconds=5)


@pytest.mark.shared
def test_real_functions_give_the_same_load_with_their_own_bursts(shared_dir) -> None:
    profiles = azure_profiles(shared_dir / "data" / AZURE_FILE, WORK, seed=1)
    assert profiles == azure_profiles(shared_dir / "data" / AZURE_FILE, WORK, seed=1)
    totals = [sum(profiles[name]) for name in WORK]
    assert totals == sorted(totals, reverse=True)
    assert all(20 <= total <= 40 for total in totals)
    trace = place(profiles, WORK, seconds=150, cores=2, load=0.35, seed=1, source="azure")
    assert trace.load == pytest.approx(0.35, abs=0.01)


@pytest.mark.parametrize("text", ["", "a,b,c\n", "h,a,o,1\nx,y,z,1\n", "h,a,o,1\nx,y,z,seven\n"])
def test_a_file_that_is_not_the_sample_is_refused(tmp_path, text: str) -> None:
    file = tmp_path / "inv.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match="inv.csv"):
        azure_profiles(file, WORK, seed=1)


def test_a_missing_sample_is_named(tmp_path) -> None:
    with pytest.raises(TraceError, match="cannot read"):
        azure_profiles(tmp_path / "nothing.csv", WORK, seed=1)
