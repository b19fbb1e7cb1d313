"""One thread that waits for all descriptors and timers of the invoker."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

READ = select.EPOLLIN | select.EPOLLRDHUP
READ_WRITE = READ | select.EPOLLOUT


class Loop:
    """Callbacks run on the loop's thread and must not block; all methods may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._sleeps_until = 0.0
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable or closed; a callback may come once too often."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, READ)

    def want_write(self, descriptor: int, wanted: bool) -> None:
        """Also call back when the descriptor is writable."""
        self._epoll.modify(descriptor, READ_WRITE if wanted else READ)

    def unwatch(self, descriptor: int) -> None:
        """Must precede the closing of the descriptor."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back at ``when`` on the clock of ``time.monotonic``."""
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), callback))
            if when < self._sleeps_until and threading.get_ident() != self._thread.ident and not self._closed:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the thread, after the callbacks that are due; what is watched or timed for later is forgotten."""
        with self._lock:
            self._closed = True
            os.eventfd_write(self._wake, 1)
        self._thread.join()
        for callback in self._due():
            self._guarded(callback)
        self._callbacks.clear()
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                next_at = self._timers[0][0] if self._timers else float("inf")
                self._sleeps_until = next_at
            wait = -1 if next_at == float("inf") else max(0.0, next_at - time.monotonic())
            for descriptor, _ in self._epoll.poll(wait):
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                elif callback := self._callbacks.get(descriptor):
                    self._guarded(callback)
            for callback in self._due():
                self._guarded(callback)

    def _due(self) -> list[Callable[[], None]]:
        now, due = time.monotonic(), []
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        return due

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # one container's trouble must not stop the others
            log.exception("invoker: unexpected failure")
