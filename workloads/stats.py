"""Statistics of paired runs: percentiles, bootstrap intervals. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of the sample with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def percentile(values: ArrayLike, q: float) -> float:
    """The ``q``-th percentile (0-100), linear between ranks; NaN for no values."""
    data = np.asarray(values, dtype=float)
    return float(np.percentile(data, q)) if data.size else float("nan")


def reduction_of_mean(off: NDArray[np.float64], on: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - mean(on) / mean(off) along the last axis."""
    return 1 - on.mean(axis=-1) / off.mean(axis=-1)


def reduction_of_p99(off: NDArray[np.float64], on: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - P99(on) / P99(off) along the last axis."""
    return 1 - np.percentile(on, 99, axis=-1) / np.percentile(off, 99, axis=-1)


def slowdown_of_p99(off: NDArray[np.float64], on: NDArray[np.float64]) -> NDArray[np.float64]:
    """P99(on) / P99(off) along the last axis."""
    return np.percentile(on, 99, axis=-1) / np.percentile(off, 99, axis=-1)


def bootstrap(statistic: Statistic, *columns: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """``statistic`` of equally long ``columns``; rows are resampled together, so that pairs stay pairs.

    ``statistic`` takes one array per column and reduces the last axis. No rows give NaN.
    """
    data = [np.asarray(column, dtype=float) for column in columns]
    if len({column.size for column in data}) != 1:
        raise ValueError("paired columns must be equally long")
    rows = data[0].size
    if rows == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    picks = np.random.default_rng(seed).integers(0, rows, size=(resamples, rows))
    low, high = np.percentile(statistic(*(column[picks] for column in data)), [2.5, 97.5])
    return Estimate(float(statistic(*data)), float(low), float(high))
