"""What a container has, in whole units of each resource."""

from __future__ import annotations

from typing import NamedTuple


class Allocation(NamedTuple):
    """Amounts of one container; 0 means that the resource is not limited and therefore not managed."""

    cpu_millis: int = 0  # thousandths of a core (CFS quota)
    memory_mib: int = 0
    gpu_percent: int = 0  # share of the device's compute time
    gpu_memory_mib: int = 0


RESOURCES: tuple[str, ...] = Allocation._fields
