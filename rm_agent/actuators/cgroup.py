"""Enforces CPU quotas and memory limits through control groups."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rm_agent.actuators import ActuatorError, ContainerGone
from rm_agent.cgroup import Cgroup, CgroupDriver, CgroupError, CgroupNotFound
from rm_agent.harvest import Allocation


class CgroupActuator:
    """``path`` of a container is the path of its control group. CPU weights are never touched: they keep the
    proportions of the owners' own CPU, which is what each gets under contention whatever the quotas say."""

    resources = ("cpu_millis", "memory_mib")

    def __init__(self, driver: CgroupDriver) -> None:
        self._driver = driver
        self._groups: dict[str, Cgroup] = {}

    def read(self, path: str) -> Allocation:
        try:
            group = self._group(path)
            return Allocation(cpu_millis=group.get_cpu() or 0, memory_mib=group.get_memory() or 0)
        except CgroupNotFound:
            self._groups.pop(path, None)
            raise ContainerGone(path) from None
        except CgroupError as error:
            raise ActuatorError(str(error)) from None

    def apply(self, path: str, resource: str, amount: int) -> None:
        try:
            group = self._group(path)
            if resource == "cpu_millis":
                group.set_cpu(amount)
            else:
                group.set_memory(amount)
        except CgroupNotFound:
            self._groups.pop(path, None)
            raise ContainerGone(path) from None
        except CgroupError as error:
            raise ActuatorError(str(error)) from None

    def identity(self, path: str) -> str:
        try:
            # The kernel numbers control groups in order of creation and reuses no number before a restart.
            return f"{_boot()}:{self._driver.open(path).folders[0].stat().st_ino}"
        except (CgroupNotFound, FileNotFoundError):
            raise ContainerGone(path) from None

    def forget(self, path: str) -> None:
        """The container is gone."""
        self._groups.pop(path, None)

    def _group(self, path: str) -> Cgroup:
        # Opening looks at every folder of the group, which costs more than the write itself.
        group = self._groups.get(path)
        if group is None:
            group = self._groups[path] = self._driver.open(path)
        return group


class DryActuator(CgroupActuator):
    """Reads what is enforced and changes nothing."""

    def apply(self, path: str, resource: str, amount: int) -> None:
        self.identity(path)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
