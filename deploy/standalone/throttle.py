"""Limits per user: calls per minute of the clock, and calls at once."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from deploy.standalone.errors import ApiError


class RateLimit:
    """Counts per minute of the clock, each user apart; refused calls count too, as in OpenWhisk."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.time) -> None:
        self._allowed = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: dict[str, int] = defaultdict(int)

    def check(self, user: str) -> None:
        """Count one call; 429 when it is one too many."""
        minute = int(self._clock() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._counts.clear()
            self._counts[user] += 1
            count = self._counts[user]
        if count > self._allowed:
            raise ApiError(429, f"Too many requests in the last minute (count: {count}, allowed: {self._allowed}).")


class ConcurrencyLimit:
    """Counts what a user has running."""

    def __init__(self, at_once: int) -> None:
        self._allowed = at_once
        self._lock = threading.Lock()
        self._running: dict[str, int] = defaultdict(int)

    def enter(self, user: str) -> None:
        """Count one more; 429 when the user has as many as allowed already."""
        with self._lock:
            running = self._running[user]
            if running >= self._allowed:
                raise ApiError(
                    429, f"Too many concurrent requests in flight (count: {running}, allowed: {self._allowed})."
                )
            self._running[user] = running + 1

    def leave(self, user: str) -> None:
        with self._lock:
            self._running[user] -= 1

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self._running.values())
