"""Control groups version 1: one hierarchy per controller."""

from __future__ import annotations

import time
from pathlib import Path

from rm_agent.cgroup.base import (
    MIB,
    PERIOD_USEC,
    Cgroup,
    CgroupDriver,
    CgroupError,
    CgroupNotFound,
    Usage,
    checked,
    field,
    process_groups,
    quota,
    read,
    subfolders,
    write,
)

CONTROLLERS = ("cpu", "cpuacct", "memory", "freezer", "pids")
_UNLIMITED = 1 << 62  # the kernel shows "no limit" as the largest page-aligned number


class CgroupV1(Cgroup):
    def __init__(self, hierarchies: dict[str, Path], path: str) -> None:
        super().__init__(path)
        self._folder = {controller: hierarchy / path for controller, hierarchy in hierarchies.items()}
        cpu, memory = self._folder["cpu"], self._folder["memory"]
        self._quota = cpu / "cpu.cfs_quota_us"
        self._cpu_stat = cpu / "cpu.stat"
        self._cpu_usage = self._folder["cpuacct"] / "cpuacct.usage"
        self._limit = memory / "memory.limit_in_bytes"
        self._limit_with_swap = memory / "memory.memsw.limit_in_bytes"
        self._memory_usage = memory / "memory.usage_in_bytes"
        self._memory_stat = memory / "memory.stat"
        self._memory_peak = memory / "memory.max_usage_in_bytes"
        self._oom = memory / "memory.oom_control"
        self._state = self._folder["freezer"] / "freezer.state"

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self._folder.values()))

    def set_cpu(self, millis: int | None) -> None:
        value = quota(millis)
        write(self._quota, "-1" if value is None else str(value))

    def get_cpu(self) -> int | None:
        value = int(read(self._quota))
        if value < 0:
            return None
        return value * 1000 // int(read(self._folder["cpu"] / "cpu.cfs_period_us"))

    def set_cpu_weight(self, shares: int) -> None:
        write(self._folder["cpu"] / "cpu.shares", str(min(max(shares, 2), 262_144)))

    def set_memory(self, mib: int | None) -> None:
        value = _UNLIMITED if mib is None else mib * MIB
        text = "-1" if mib is None else str(value)
        if not self._limit_with_swap.exists():  # kernel without swap accounting
            write(self._limit, text)
            return
        # The limit must never exceed the limit with swap, not even between the two writes.
        if value >= int(read(self._limit_with_swap)):
            write(self._limit_with_swap, text)
            write(self._limit, text)
            return
        before = read(self._limit).strip()
        write(self._limit, text)
        try:
            write(self._limit_with_swap, text)
        except CgroupError:
            write(self._limit, before)
            raise

    def get_memory(self) -> int | None:
        value = int(read(self._limit))
        return None if value >= _UNLIMITED else value // MIB

    def set_pids(self, count: int) -> None:
        write(self._folder["pids"] / "pids.max", str(count))

    def usage(self) -> Usage:
        cpu = read(self._cpu_stat)
        cpu_usec = int(read(self._cpu_usage)) // 1000
        now = time.monotonic_ns()
        inactive = field(read(self._memory_stat), "total_inactive_file")
        return Usage(
            time_ns=now,
            cpu_usec=cpu_usec,
            periods=field(cpu, "nr_periods"),
            throttled_periods=field(cpu, "nr_throttled"),
            throttled_usec=field(cpu, "throttled_time") // 1000,
            memory_bytes=max(0, int(read(self._memory_usage)) - inactive),
            memory_peak_bytes=int(read(self._memory_peak)),
            oom_kills=field(read(self._oom), "oom_kill"),
        )

    def freeze(self) -> None:
        write(self._state, "FROZEN")

    def thaw(self) -> None:
        write(self._state, "THAWED")

    def _kill_once(self, pids: list[int]) -> None:
        super()._kill_once(pids)
        self.thaw()  # in version 1 a frozen process does not even die


class CgroupDriverV1(CgroupDriver):
    version = 1

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        # cpu and cpuacct are often one hierarchy under two names.
        self._hierarchies = {controller: (root / controller).resolve() for controller in CONTROLLERS}

    def create(self, path: str) -> Cgroup:
        group = CgroupV1(self._hierarchies, checked(path))
        for folder in group.folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CgroupError(f"cannot create control group {folder}: {error.strerror}") from None
        write(self._hierarchies["cpu"] / path / "cpu.cfs_period_us", str(PERIOD_USEC))
        return group

    def open(self, path: str) -> Cgroup:
        group = CgroupV1(self._hierarchies, checked(path))
        if not all(folder.is_dir() for folder in group.folders):
            raise CgroupNotFound(f"there is no control group {path}")
        return group

    def children(self, parent: str) -> list[str]:
        return subfolders(self._hierarchies["cpu"] / checked(parent))

    def of_pid(self, pid: int) -> str | None:
        for _, controllers, path in process_groups(pid):
            if "cpu" in controllers.split(","):
                return path.strip("/")
        return None
