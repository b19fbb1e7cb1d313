"""Waiting for the signals that end a server."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def ending_signals(again: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Catch SIGTERM and SIGINT; gives a function that blocks until the first one. Later ones call ``again``.

    In the main thread only. The kernel may hand a signal to any thread, and the main thread would sleep on in a lock:
    hence it waits for a descriptor, which the interpreter writes to in whatever thread it hears of a signal.
    """
    heard = False

    def hear(*_: object) -> None:
        nonlocal heard
        if heard:
            again()
        heard = True

    def wait() -> None:
        while not heard:
            select.select([reading], [], [])
            os.read(reading, 64)

    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield wait
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
