"""A container knows its own share of the CPU, and follows it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from action_runtime.slices import CpuQuota

MACHINE = float(len(os.sched_getaffinity(0)))


def layout(tmp_path, membership: str, files: dict[str, str]):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return CpuQuota(tmp_path / "mount", tmp_path / "membership")


V1 = "4:memory:/owl/c\n2:cpuacct,cpu:/owl/c\n0::/\n"
V2 = "0::/owl/c\n"


@pytest.mark.parametrize("folder", ["owl/c/", ""], ids=["full view", "own view"])
def test_version_1(tmp_path, folder):
    files = {f"cpu/{folder}cpu.cfs_quota_us": "25000\n", f"cpu/{folder}cpu.cfs_period_us": "100000\n"}
    quota = layout(tmp_path, V1, files)
    assert quota.cores() == 0.25
    (tmp_path / f"mount/cpu/{folder}cpu.cfs_quota_us").write_text("50000\n")
    assert quota.cores() == 0.5
    quota.close()
    assert quota.cores() == MACHINE


@pytest.mark.parametrize("folder", ["owl/c/", ""], ids=["full view", "own view"])
def test_version_2(tmp_path, folder):
    assert layout(tmp_path, V2, {f"{folder}cpu.max": "75000 100000\n"}).cores() == 0.75


@pytest.mark.parametrize("text", ["max 100000\n", "", "900000000 100000\n", "1 0\n", "?"])
def test_what_does_not_limit_is_the_machine(tmp_path, text):
    assert layout(tmp_path, V2, {"owl/c/cpu.max": text}).cores() == MACHINE


def test_without_control_groups(tmp_path):
    assert layout(tmp_path, V1, {}).cores() == CpuQuota(tmp_path, tmp_path / "none").cores() == MACHINE


@pytest.mark.root
def test_the_share_of_a_running_process(group):
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process, ExitStack() as stack:
        stack.callback(process.kill)
        group.add(process.pid)
        seen = []
        for millis in (500, 900, None):
            group.set_cpu(millis)
            process.stdin.write("\n")
            seen.append(float(process.stdout.readline()))
        assert seen == [0.5, 0.9, MACHINE]


WATCH = """
import sys
from action_runtime.slices import CpuQuota
quota = None
for _ in sys.stdin:
    quota = quota or CpuQuota()
    print(quota.cores(), flush=True)
"""


@pytest.fixture
def group():
    from rm_agent.cgroup import detect

    driver = detect()
    parent = f"owl-test-{os.getpid()}"
    made = driver.create(f"{parent}/slice")
    yield made
    made.kill()
    made.remove()
    driver.open(parent).remove()
