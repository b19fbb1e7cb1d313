from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.stats import bootstrap, percentile, reduction_of_mean, reduction_of_p99, slowdown_of_p99

positive = st.lists(st.floats(0.1, 1e5), min_size=1, max_size=60)


def test_percentile_is_linear_between_ranks() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert percentile([7], 99) == 7
    assert math.isnan(percentile([], 50))


@settings(max_examples=50, deadline=None)
@given(positive, st.floats(0.1, 10))
def test_a_uniform_change_of_scale_is_found_exactly_and_with_no_doubt(off: list[float], factor: float) -> None:
    on = [factor * value for value in off]
    for statistic, expected in (
        (reduction_of_mean, 1 - factor),
        (reduction_of_p99, 1 - factor),
        (slowdown_of_p99, factor),
    ):
        estimate = bootstrap(statistic, off, on, resamples=50)
        for value in (estimate.value, estimate.low, estimate.high):
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_interval_covers_a_noisy_effect_and_narrows_with_more_data() -> None:
    rng = np.random.default_rng(1)

    def width(n: int) -> float:
        off = rng.lognormal(6, 1, n)
        estimate = bootstrap(reduction_of_mean, off, off * rng.lognormal(math.log(0.8), 0.3, n), seed=2)
        assert estimate.low <= estimate.value <= estimate.high
        return estimate.high - estimate.low

    assert width(2000) < width(100) / 2


def test_the_same_seed_gives_the_same_interval() -> None:
    off, on = [1.0, 2.0, 9.0], [1.0, 1.5, 4.0]
    assert bootstrap(reduction_of_mean, off, on, seed=5) == bootstrap(reduction_of_mean, off, on, seed=5)


def test_unpaired_columns_are_refused_and_none_give_nan() -> None:
    with pytest.raises(ValueError, match="equally long"):
        bootstrap(reduction_of_mean, [1.0], [1.0, 2.0])
    assert math.isnan(bootstrap(reduction_of_mean, [], []).value)
