"""Control groups: version 1 against the kernel, version 2 against a folder laid out like its mount."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rm_agent.cgroup import Cgroup, CgroupDriver, CgroupError, CgroupNotFound, detect

SPIN = "while True: pass"
V2_FILES = {
    "cgroup.procs": "",
    "cgroup.freeze": "0\n",
    "cpu.max": "max 100000\n",
    "cpu.weight": "100\n",
    "cpu.stat": "usage_usec 2500\nuser_usec 2000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 900\n",
    "memory.current": str(60 << 20),
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.stat": f"anon 100\nfile 200\ninactive_anon 5\nactive_file 7\ninactive_file {20 << 20}\n",
    "memory.peak": str(90 << 20),
    "memory.events": "low 0\nhigh 0\nmax 0\noom 1\noom_kill 2\n",
    "pids.max": "max\n",
}


@pytest.fixture
def group() -> Iterator[Cgroup]:
    driver = detect()
    parent = f"owltest-{uuid.uuid4().hex[:8]}"
    group = driver.create(f"{parent}/wsk0_1_guest_hello")
    yield group
    try:
        group.kill()
    except CgroupNotFound:
        pass
    group.remove()
    driver.open(parent).remove()


def python(group: Cgroup, code: str) -> subprocess.Popen[bytes]:
    """A Python process that is in the group before its first instruction."""
    joins = "; ".join(f"echo 0 > {file}" for file in group.procs_files)
    return subprocess.Popen(["sh", "-c", f'{joins}; exec "$0" -c "$1"', sys.executable, code], stdout=subprocess.PIPE)


@pytest.mark.root
def test_a_process_joins_and_is_found_in_its_group(group: Cgroup) -> None:
    driver = detect()
    process = python(group, SPIN)
    while not group.pids():
        time.sleep(0.001)
    assert group.pids() == [process.pid]
    assert driver.of_pid(process.pid) == group.path
    assert driver.children(group.path.split("/")[0]) == ["wsk0_1_guest_hello"]
    group.kill()
    assert process.wait() == -9
    assert driver.of_pid(process.pid) is None


@pytest.mark.root
def test_a_running_process_can_be_added(group: Cgroup) -> None:
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    group.add(process.pid)
    assert group.pids() == [process.pid]
    group.kill()
    process.wait()
    with pytest.raises(CgroupError):
        group.add(process.pid)


@pytest.mark.root
def test_the_quota_is_a_real_one(group: Cgroup) -> None:
    assert group.get_cpu() is None
    group.set_cpu(200)
    assert group.get_cpu() == 200
    python(group, SPIN)
    while not group.pids():
        time.sleep(0.001)
    before = group.usage()
    time.sleep(0.5)
    after = group.usage()
    cores = (after.cpu_usec - before.cpu_usec) * 1000 / (after.time_ns - before.time_ns)
    assert 0.05 < cores < 0.35
    assert after.throttled_periods > before.throttled_periods
    assert after.throttled_usec >= before.throttled_usec
    assert after.periods > before.periods
    group.set_cpu(None)
    assert group.get_cpu() is None


@pytest.mark.root
def test_memory_limits_grow_and_shrink_but_not_below_usage(group: Cgroup) -> None:
    assert group.get_memory() is None
    for mib in (128, 256, 64, 512, 128):
        group.set_memory(mib)
        assert group.get_memory() == mib
    process = python(group, "import time; b = b'x' * (80 << 20); print('held', flush=True); time.sleep(60)")
    assert process.stdout.readline() == b"held\n"
    usage = group.usage()
    assert 80 << 20 < usage.memory_bytes <= usage.memory_peak_bytes <= 128 << 20
    with pytest.raises(CgroupError):
        group.set_memory(40)
    assert group.get_memory() == 128
    group.set_memory(None)
    assert group.get_memory() is None
    assert group.usage().oom_kills == 0


@pytest.mark.root
def test_more_memory_than_the_limit_is_an_oom_kill(group: Cgroup) -> None:
    group.set_memory(32)
    process = python(group, "b = b'x' * (64 << 20)")
    assert process.wait(10) == -9
    assert group.usage().oom_kills == 1


@pytest.mark.root
def test_freezing_stops_and_thawing_goes_on(group: Cgroup) -> None:
    process = python(group, SPIN)
    while group.usage().cpu_usec < 30_000:
        time.sleep(0.005)
    group.freeze()
    time.sleep(0.02)
    before = group.usage().cpu_usec
    time.sleep(0.1)
    assert group.usage().cpu_usec - before < 5_000
    group.thaw()
    time.sleep(0.1)
    assert group.usage().cpu_usec - before > 10_000
    group.freeze()
    group.kill()
    assert process.wait() == -9


@pytest.mark.root
def test_forking_processes_all_die(group: Cgroup) -> None:
    group.set_pids(64)
    process = python(group, "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass")
    while len(group.pids()) < 20:
        time.sleep(0.001)
    group.kill()
    assert group.pids() == []
    process.wait()


@pytest.mark.root
def test_a_group_that_is_gone_says_so(group: Cgroup) -> None:
    driver = detect()
    again = driver.open(group.path)
    group.remove()
    group.remove()
    with pytest.raises(CgroupNotFound):
        again.usage()
    with pytest.raises(CgroupNotFound):
        again.set_cpu(100)
    with pytest.raises(CgroupNotFound):
        driver.open(group.path)


@pytest.mark.root
def test_weights_are_kept_in_the_kernels_range(group: Cgroup) -> None:
    for shares in (0, 1024, 10**9):
        group.set_cpu_weight(shares)


@pytest.mark.root
@pytest.mark.parametrize("path", ["", "../x", "a/../b", "/a", "a//b", "a b", ".hidden"])
def test_only_plain_names_make_a_path(path: str) -> None:
    with pytest.raises(ValueError):
        detect().create(path)


def test_nothing_writable_is_no_driver(tmp_path: Path) -> None:
    assert detect(tmp_path) is None
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    assert detect(tmp_path) is None


@pytest.fixture
def v2(tmp_path: Path) -> CgroupDriver:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (tmp_path / "owl-1").mkdir()
    (tmp_path / "owl-1" / "cgroup.subtree_control").write_text("pids\n")
    return detect(tmp_path)


@pytest.fixture
def v2_group(v2: CgroupDriver) -> Cgroup:
    group = v2.create("owl-1/c")
    for name, text in V2_FILES.items():
        (v2.root / group.path / name).write_text(text)
    return group


def text(v2: CgroupDriver, name: str) -> str:
    return (v2.root / "owl-1" / "c" / name).read_text()


def test_v2_enables_what_the_children_need(v2: CgroupDriver, v2_group: Cgroup) -> None:
    assert v2.version == 2
    assert (v2.root / "owl-1" / "cgroup.subtree_control").read_text().startswith("+cpu +memory")
    assert v2.children("owl-1") == ["c"]
    assert v2.children("owl-2") == []
    with pytest.raises(CgroupNotFound):
        v2.open("owl-1/d")


def test_v2_sample(v2_group: Cgroup) -> None:
    usage = v2_group.usage()
    assert (usage.cpu_usec, usage.periods, usage.throttled_periods, usage.throttled_usec) == (2500, 7, 3, 900)
    assert usage.memory_bytes == 40 << 20
    assert usage.memory_peak_bytes == 90 << 20
    assert usage.oom_kills == 2


def test_v2_peak_without_kernel_support_is_the_highest_sample(v2: CgroupDriver, v2_group: Cgroup) -> None:
    (v2.root / v2_group.path / "memory.peak").unlink()
    assert v2_group.usage().memory_peak_bytes == 60 << 20
    (v2.root / v2_group.path / "memory.current").write_text("1024")
    assert v2_group.usage().memory_peak_bytes == 60 << 20


def test_v2_settings(v2: CgroupDriver, v2_group: Cgroup) -> None:
    assert v2_group.get_cpu() is None
    v2_group.set_cpu(1500)
    assert text(v2, "cpu.max").startswith("150000 100000")
    assert v2_group.get_cpu() == 1500
    v2_group.set_cpu_weight(2048)
    assert text(v2, "cpu.weight").startswith("200")
    with pytest.raises(ValueError):
        v2_group.set_cpu(5)
    assert v2_group.get_memory() is None
    v2_group.set_memory(64)
    assert (v2_group.get_memory(), text(v2, "memory.swap.max")[0]) == (64, "0")
    v2_group.freeze()
    assert text(v2, "cgroup.freeze").startswith("1")


def test_v2_refuses_a_limit_below_usage(v2_group: Cgroup) -> None:
    with pytest.raises(CgroupError, match="more is in use"):
        v2_group.set_memory(39)
    assert v2_group.get_memory() is None


def test_v2_names_the_group_of_a_process(v2: CgroupDriver) -> None:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    unified = [line[3:].strip("/") for line in lines if line.startswith("0::")]
    assert v2.of_pid(os.getpid()) == (unified[0] if unified else None)
