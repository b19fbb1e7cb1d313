"""This container's share of the machine, which a resource manager may change while an action runs."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


class CpuQuota:
    """The CPU time that the container may use, read from its control group (version 1 or 2).

    The file is kept open, so that a look costs microseconds and can be had at every decoding step. Where there is no
    such file, nothing limits the container but the machine.
    """

    def __init__(self, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> None:
        self._machine = float(len(os.sched_getaffinity(0)))
        self._quota, self._period = _open(cgroups, membership)

    def cores(self) -> float:
        """Cores' worth of CPU time, at most those of the machine; 1.5 is three halves of every period."""
        try:
            words = os.pread(self._quota, 64, 0).split() if self._quota is not None else []
            if self._period is not None:
                words += os.pread(self._period, 64, 0).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # "max", or the file is gone
            return self._machine
        return min(self._machine, quota / period) if quota > 0 and period > 0 else self._machine

    def close(self) -> None:
        for descriptor in (self._quota, self._period):
            if descriptor is not None:
                os.close(descriptor)
        self._quota = self._period = None


def _open(cgroups: Path, membership: Path) -> tuple[int | None, int | None]:
    """Descriptors of quota and period on version 1, of the one file that has both on version 2."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None, None
    for _, controllers, path in lines:
        # A container with a view of its own finds its group at the root of the mount, not at the path it is told.
        for folder in (path.lstrip("/"), ""):
            group = cgroups / "cpu" / folder
            if "cpu" in controllers.split(",") and (quota := _descriptor(group / "cpu.cfs_quota_us")) is not None:
                return quota, _descriptor(group / "cpu.cfs_period_us")
            if not controllers and (both := _descriptor(cgroups / folder / "cpu.max")) is not None:
                return both, None
    return None, None


def _descriptor(file: Path) -> int | None:
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
