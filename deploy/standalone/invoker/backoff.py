"""How long not to try again what has just failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 1.0, 60.0


@dataclass(slots=True)
class _Trouble:
    reason: str = ""
    wait_s: float = FIRST_S / 2
    until: float = 0.0


class Backoff:
    """Of containers that do not start, by flavour. Not thread-safe."""

    def __init__(self) -> None:
        self._troubles: dict[Hashable, _Trouble] = {}

    def failed(self, flavour: Hashable, container: str, reason: str) -> None:
        """A container did not start. The log says so once for each reason, until one has started."""
        trouble = self._troubles.setdefault(flavour, _Trouble())
        nameless = reason.replace(container, "")
        if nameless != trouble.reason:
            log.warning("container %s did not start: %s", container, reason)
            trouble.reason = nameless

    def postpone(self, flavour: Hashable) -> float:
        """Seconds to wait before the next attempt, twice as many each time."""
        trouble = self._troubles.setdefault(flavour, _Trouble())
        trouble.wait_s = min(2 * trouble.wait_s, LONGEST_S)
        trouble.until = time.monotonic() + trouble.wait_s
        return trouble.wait_s

    def succeeded(self, flavour: Hashable) -> None:
        self._troubles.pop(flavour, None)

    def waits(self, flavour: Hashable) -> bool:
        trouble = self._troubles.get(flavour)
        return trouble is not None and time.monotonic() < trouble.until
