"""Memory, and the folder in which everything is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from deploy.cli.doctor.finding import Finding, fails, ok, warning
from deploy.cli.home import LONGEST_SOCKET_PATH, Home

MIB = 1 << 20
LEAST_MEMORY_MIB, ENOUGH_MEMORY_MIB = 512, 2048
LEAST_DISK_MIB, ENOUGH_DISK_MIB = 100, 1024


def memory() -> Finding:
    found = psutil.virtual_memory()
    free = found.available // MIB
    text = f"{free} MiB free of {found.total // MIB}"
    if free < LEAST_MEMORY_MIB:
        return fails("memory", f"{text}: not enough for the server and a function", "end other programs")
    if free < ENOUGH_MEMORY_MIB:
        text = f"{text}: small functions only; the LLM functions ask for 2048 MB each"
        return warning("memory", text, "end other programs, or use a larger machine for the LLM functions")
    return ok("memory", text)


def folder() -> Finding:
    """Whether the server can keep its data, and for how long there is room."""
    home = Home()
    fix = "set OWL_HOME to another folder"
    if len(os.fsencode(home.node_socket)) > LONGEST_SOCKET_PATH:
        text = f"{home.path} is too long a path for a socket in it"
        return fails("data folder", text, "set OWL_HOME to a shorter one")
    existing = next(path for path in (home.path, *home.path.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"owl")
        free = shutil.disk_usage(existing).free // MIB
    except OSError as error:
        return fails("data folder", f"{existing} cannot be written: {error.strerror}", fix)
    text = f"{home.path}, {free} MiB free{_used(home.path)}"
    if free < LEAST_DISK_MIB:
        return fails("data folder", f"{text}: the disk is full", f"make room, or {fix}")
    if free < ENOUGH_DISK_MIB:
        return warning("data folder", f"{text}: records and logs will fill that", f"make room, or {fix}")
    return ok("data folder", text)


def _used(home: Path) -> str:
    try:
        used = sum(file.stat().st_size for file in (home / "server").glob("*") if file.is_file())
    except OSError:
        return ""
    return f", {used // MIB} MiB used" if used >= MIB else ""
