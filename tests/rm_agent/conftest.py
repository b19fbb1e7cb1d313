"""A node of this machine's own: control groups with real processes in them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from rm_agent.cgroup import Cgroup, CgroupDriver, detect


def until(condition: Callable[[], object], timeout_s: float = 5.0, every_s: float = 0.005) -> None:
    """Wait for a condition; fails the test when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every_s)


class Node:
    """Groups below a root that nothing else uses, and processes in them."""

    def __init__(self, driver: CgroupDriver) -> None:
        self.driver = driver
        self.root = f"owl-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def container(self, name: str, cpu: int = 500, memory: int = 128) -> Cgroup:
        group = self.driver.create(f"{self.root}/{name}")
        group.set_cpu(cpu)
        group.set_memory(memory)
        return group

    def python(self, group: Cgroup, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run code in the group; it starts when it is inside."""
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", f"input()\n{code}", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.processes.append(process)
        group.add(process.pid)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        return process

    def burner(self, group: Cgroup) -> subprocess.Popen[bytes]:
        return self.python(group, "while True: pass")

    def holder(self, group: Cgroup, mib: int) -> subprocess.Popen[bytes]:
        """Holds memory until it is killed; returns when it has it."""
        process = self.python(group, f"data = bytearray(b'x') * ({mib} << 20)\nprint('ready', flush=True)\ninput()")
        output: IO[bytes] | None = process.stdout
        assert output is not None and output.readline() == b"ready\n"
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for name in self.driver.children(self.root):
            group = self.driver.open(f"{self.root}/{name}")
            group.kill()
            group.remove()
        self.driver.create(self.root).remove()


@pytest.fixture
def node() -> Iterator[Node]:
    driver = detect()
    assert driver is not None
    node = Node(driver)
    try:
        yield node
    finally:
        node.close()
