"""Clients in processes of their own, so that none shares an interpreter with another or with the benchmark.

A worker is told what to do in one line of JSON on its standard input and answers with lines of JSON. Its input stays
open: when it ends, whoever started the worker is gone, and so is the worker.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from workloads.bench import BenchError

TASKS = ("speed", "soak", "fuzz")

Report = Callable[[int], None]


class Worker:
    """Runs ``work(job, report)`` of ``platform_<task>`` in a process; a context manager that ends it."""

    def __init__(self, task: str, job: dict[str, Any]) -> None:
        self.done = 0  # what the worker reported last
        self._last: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workloads.bench.platform_worker", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    @property
    def running(self) -> bool:
        return self._reader.is_alive()

    def wait(self, seconds: float) -> None:
        self._reader.join(seconds)

    def result(self) -> Any:
        """What ``work`` returned, once it has; raises :class:`BenchError` with its reason where it failed."""
        self._reader.join()
        if "result" not in self._last:
            raise BenchError(self._last.get("error") or "a client of the benchmark ended without a result")
        return self._last["result"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "done" in said:
                self.done = said["done"]
            else:
                self._last = said


def main(task: str) -> None:
    if task not in TASKS:
        raise SystemExit(f"there is no task {task!r}")
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    lock = threading.Lock()

    def say(what: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(what), flush=True)

    try:
        result = importlib.import_module(f"workloads.bench.platform_{task}").work(job, lambda done: say({"done": done}))
    except (BenchError, OSError) as error:
        say({"error": str(error)})
    else:
        say({"result": result})


def _end_with_the_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
