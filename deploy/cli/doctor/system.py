"""Python, descriptors and the clock."""

from __future__ import annotations

import platform
import resource
import sys
import time
from datetime import datetime
from pathlib import Path

from deploy.cli.doctor.finding import Finding, fails, ok, warning

OLDEST_PYTHON = (3, 11)
FEWEST_DESCRIPTORS = 1024
ENOUGH_DESCRIPTORS = 4096
CLOCK_SLACK_S = 24 * 3600  # files of an archive may be dated in another time zone


def python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return fails("Python", found, "install Python 3.11 or newer and set the project up with it: `make setup`")
    return ok("Python", found)


def descriptors() -> Finding:
    """What may be open at once: the server takes as much as the hard limit lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return ok("open files", "unlimited")
    text = f"{hard} at once"
    if hard >= ENOUGH_DESCRIPTORS:
        return ok("open files", text)
    fix = "raise nofile in /etc/security/limits.conf (in a container: --ulimit nofile)"
    if hard < FEWEST_DESCRIPTORS:
        return fails("open files", f"{text}: too few for the server and its containers", fix)
    return warning("open files", f"{text}: with many containers and connections they run out", fix)


def clock() -> Finding:
    now, installed = time.time(), Path(__file__).stat().st_mtime
    text = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    if now < installed - CLOCK_SLACK_S:
        text = f"{text}, which is before this program was installed: records would come in the wrong order"
        return warning("clock", text, "set the clock: `timedatectl set-ntp true`")
    return ok("clock", text)
