"""The platform of a measurement, with real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rm_agent.cgroup import CgroupNotFound, detect
from rm_agent.journal import audit
from workloads.bench.watch import attach
from workloads.platform import Platform, PlatformError
from workloads.replay import Request, replay

pytestmark = [pytest.mark.root, pytest.mark.slow]

ACTION = """
import time
def main(args):
    if args.get("fail"):
        return {"error": "asked to fail"}
    end = time.process_time() + args.get("cpu_s", 0)
    while time.process_time() < end:
        pass
    return {"done": True}
"""
MANIFEST = """
packages:
  bench:
    actions:
      spin:
        function: spin.py
        runtime: python:3.11
        limits: {memorySize: 128}
        annotations: {resources: {cpu: 300}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "spin.py").write_text(ACTION)
    file = tmp_path / "manifest.yaml"
    file.write_text(textwrap.dedent(MANIFEST))
    return file


def groups(url: str) -> list[str]:
    """Names of the containers' groups of the server at ``url``."""
    try:
        return detect().children(f"owl-{url.rpartition(':')[2]}")
    except CgroupNotFound:
        return []


def test_deployed_warm_and_gone_afterwards(tmp_path: Path, manifest: Path) -> None:
    with Platform(managed=False, manifests=[manifest], work=tmp_path / "work") as platform:
        assert platform.resources(["bench/spin"]) == {"bench/spin": {"cpu": 300, "memory": 128}}
        platform.warm({"bench/spin": [{}, {}]})
        assert not platform.openwhisk.invoke("bench/spin", {}).cold
        platform.check()
        assert groups(platform.openwhisk.url)
    assert not platform.openwhisk.ping()
    assert not groups(platform.openwhisk.url)


def test_a_function_that_fails_stops_the_measurement_with_its_reason(tmp_path: Path, manifest: Path) -> None:
    with Platform(managed=False, manifests=[manifest], work=tmp_path / "work") as platform:
        with pytest.raises(PlatformError, match=r"bench/spin does not run here: .*asked to fail"):
            platform.warm({"bench/spin": [{"fail": True}]})


def test_a_manifest_that_is_missing_is_named_and_nothing_stays(tmp_path: Path) -> None:
    platform = Platform(managed=False, manifests=[tmp_path / "nothing.yaml"], work=tmp_path / "work")
    with pytest.raises(PlatformError, match="owl deploy.*nothing.yaml"):
        platform.__enter__()
    assert not platform.openwhisk.ping()


def test_wrong_options_are_told_with_the_servers_words(tmp_path: Path) -> None:
    platform = Platform(managed=False, manifests=[], work=tmp_path / "work", options=["--no-such-option"])
    with pytest.raises(PlatformError, match="no-such-option"):
        platform.__enter__()


def test_the_journal_knows_every_call_of_a_managed_replay(tmp_path: Path, manifest: Path) -> None:
    with Platform(managed=True, manifests=[manifest], work=tmp_path / "work") as platform:
        platform.warm({"bench/spin": [{}]})
        calls = replay([Request(i, 0.1 * i, "bench/spin", {"cpu_s": 0.05}) for i in range(8)], platform.openwhisk)
        state = platform.state()
        assert state["totals"]["cpu_millis"]["own"] >= 300
    attach(calls, platform.journal)
    assert all(call.ok for call in calls)
    assert all(call.use and call.use["own_cpu"] == 300 and call.use["own_memory"] == 128 for call in calls)
    assert audit(platform.journal).violations == 0


def test_ctrl_c_in_mid_replay_leaves_nothing(tmp_path: Path, manifest: Path) -> None:
    program = f"""
from pathlib import Path
from workloads.platform import Platform
from workloads.replay import Request, replay
with Platform(managed=True, manifests=[Path({str(manifest)!r})], work=Path({str(tmp_path / "work")!r})) as platform:
    print(platform.openwhisk.url, flush=True)
    replay([Request(i, 0.2 * i, "bench/spin", {{"cpu_s": 0.1}}) for i in range(500)], platform.openwhisk)
"""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, text=True
    )
    try:
        url = process.stdout.readline().strip()
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert url.startswith("http://127.0.0.1:")
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not groups(url)
    port = url.rpartition(":")[2]
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and f"--port\0{port}\0".encode() in _command(pid)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
