"""What is called, with what, and how much CPU a call is expected to cost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from workloads import generation
from workloads.functions.catalog import CATALOG, PACKAGE, sample_params, warm_params
from workloads.replay import Request
from workloads.trace import Trace

Params = dict[str, Any]

# CPU seconds of a warm call with parameters of the usual sizes, measured on two cores of an AMD EPYC server. They set
# how many calls make up the load asked for; what a call costs here is measured, never taken from this table.
WORK = {
    "dynamic_html": 0.04,
    "email_generation": 0.04,
    "image_processing": 0.3,
    "video_processing": 2.2,
    "image_recognition": 1.35,
    "k_nearest_neighbours": 0.45,
    "arithmetic": 0.5,
    "merge_sort": 0.35,
    "gradient_descent": 0.55,
    "dna_visualisation": 0.25,
}
GENERATE_WORK = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """One action: CPU seconds expected per call, parameters of one call, parameters of the call that warms it up."""

    cpu_s: float
    sample: Callable[[random.Random], Params]
    warm: Params


def mix(inputs: Path) -> dict[str, Work]:
    """Action -> work, for the ten functions and the LLM function. ``inputs`` is what ``workloads.inputs`` prepared."""
    found = {
        f"{PACKAGE}/{name}": Work(WORK[name], partial(_sample, name, inputs), warm_params(name, inputs))
        for name in CATALOG
    }
    found[generation.GENERATE] = Work(GENERATE_WORK, generation.sample, generation.WARM)
    return found


def requests(trace: Trace, work: dict[str, Work]) -> list[Request]:
    """The calls of ``trace`` with their parameters, made beforehand so that the replay does nothing but send."""
    return [
        Request(
            index, arrival.at_s, arrival.function, work[arrival.function].sample(random.Random(arrival.params_seed))
        )
        for index, arrival in enumerate(trace.arrivals)
    ]


def _sample(name: str, inputs: Path, rng: random.Random) -> Params:
    return sample_params(name, rng, inputs)
