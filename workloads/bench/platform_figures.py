"""The figures of `owl bench platform` from its samples. Pure: every figure can be recomputed from the JSON."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workloads.stats import percentile


@dataclass(frozen=True, slots=True)
class Figure:
    """``target``: (how the value must compare, with what). ``openwhisk``: what OpenWhisk was measured to need."""

    meaning: str
    target: tuple[str, float] | None = None
    openwhisk: float | None = None


# OpenWhisk's own figures were measured once, on a running standalone controller with Docker invoker on a machine of two
# cores shared with the client; they are no part of a run.
FIGURES = {
    "replay_exchanges": Figure("Recorded exchanges with a running OpenWhisk that were sent, over all files."),
    "replay_differences": Figure("Those of them that were answered otherwise.", ("==", 0)),
    "warm_p50_ms": Figure("Blocking call of a Python action that does nothing, 1 client: median of the rounds' P50.", ("<=", 3), 12),
    "warm_p99_ms": Figure("Their P99.", ("<=", 15), 27),
    "invocations_per_s_16_clients": Figure("Such calls per second from 16 clients; median of the rounds.", (">=", 600), 144),
    "warm_16_p99_ms": Figure("P99 of the calls of 16 clients; median of the rounds.", ("<=", 100), 1080),
    "cold_ms": Figure("First call of a new action that finds a stem cell; median of the trials.", ("<=", 150)),
    "soak_activations": Figure("Activations whose ids were given out while containers and server were killed."),
    "soak_lost": Figure("Those without a record, with a result of another call, or other than their caller was told.", ("==", 0)),
    "soak_duplicates": Figure("Activations listed twice, and calls sent once that ran twice.", ("==", 0)),
    "fuzz_requests": Figure("Requests that no client means."),
    "fuzz_500s": Figure("Those answered 500, platform errors of activations with a record aside.", ("==", 0)),
    "fuzz_defects": Figure("Tracebacks and internal errors in answers or the server's log, requests without an answer.", ("==", 0)),
    "warm_16_p50_ms": Figure("P50 of the calls of 16 clients; median of the rounds.", None, 71),
    "warm_p99_idle_connections_ms": Figure("P99 of 1 client while as many connections as the settings say are open and idle."),
    "cold_without_stem_cell_ms": Figure("First call of a new action where no stem cell is kept; median.", None, 552),
    "warm_nodejs_p50_ms": Figure("As warm_p50_ms, a Node.js action."),
    "cold_nodejs_ms": Figure("As cold_ms, a Node.js action."),
    "soak_server_kills": Figure("Times that the server was killed (SIGKILL) and started again on its data."),
    "soak_container_kills": Figure("Times that a process of a container was killed."),
}  # fmt: skip
_COMPARE: dict[str, Callable[[float, float], bool]] = {"==": operator.eq, "<=": operator.le, ">=": operator.ge}


def figures(samples: Mapping[str, Any]) -> dict[str, float | None]:
    """Figures by key; None for what this run has not measured."""
    found: dict[str, float | None] = dict.fromkeys(FIGURES)
    for part, made in (("replay", _replay), ("warm", _warm), ("cold", _cold), ("soak", _soak), ("fuzz", _fuzz)):
        if samples.get(part) is not None:
            found |= made(samples[part])
    return {key: None if value is None else round(value, 4) for key, value in found.items()}


def met(key: str, value: float | None) -> bool | None:
    """Whether the figure reaches its target; None where it has none or was not measured."""
    target = FIGURES[key].target
    return None if target is None or value is None else _COMPARE[target[0]](value, target[1])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _replay(found: Mapping[str, Any]) -> dict[str, float | None]:
    return {f"replay_{key}": sum(file[key] for file in found["files"].values()) for key in ("exchanges", "differences")}


def _warm(found: Mapping[str, Any]) -> dict[str, float | None]:
    rounds, rounds_16 = found["rounds"], found["rounds_16"]
    return {
        "warm_p50_ms": _median([percentile(ms, 50) for ms in rounds]),
        "warm_p99_ms": _median([percentile(ms, 99) for ms in rounds]),
        "invocations_per_s_16_clients": _median([len(one["ms"]) / one["seconds"] for one in rounds_16]),
        "warm_16_p50_ms": _median([percentile(one["ms"], 50) for one in rounds_16]),
        "warm_16_p99_ms": _median([percentile(one["ms"], 99) for one in rounds_16]),
        "warm_p99_idle_connections_ms": percentile(found["idle"]["ms"], 99),
        "warm_nodejs_p50_ms": percentile(found["nodejs"], 50) if found["nodejs"] else None,
    }


def _cold(found: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "cold_ms": _median(found["python"]),
        "cold_without_stem_cell_ms": _median(found["without_stem_cell"]),
        "cold_nodejs_ms": _median(found["nodejs"] or []),
    }


def _soak(found: Mapping[str, Any]) -> dict[str, float | None]:
    server = sum(what == "server" for _, what in found["kills"])
    return {
        "soak_activations": found["activations"],
        "soak_lost": found["lost"],
        "soak_duplicates": found["duplicates"],
        "soak_server_kills": server,
        "soak_container_kills": len(found["kills"]) - server,
    }


def _fuzz(found: Mapping[str, Any]) -> dict[str, float | None]:
    in_answers = sum("Traceback" in fault["answer"] for fault in found["faults"])
    return {
        "fuzz_requests": found["requests"],
        "fuzz_500s": found["status_500"],
        "fuzz_defects": len(found["defects"]) + in_answers + found["unanswered"] + (not found["alive"]),
    }
