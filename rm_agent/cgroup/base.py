"""The interface of a control group; the two kernel versions differ only in the files behind it."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

PERIOD_USEC = 100_000  # CFS period: the kernel's and Docker's default
MIN_CPU_MILLIS = 10  # the kernel refuses quotas below 1 ms per period
MIB = 1 << 20

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*")


class CgroupError(Exception):
    """The kernel refused an operation on a control group."""


class CgroupNotFound(CgroupError):
    """The control group does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample of a group. Counters only grow during the life of the group."""

    time_ns: int  # time.monotonic_ns() of the sample
    cpu_usec: int  # CPU time used
    periods: int  # quota periods in which the group was runnable
    throttled_periods: int
    throttled_usec: int
    memory_bytes: int  # working set: usage without inactive file pages
    memory_peak_bytes: int  # highest usage, file pages included
    oom_kills: int


class Cgroup(ABC):
    """One control group. Holds no open files: a group that is removed elsewhere costs nothing here.

    Every method raises :class:`CgroupNotFound` when the group is gone and :class:`CgroupError` when the
    kernel refuses.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    @property
    @abstractmethod
    def folders(self) -> tuple[Path, ...]:
        """The group's folders: one per controller in version 1, a single one in version 2."""

    @property
    def procs_files(self) -> tuple[Path, ...]:
        """Files into which a process writes ``0`` to join the group itself, before it execs."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def add(self, pid: int) -> None:
        """Move the process with all its threads into the group."""
        for file in self.procs_files:
            write(file, str(pid))

    def pids(self) -> list[int]:
        """Processes in the group; zombies do not count."""
        return [int(line) for line in read(self.procs_files[0]).split()]

    @abstractmethod
    def set_cpu(self, millis: int | None) -> None:
        """Quota in thousandths of a core, at least 10; ``None`` lifts it."""

    @abstractmethod
    def get_cpu(self) -> int | None: ...

    @abstractmethod
    def set_cpu_weight(self, shares: int) -> None:
        """Share of the CPU under contention on the scale of version 1: 1024 is the weight of a group by default."""

    @abstractmethod
    def set_memory(self, mib: int | None) -> None:
        """Limit of memory and swap together; ``None`` lifts it. Refused when more than that is in use."""

    @abstractmethod
    def get_memory(self) -> int | None: ...

    @abstractmethod
    def set_pids(self, count: int) -> None:
        """Limit of processes and threads together."""

    @abstractmethod
    def usage(self) -> Usage:
        """A sample of the group's counters."""

    @abstractmethod
    def freeze(self) -> None:
        """Stop every process in the group; returns once the kernel has the order."""

    @abstractmethod
    def thaw(self) -> None: ...

    def kill(self, timeout_s: float = 5.0) -> None:
        """SIGKILL every process, frozen or not, until the group is empty.

        Raises :class:`CgroupError` when some are left after ``timeout_s`` (uninterruptible I/O).
        """
        deadline = time.monotonic() + timeout_s
        while pids := self.pids():
            self._kill_once(pids)
            if time.monotonic() > deadline:
                raise CgroupError(f"control group {self.path}: processes {pids} survive SIGKILL")
            time.sleep(0.001)

    def _kill_once(self, pids: list[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self, timeout_s: float = 2.0) -> None:
        """Remove the empty group; nothing happens when it is gone already."""
        deadline = time.monotonic() + timeout_s
        for folder in self.folders:
            while True:
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    # The kernel reports EBUSY until the last exited process is fully detached.
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise CgroupError(f"cannot remove control group {self.path}: {error.strerror}") from None
                    time.sleep(0.002)


class CgroupDriver(ABC):
    """The mounted hierarchy. Paths are relative to the mount: ``owl-3233/wsk0_1_guest_hello``."""

    version: int

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def create(self, path: str) -> Cgroup:
        """Make the group with its parents, or return the one that exists.

        Raises ``ValueError`` for a path with anything but plain names in it.
        """

    @abstractmethod
    def open(self, path: str) -> Cgroup:
        """Raises :class:`CgroupNotFound` when there is no such group."""

    @abstractmethod
    def children(self, parent: str) -> list[str]:
        """Names of the groups directly below ``parent``; none when there is no such parent."""

    @abstractmethod
    def of_pid(self, pid: int) -> str | None:
        """Path of the group that accounts the process's CPU; ``""`` is the root, ``None`` a process that is gone."""


def checked(path: str) -> str:
    """``path`` when it consists of plain names only."""
    if not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        raise ValueError(f"{path!r} is no path of a control group: use names of letters, digits and _.@:- joined by /")
    return path


def subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def process_groups(pid: int) -> list[tuple[str, str, str]]:
    """Lines of ``/proc/PID/cgroup`` as (hierarchy, controllers, path); empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [(number, controllers, path) for number, controllers, path in (line.split(":", 2) for line in text.splitlines())]


def quota(millis: int | None) -> int | None:
    """CFS quota in microseconds per period."""
    if millis is None:
        return None
    if millis < MIN_CPU_MILLIS:
        raise ValueError(f"a CPU quota is at least {MIN_CPU_MILLIS} thousandths of a core, not {millis}")
    return millis * PERIOD_USEC // 1000


def read(file: Path) -> str:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 65536).decode()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error, file, "read") from None


def write(file: Path, value: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error, file, f"write {value} to") from None


def field(text: str, name: str) -> int:
    """The number after ``name`` in a flat keyed file; 0 when the kernel does not report it."""
    text = "\n" + text
    start = text.find(f"\n{name} ")
    if start < 0:
        return 0
    start += len(name) + 2
    end = text.find("\n", start)
    return int(text[start:] if end < 0 else text[start:end])


def _translated(error: OSError, file: Path, verb: str) -> CgroupError:
    if error.errno in (errno.ENOENT, errno.ENODEV) and not file.parent.exists():
        return CgroupNotFound(f"there is no control group {file.parent}")
    return CgroupError(f"cannot {verb} {file}: {error.strerror}")
