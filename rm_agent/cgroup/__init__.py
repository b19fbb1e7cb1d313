"""Linux control groups, versions 1 and 2, behind one interface."""

from rm_agent.cgroup.base import Cgroup, CgroupDriver, CgroupError, CgroupNotFound, Usage
from rm_agent.cgroup.detect import detect

__all__ = ["Cgroup", "CgroupDriver", "CgroupError", "CgroupNotFound", "Usage", "detect"]
