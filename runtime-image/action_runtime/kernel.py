"""The few calls of Linux and its C library that Python does not wrap."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have this process killed when ``parent`` (its process id) ends; ends it now if that has already happened."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def name_process(name: str) -> None:
    """Set what ``ps`` and ``top`` call this process (15 bytes are kept)."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def be_killed_first() -> None:
    """When memory runs out, have this process and its children killed rather than any other."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # refused in some sandboxes: the kernel then takes the largest


def flush_c_streams() -> None:
    """Flush what C libraries have printed: their buffers are not Python's."""
    _libc.fflush(None)
