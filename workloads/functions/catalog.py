"""What the ten functions are called, what they are given, and with which parameters a workload calls them.

The own allocations are those of FaaSRM's users, scaled to a node of two cores: one of their eight cores is 250
millicores here, and their unit of memory is 64 MiB.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.inputs import CLIPS, GENOMES, PAGES, PHOTOS, VIDEOS

PACKAGE = "faasrm"
MANIFEST = Path(__file__).with_name("manifest.yaml")


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function: its action's name, own allocation (millicores, MiB), time-out (ms) and what it does."""

    name: str
    cpu_millis: int
    memory_mib: int
    timeout_ms: int
    description: str


def _catalog(*specs: FunctionSpec) -> dict[str, FunctionSpec]:
    return {spec.name: spec for spec in specs}


CATALOG = _catalog(
    FunctionSpec("dynamic_html", 500, 128, 60_000, "renders an HTML page of orders with Jinja2"),
    FunctionSpec("email_generation", 250, 128, 60_000, "writes personalised MIME messages"),
    FunctionSpec("image_processing", 500, 256, 60_000, "makes seven variants of a photo"),
    FunctionSpec("video_processing", 500, 384, 120_000, "transcodes, scales or watermarks a video clip"),
    FunctionSpec("image_recognition", 500, 384, 60_000, "finds and reads the text in an image"),
    FunctionSpec("k_nearest_neighbours", 500, 256, 60_000, "classifies digits by their nearest neighbours"),
    FunctionSpec("arithmetic", 250, 128, 60_000, "integrates numerically in pure Python"),
    FunctionSpec("merge_sort", 250, 128, 60_000, "sorts whole numbers in pure Python"),
    FunctionSpec("gradient_descent", 250, 256, 60_000, "trains a softmax regression on digits"),
    FunctionSpec("dna_visualisation", 500, 384, 60_000, "draws a DNA sequence as a curve"),
)


def sample_params(name: str, rng: random.Random, inputs: Path) -> dict[str, Any]:
    """JSON-able parameters of a random realistic size for one call of ``name``; KeyError for an unknown name.

    ``inputs`` is what ``workloads.inputs.prepare`` returned. Sizes are log-uniform (files: one of those made, whose
    sizes grow geometrically). The same state of ``rng`` gives the same parameters.
    """
    return _SAMPLERS[name](rng, inputs)


def warm_params(name: str, inputs: Path) -> dict[str, Any]:
    """The parameters of the smallest call of ``name``, always the same, to warm a container; KeyError if unknown."""
    return _WARM[name](inputs)


def _size(rng: random.Random, low: int, high: int) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def _seed(rng: random.Random) -> int:
    return rng.getrandbits(32)


def _reference(inputs: Path, name: str) -> str:
    return (inputs / name).resolve().as_uri()


def _image(rng: random.Random, inputs: Path) -> dict[str, Any]:
    return {
        "image": _reference(inputs, rng.choice(PHOTOS)),
        "thumbnail": rng.choice((128, 256, 512)),
        "angle": rng.randrange(0, 360, 15),
        "blur": rng.randint(1, 12),
    }


def _video(rng: random.Random, inputs: Path) -> dict[str, Any]:
    clip = rng.choice(VIDEOS)
    height = CLIPS[Path(clip).stem][1]
    # A small clip scaled down is done before a platform's own latency; larger ones have all three operations.
    operations = ("transcode", "watermark", "scale") if height >= 480 else ("transcode", "watermark")
    params = {"video": _reference(inputs, clip), "operation": rng.choice(operations), "quality": rng.randint(24, 30)}
    if params["operation"] == "scale":
        params["height"] = 360
    return params


def _knn(rng: random.Random, inputs: Path) -> dict[str, Any]:
    samples = _size(rng, 14_000, 45_000)
    return {"samples": samples, "queries": samples // 10, "neighbours": rng.choice((3, 5, 9)), "seed": _seed(rng)}


def _descent(rng: random.Random, inputs: Path) -> dict[str, Any]:
    work = _size(rng, 600_000, 3_000_000)
    samples = _size(rng, 4_000, 20_000)
    return {"samples": samples, "epochs": max(20, work // samples), "learning_rate": 0.5, "seed": _seed(rng)}


_SAMPLERS: dict[str, Callable[[random.Random, Path], dict[str, Any]]] = {
    "dynamic_html": lambda rng, inputs: {"rows": _size(rng, 250, 3_000), "seed": _seed(rng)},
    "email_generation": lambda rng, inputs: {"recipients": _size(rng, 3, 35), "seed": _seed(rng)},
    "image_processing": _image,
    "video_processing": _video,
    "image_recognition": lambda rng, inputs: {"image": _reference(inputs, rng.choice(PAGES))},
    "k_nearest_neighbours": _knn,
    "arithmetic": lambda rng, inputs: {"steps": 2 * _size(rng, 180_000, 1_450_000)},
    "merge_sort": lambda rng, inputs: {"count": _size(rng, 50_000, 320_000), "seed": _seed(rng)},
    "gradient_descent": _descent,
    "dna_visualisation": lambda rng, inputs: {"sequence": _reference(inputs, rng.choice(GENOMES))},
}

_WARM: dict[str, Callable[[Path], dict[str, Any]]] = {
    "dynamic_html": lambda inputs: {"rows": 10},
    "email_generation": lambda inputs: {"recipients": 1},
    "image_processing": lambda inputs: {"image": _reference(inputs, PHOTOS[0])},
    "video_processing": lambda inputs: {"video": _reference(inputs, VIDEOS[0]), "operation": "scale", "height": 64},
    "image_recognition": lambda inputs: {"image": _reference(inputs, PAGES[0])},
    "k_nearest_neighbours": lambda inputs: {"samples": 500, "queries": 10},
    "arithmetic": lambda inputs: {"steps": 1_000},
    "merge_sort": lambda inputs: {"count": 1_000},
    "gradient_descent": lambda inputs: {"samples": 500, "epochs": 1},
    "dna_visualisation": lambda inputs: {"sequence": _reference(inputs, GENOMES[0])},
}
