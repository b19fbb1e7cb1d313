"""CPU threads of this container: one per core, waiting without burning its quota.

Import this module before torch. OpenMP workers spin by default while they wait for the
next parallel region; under a CFS quota that spinning is charged to the container, which is
then throttled although it did no work.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


def use_all_cores() -> int:
    """Give torch one thread per core this process may run on, so that more quota gives more speed.

    Returns the number of threads.
    """
    import torch

    count = len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count
