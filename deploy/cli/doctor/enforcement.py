"""Whether limits of CPU and memory can be enforced, and resources lent."""

from __future__ import annotations

import os

from deploy.cli.doctor.finding import Finding, ok, warning


def cgroups() -> Finding:
    from rm_agent.cgroup import detect

    if driver := detect():
        version = 2 if type(driver).__name__.endswith("V2") else 1
        return ok("control groups", f"version {version}, writable: limits are enforced, the resource manager can lend")
    text = "not writable: CPU and memory limits of functions are not enforced, and nothing can be lent"
    if os.geteuid() != 0:
        return warning("control groups", text, "run `owl up` as root")
    return warning("control groups", text, "let this container write /sys/fs/cgroup (docker run --privileged)")
