"""When which function is called: bursty arrivals, the same for the same seed.

Functions of the Azure Functions 2019 sample that are called 20-40 times in an hour (the criterion of Freyr,
WWW'22) are idle in about 70 % of the minutes; their busy minutes come in runs of one to three with up to ten calls
each. :func:`bursty_profiles` makes such functions, :func:`azure_profiles` reads real ones. :func:`place` turns either
into arrivals whose offered CPU load is what was asked for: an hour of trace minutes is replayed in ``seconds``.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MINUTES = 60
AZURE_FILE = Path("azure_functions_2019") / "1000_inv.csv"

Profiles = dict[str, list[float]]  # action -> expected calls in each trace minute, up to a common factor


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call: ``at_s`` seconds after the start of the replay; ``params_seed`` fixes its parameters."""

    at_s: float
    function: str
    params_seed: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals in order of time. ``load`` is their expected CPU work as a share of all cores over ``seconds``."""

    arrivals: tuple[Arrival, ...]
    seconds: float
    load: float
    source: str


class TraceError(ValueError):
    """The trace asked for cannot be made; the message says why."""


def bursty_profiles(work: Mapping[str, float], seed: int, minutes: int = MINUTES) -> Profiles:
    """On/off modulated rates: off for a mean of 5 minutes, on for a mean of 2, lognormal burst sizes.

    Popularity is Zipf with exponent 0.8; the cheapest function (``work``: CPU seconds per call) is the most popular,
    as short functions are the popular ones in Azure's data. Each function has its own random stream, so adding one
    leaves the others as they were.
    """
    profiles: Profiles = {}
    for rank, name in enumerate(sorted(work, key=lambda name: (work[name], name)), start=1):
        rng = random.Random(f"profile/{seed}/{name}")
        rates = [0.0] * minutes
        minute = round(rng.expovariate(1 / 2))
        while minute < minutes:
            size = rng.lognormvariate(0.0, 0.8)
            for busy in range(minute, min(minute + 1 + round(rng.expovariate(1.0)), minutes)):
                rates[busy] = size
                minute = busy
            minute += 1 + max(1, round(rng.expovariate(1 / 5)))
        if not any(rates):
            rates[rng.randrange(minutes)] = 1.0
        total = sum(rates)
        profiles[name] = [rate / total * rank**-0.8 for rate in rates]
    return profiles


def azure_profiles(file: Path, work: Mapping[str, float], seed: int, minutes: int = MINUTES) -> Profiles:
    """Per-minute counts of real functions in a window of the day that ``seed`` chooses.

    ``file`` is ``1000_inv.csv`` of the Azure Functions 2019 sample (three hash columns, then a count per minute of a
    day). Functions with 20-40 calls an hour and at most 10 a minute are taken; the most called one stands for the
    cheapest of ours. Raises :class:`TraceError` for a missing or unfit file.
    """
    try:
        with file.open(newline="") as lines:
            rows = [[int(count) for count in row[3:]] for row in list(csv.reader(lines))[1:]]
    except (OSError, ValueError) as error:
        raise TraceError(f"cannot read the Azure Functions sample {file}: {error}") from error
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < minutes:
        raise TraceError(f"{file} is not the Azure Functions sample: {minutes} or more minutes in each row are needed")
    rng = random.Random(f"azure/{seed}")
    starts = list(range(0, len(rows[0]) - minutes + 1, minutes))
    rng.shuffle(starts)
    low, high = 20 * minutes / 60, 40 * minutes / 60
    for start in starts:
        windows = [row[start : start + minutes] for row in rows]
        fit = [window for window in windows if low <= sum(window) <= high and max(window) <= 10]
        if len(fit) >= len(work):
            chosen = sorted(rng.sample(fit, len(work)), key=sum, reverse=True)
            return {
                name: [float(c) for c in counts]
                for name, counts in zip(sorted(work, key=lambda n: (work[n], n)), chosen)
            }
    raise TraceError(f"{file} has no hour with {len(work)} functions that are called 20-40 times")


def place(
    profiles: Profiles,
    work: Mapping[str, float],
    *,
    seconds: float,
    cores: int,
    load: float,
    seed: int,
    minimum: int = 3,
    source: str = "bursty",
) -> Trace:
    """Draw arrivals from ``profiles`` so that their expected work is ``load`` of ``cores`` over ``seconds``.

    The number of calls of each function is fixed by the load; when they come is drawn (a Poisson process conditioned
    on its count), so runs with different seeds offer the same work. No function has fewer than ``minimum`` calls.
    """
    budget = load * cores * seconds
    weight = {name: sum(rates) for name, rates in profiles.items()}
    floor = sum(minimum * work[name] for name in profiles)
    if floor > budget:
        needed = math.ceil(floor / (load * cores))
        raise TraceError(
            f"{minimum} calls of each function need a trace of {needed} s at this load; it has {seconds:g} s"
        )

    def counts(scale: float) -> dict[str, int]:
        return {name: max(minimum, round(scale * weight[name])) for name in profiles}

    def demand(scale: float) -> float:
        return sum(count * work[name] for name, count in counts(scale).items())

    low, high = 0.0, 1.0
    while demand(high) < budget:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if demand(middle) <= budget else (low, middle)

    arrivals = [
        arrival for name, count in counts(low).items() for arrival in _draw(name, profiles[name], count, seconds, seed)
    ]
    arrivals.sort(key=lambda arrival: (arrival.at_s, arrival.function))
    return Trace(tuple(arrivals), seconds, demand(low) / (cores * seconds), source)


def _draw(name: str, rates: Sequence[float], count: int, seconds: float, seed: int) -> list[Arrival]:
    rng = random.Random(f"arrivals/{seed}/{name}")
    minute_s = seconds / len(rates)
    starts = rng.choices(range(len(rates)), weights=rates, k=count)
    times = sorted((start + rng.random()) * minute_s for start in starts)
    return [Arrival(round(at, 4), name, rng.getrandbits(32)) for at in times]
