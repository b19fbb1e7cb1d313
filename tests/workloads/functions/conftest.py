"""Calls a function as a container does: its folder run by a fresh interpreter, parameters in, result out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.inputs import prepare

CALLER = """
import json, runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
json.dump([main(params) for params in json.load(sys.stdin)], sys.stdout)
"""

Call = Callable[..., list[dict]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def inputs(cache: Path) -> Path:
    return prepare(cache)


@pytest.fixture
def call(repository: Path, cache: Path, tmp_path: Path) -> Call:
    """``call(name, params, ...)``: the results of one container called once with each of the parameters."""

    def run(name: str, *calls: dict) -> list[dict]:
        scratch = tmp_path / "tmp"
        scratch.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", CALLER, str(repository / "workloads" / "functions" / name)],
            input=json.dumps(calls),
            env={**os.environ, "OWL_CACHE": str(cache), "TMPDIR": str(scratch)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert list(scratch.iterdir()) == [], "the function left files behind"
        return json.loads(done.stdout)

    return run
