"""The catalogue, the manifest and the parameters a workload draws."""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workloads.functions.catalog import CATALOG, MANIFEST, PACKAGE, sample_params, warm_params
from workloads.inputs import GENOMES, PAGES, PHOTOS, VIDEOS, InputsError, prepare

FILES = {
    "image_processing": "image",
    "video_processing": "video",
    "image_recognition": "image",
    "dna_visualisation": "sequence",
}


def test_the_manifest_equals_the_catalogue():
    actions = yaml.safe_load(MANIFEST.read_text())["packages"][PACKAGE]["actions"]
    assert list(actions) == list(CATALOG)
    for name, spec in CATALOG.items():
        assert actions[name] == {
            "function": name,
            "runtime": "python:3.11",
            "limits": {"timeout": spec.timeout_ms, "memorySize": spec.memory_mib},
            "annotations": {"description": spec.description, "resources": {"cpu": spec.cpu_millis}},
        }
        assert (MANIFEST.parent / name / "__main__.py").is_file()


@pytest.mark.parametrize("name", CATALOG)
def test_parameters_are_json_and_the_same_for_a_seed(name: str, tmp_path: Path):
    def draw(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [json.dumps(sample_params(name, rng, tmp_path)) for _ in range(20)]

    assert draw(7) == draw(7)
    assert len(set(draw(7))) > 3, "sizes vary"
    assert draw(7) != draw(8)
    assert warm_params(name, tmp_path) == warm_params(name, tmp_path)
    if name in FILES:
        assert all(json.loads(params)[FILES[name]].startswith(tmp_path.as_uri()) for params in draw(7))


def test_an_unknown_function_has_no_parameters(tmp_path: Path):
    with pytest.raises(KeyError):
        sample_params("quick_sort", random.Random(0), tmp_path)


def test_the_catalogue_loads_without_the_functions_libraries():
    code = (
        "import sys, workloads.functions.catalog, workloads.inputs\n"
        "print([name for name in ('numpy', 'PIL', 'sklearn', 'cv2', 'onnxruntime', 'jinja2') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_inputs_are_complete_and_made_once(inputs: Path, cache: Path):
    assert all((inputs / name).stat().st_size > 1000 for name in PHOTOS + VIDEOS + PAGES + GENOMES)
    before = {path: path.stat().st_mtime_ns for path in inputs.rglob("*")}
    assert prepare(cache) == inputs
    assert {path: path.stat().st_mtime_ns for path in inputs.rglob("*")} == before
    assert list(cache.iterdir()) == [inputs], "nothing of the making is left"


def test_inputs_that_cannot_be_written_are_a_clear_error(tmp_path: Path):
    occupied = tmp_path / "cache"
    occupied.write_text("a file, not a folder")
    with pytest.raises(InputsError, match="could not be written below"):
        prepare(occupied)


def test_helpers_that_are_repeated_in_the_functions_stay_the_same():
    seen: dict[str, set[str]] = {"whole": set(), "input_file": set()}
    for name in CATALOG:
        for node in ast.parse((MANIFEST.parent / name / "__main__.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name in seen:
                seen[node.name].add(ast.unparse(node))
    assert {name: len(bodies) for name, bodies in seen.items()} == {"whole": 1, "input_file": 1}
