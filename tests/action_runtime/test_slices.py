"""A container knows its own share of the CPU, and follows it."""

from __future__ import annotations

import os
import subprocess
import sys

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


FOLLOW = """
import sys
from action_runtime.llm.threads import follow_quota
for _ in sys.stdin:
    print(follow_quota(), flush=True)
"""


@pytest.mark.root
@pytest.mark.skipif(MACHINE < 2, reason="needs two cores")
def test_threads_follow_a_quota_that_changes():
    from rm_agent.cgroup import detect

    group = detect().create(f"owl-test-{os.getpid()}/threads")
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        group.add(process.pid)
        counts = []
        for millis in (500, 1000, 2000, 1400, None):
            group.set_cpu(millis)
            process.stdin.write("\n")
            counts.append(int(process.stdout.readline()))
        assert counts == [1, 1, 2, 1, MACHINE]
    finally:
        process.kill()
        process.communicate()
        group.remove()
        detect().open(group.path.rpartition("/")[0]).remove()
