"""Finds the control groups this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from rm_agent.cgroup import v1, v2
from rm_agent.cgroup.base import CgroupDriver, CgroupError

MOUNT = Path("/sys/fs/cgroup")


def detect(root: Path = MOUNT) -> CgroupDriver | None:
    """The driver for what is mounted at ``root`` and writable, or ``None``.

    Version 2 is taken only with CPU and memory controllers that can be enabled for groups below the root; a
    host with both versions keeps its controllers in version 1.
    """
    controllers = root / "cgroup.controllers"
    if controllers.exists():
        driver = v2.CgroupDriverV2(root)
        if not os.access(root / "cgroup.subtree_control", os.W_OK):
            return None
        try:
            driver.enable(root)
        except CgroupError:
            return None
        return driver
    if all(os.access(root / controller, os.W_OK) for controller in v1.CONTROLLERS):
        return v1.CgroupDriverV1(root)
    return None
