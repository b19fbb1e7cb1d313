"""What every benchmark does around its measurement."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workloads.bench import BenchError


def writable(folder: Path | None) -> None:
    """Tell before the measurement, not after it, that its result cannot be written. Raises :class:`BenchError`."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise BenchError(f"cannot write into the folder {folder}")


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the benchmark as Ctrl-C does, with the platform torn down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
