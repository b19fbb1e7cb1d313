"""Control groups version 2: one hierarchy, controllers enabled from the root down."""

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

CONTROLLERS = ("cpu", "memory", "pids")


class CgroupV2(Cgroup):
    def __init__(self, root: Path, path: str) -> None:
        super().__init__(path)
        folder = root / path
        self._folder = folder
        self._cpu_max = folder / "cpu.max"
        self._cpu_stat = folder / "cpu.stat"
        self._memory_max = folder / "memory.max"
        self._swap_max = folder / "memory.swap.max"
        self._memory_current = folder / "memory.current"
        self._memory_stat = folder / "memory.stat"
        self._memory_peak = folder / "memory.peak"
        self._memory_events = folder / "memory.events"
        self._peak = 0

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self._folder,)

    def set_cpu(self, millis: int | None) -> None:
        value = quota(millis)
        write(self._cpu_max, f"{'max' if value is None else value} {PERIOD_USEC}")

    def get_cpu(self) -> int | None:
        value, period = read(self._cpu_max).split()
        return None if value == "max" else int(value) * 1000 // int(period)

    def set_cpu_weight(self, shares: int) -> None:
        write(self._folder / "cpu.weight", str(min(max(shares * 100 // 1024, 1), 10_000)))

    def set_memory(self, mib: int | None) -> None:
        # Version 2 takes any limit and kills what does not fit; version 1 refuses. Here both refuse.
        if mib is not None and self._working_set() > mib * MIB:
            raise CgroupError(f"cannot limit control group {self.path} to {mib} MiB: more is in use")
        write(self._memory_max, "max" if mib is None else str(mib * MIB))
        if self._swap_max.exists():
            write(self._swap_max, "max" if mib is None else "0")

    def get_memory(self) -> int | None:
        value = read(self._memory_max).strip()
        return None if value == "max" else int(value) // MIB

    def set_pids(self, count: int) -> None:
        write(self._folder / "pids.max", str(count))

    def usage(self) -> Usage:
        cpu = read(self._cpu_stat)
        now = time.monotonic_ns()
        current = int(read(self._memory_current))
        return Usage(
            time_ns=now,
            cpu_usec=field(cpu, "usage_usec"),
            periods=field(cpu, "nr_periods"),
            throttled_periods=field(cpu, "nr_throttled"),
            throttled_usec=field(cpu, "throttled_usec"),
            memory_bytes=max(0, current - field(read(self._memory_stat), "inactive_file")),
            memory_peak_bytes=self._peak_bytes(current),
            oom_kills=field(read(self._memory_events), "oom_kill"),
        )

    def freeze(self) -> None:
        write(self._folder / "cgroup.freeze", "1")

    def thaw(self) -> None:
        write(self._folder / "cgroup.freeze", "0")

    def _working_set(self) -> int:
        return int(read(self._memory_current)) - field(read(self._memory_stat), "inactive_file")

    def _peak_bytes(self, current: int) -> int:
        try:
            return int(read(self._memory_peak))
        except CgroupError:  # memory.peak is new in Linux 5.19; before it the highest sample stands in
            self._peak = max(self._peak, current)
            return self._peak

    def _kill_once(self, pids: list[int]) -> None:
        kill = self._folder / "cgroup.kill"
        if kill.exists():  # new in Linux 5.14; reaches processes that fork meanwhile
            write(kill, "1")
        else:
            super()._kill_once(pids)


class CgroupDriverV2(CgroupDriver):
    version = 2

    def create(self, path: str) -> Cgroup:
        folder = self.root
        for part in checked(path).split("/"):
            self.enable(folder)
            folder = folder / part
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise CgroupError(f"cannot create control group {folder}: {error.strerror}") from None
        return CgroupV2(self.root, path)

    def open(self, path: str) -> Cgroup:
        if not (self.root / checked(path)).is_dir():
            raise CgroupNotFound(f"there is no control group {path}")
        return CgroupV2(self.root, path)

    def children(self, parent: str) -> list[str]:
        return subfolders(self.root / checked(parent))

    def of_pid(self, pid: int) -> str | None:
        for number, _, path in process_groups(pid):
            if number == "0":
                return path.strip("/")
        return None

    def enable(self, folder: Path) -> None:
        """Let the groups below ``folder`` use the controllers. Raises :class:`CgroupError` where that is not allowed."""
        control = folder / "cgroup.subtree_control"
        missing = [name for name in CONTROLLERS if name not in read(control).split()]
        if missing:
            write(control, " ".join(f"+{name}" for name in missing))
