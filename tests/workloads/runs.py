"""Runs with known effects, as the samples of a benchmark hold them."""

from __future__ import annotations

import random

from workloads.bench.compare import Run
from workloads.replay import Invocation

ACTIONS = {"faasrm/arithmetic": 200.0, "faasrm/image_recognition": 2000.0, "owl/generate": 1500.0}
RESOURCES = {
    "faasrm/arithmetic": {"cpu": 250, "memory": 128},
    "faasrm/image_recognition": {"cpu": 500, "memory": 384},
    "owl/generate": {"cpu": 1000, "memory": 1024},
}


def use(*, min_cpu: int = 500, max_cpu: int = 500, min_memory: int = 256, lender: bool = False) -> dict:
    return {
        "own_cpu": 500, "min_cpu": min_cpu, "max_cpu": max_cpu, "own_memory": 256, "min_memory": min_memory,
        "max_memory": 256, "peak_cpu": 400, "peak_memory": 100,
        "harvested": min_cpu < 500 or min_memory < 256, "accelerated": max_cpu > 500, "lender": lender,
    }  # fmt: skip


def pair_of_runs(pair: int = 1, calls: int = 60, speed: float = 0.7, donor_slowdown: float = 1.05) -> list[Run]:
    """Two runs: `arithmetic` is harvested from and slowed down, the others are accelerated to ``speed``."""
    rng = random.Random(pair)
    off, on = [], []
    for index in range(calls):
        action = list(ACTIONS)[index % len(ACTIONS)]
        at, took = round(index * 0.5, 3), ACTIONS[action] * rng.lognormvariate(0, 0.5) / 1000
        lender = action == "faasrm/arithmetic"
        factor = donor_slowdown if lender else speed
        for calls_of_run, taken, seen in (
            (off, took, None),
            (on, took * factor, use(min_cpu=300) if lender else use(max_cpu=900)),
        ):
            timings = {"ttft_ms": 40.0 + index, "tokens_per_s": 30.0} if action == "owl/generate" else None
            calls_of_run.append(
                Invocation(
                    index, action, at, at + 0.001, at + taken, "success", None, f"{index:032x}", round(taken * 1000), 2,
                    300 if index < 3 else None, timings, seen,
                )
            )  # fmt: skip
    seconds = int(calls * 0.5)
    audit = {
        "violations": 0, "transitions": 40, "resizes": 38, "failed": 2, "findings": [],
        "lent_cpu_millis_s": 9000.0, "lent_memory_mib_s": 2048.0,
    }  # fmt: skip
    return [
        Run(pair, "off", off, [[float(t), 30.0 + rng.random() * 50] for t in range(seconds)], wall_s=40.0),
        Run(
            pair, "on", on, [[float(t), 35.0 + rng.random() * 50] for t in range(seconds)],
            [[float(t), 1500.0, 2500.0, rng.choice([0.0, 500.0, 900.0]), rng.choice([0.0, 128.0])] for t in range(seconds)],
            audit, {"harvest_oom_kills": 0}, 41.0,
        ),
    ]  # fmt: skip
