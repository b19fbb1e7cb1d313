"""The house stays as it was laid out: every package is shipped, and nobody imports what it must not know."""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

import pytest

FORBIDDEN = {
    "runtime-image/action_runtime": {"rm_agent", "deploy", "workloads"},
    "rm_agent": {"action_runtime", "deploy", "workloads"},
    "actions": {"rm_agent", "deploy", "workloads"},
    "workloads": {"action_runtime", "deploy"},
}
FEATURES = ("lora", "moe", "rlhf", "spam")


def imported(file: Path) -> set[str]:
    """Absolute module names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_package_is_shipped(repository: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    roots = [repository / "rm_agent", repository / "deploy", repository / "workloads", repository / "runtime-image/action_runtime"]
    found = {
        ".".join((root.name, *init.parent.relative_to(root).parts)) for root in roots for init in root.rglob("__init__.py")
    }
    assert listed == found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_keep_to_the_house(repository: Path, folder: str) -> None:
    wrong = [
        f"{file.relative_to(repository)} imports {name}"
        for file in sorted((repository / folder).rglob("*.py"))
        for name in sorted(imported(file))
        if name.split(".")[0] in FORBIDDEN[folder]
    ]
    assert not wrong


def test_features_of_the_runtime_do_not_know_each_other(repository: Path) -> None:
    runtime = repository / "runtime-image/action_runtime"
    wrong = [
        f"{file.relative_to(repository)} imports {name}"
        for feature in FEATURES
        for file in sorted((runtime / feature).rglob("*.py"))
        for name in sorted(imported(file))
        if any(name.startswith(f"action_runtime.{other}") for other in FEATURES if other != feature)
    ]
    assert not wrong
