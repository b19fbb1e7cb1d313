"""CPU threads of this container: as many as its quota can feed, however it changes.

Import this module before torch. Measured on two cores with SmolLM2-135M, decoding at batch 1: under a quota of one
core one thread makes 24 tokens/s and two make 16, since what the second spends on waiting is charged too; with both
cores two threads make 36. Waiting threads spin for a few microseconds (twice the decoding speed lies between the next
parallel region and a sleep in the kernel) and then sleep: by default they would spin on, and be throttled for it.
"""

from __future__ import annotations

import math
import os
from functools import cache

from action_runtime.slices import CpuQuota

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def follow_quota() -> int:
    """Give torch as many threads as the container's quota has cores now; returns their number.

    Cheap enough for every decoding step. Call it on the thread that computes.
    """
    import torch

    count = max(1, math.floor(_quota().cores() + 0.5))
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
    return count


@cache
def _quota() -> CpuQuota:
    return CpuQuota()
