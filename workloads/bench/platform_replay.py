"""The recordings of a running OpenWhisk, each sent to a fresh server; their own program compares the answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads.bench import BenchError
from workloads.bench.document import ROOT
from workloads.bench.platform_server import Server, new_key

RAISED = ("--invocations-per-minute", "60000", "--fires-per-minute", "60000", "--concurrent-invocations", "300")
# One request of this file asks for the record of an activation some milliseconds after its start and allows no time to
# retry: a race, in which a later attempt must agree in everything.
ATTEMPTS = {"11-node-client": 4}
IMAGE = "owlbb/py:1"
WITHOUT_IMAGE = r"POST .*/actions/bb\?"  # the steps that invoke an action of that image
FILE_S = 600.0
_COUNTS = re.compile(r": (\d+) of (\d+) exchanges agree$", re.MULTILINE)
_ALICE = re.compile(r'"alice": "([^"]+)"')


def transcripts() -> Path | None:
    """The folder of the recordings: in ``OWL_SHARED``, else beside the checkout; None where there is none."""
    folder = Path(os.environ.get("OWL_SHARED") or ROOT.parent / "shared") / "transcripts"
    return folder if (folder / "replay.py").is_file() else None


def has_image() -> bool:
    """Whether a Docker Engine here has the image that some recordings invoke."""
    try:
        return subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def replay(settings: dict[str, Any], work: Path, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """``{"files": {name: {"exchanges", "differences", "attempts", "output"}}, "skipped": expression or None}``.

    None without the recordings. ``output`` tells the differences.
    """
    folder = transcripts()
    if folder is None:
        return None
    alice = _ALICE.search((folder / "replay.py").read_text())
    if alice is None:
        raise BenchError(f"{folder / 'replay.py'} names no key of the user alice")
    skipped = None if has_image() else WITHOUT_IMAGE
    files = {}
    for file in sorted(folder.glob("[0-9]*.json")):
        progress(file.stem)
        for attempt in range(1, ATTEMPTS.get(file.stem, 1) + 1):
            found = _one(file, alice[1], skipped, work / file.stem)
            if not found["differences"]:
                break
        files[file.stem] = found | {"attempts": attempt}
    return {"files": files, "skipped": skipped}


def _one(file: Path, alice: str, skipped: str | None, work: Path) -> dict[str, Any]:
    # The recordings of the throttle were made with the limits that OpenWhisk has by default, as `owl serve` does.
    limits = () if "throttle" in file.stem else RAISED
    with Server(work, users={"alice": alice, "bench": new_key()}, limits=limits) as server:
        command = [
            sys.executable,
            str(file.parent / "replay.py"),
            "--verbose",
            "--apihost",
            f"http://127.0.0.1:{server.port}",
        ]
        try:
            done = subprocess.run(
                [*command, *(("--skip", skipped) if skipped else ()), str(file)],
                capture_output=True,
                text=True,
                timeout=FILE_S,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"the replay of {file.name} has not finished after {FILE_S:g} s") from None
    counts = _COUNTS.search(done.stdout)
    if counts is None:
        raise BenchError(f"the replay of {file.name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    agreed, exchanges = int(counts[1]), int(counts[2])
    output = done.stdout.strip().splitlines()[:-1]
    return {"exchanges": exchanges, "differences": exchanges - agreed, "output": output[:200]}
