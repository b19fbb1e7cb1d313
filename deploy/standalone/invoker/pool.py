"""Which container may serve which action, and who must go for whom: bookkeeping only, no I/O.

Memory is counted by the actions' limits, never by real use, as OpenWhisk does. Not thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class State(Enum):
    STARTING = auto()  # the runtime does not listen yet
    STEM = auto()  # ready, claimed by no action
    BUSY = auto()
    IDLE = auto()
    PAUSED = auto()  # idle and frozen
    GONE = auto()


class Slot(Protocol):
    """What the pool must know of a container."""

    state: State
    key: Hashable | None  # the action that owns it; None: a stem cell
    memory_mib: int


S = TypeVar("S", bound=Slot)


class Pool(Generic[S]):
    def __init__(self, capacity_mib: int) -> None:
        self.capacity_mib = capacity_mib
        self.used_mib = 0
        self.slots: set[S] = set()
        self._idle: OrderedDict[S, None] = OrderedDict()  # longest idle first
        self._idle_of: dict[Hashable, list[S]] = {}

    def add(self, slot: S) -> None:
        self.slots.add(slot)
        self.used_mib += slot.memory_mib

    def remove(self, slot: S) -> None:
        """Forget the container; its memory counts as free from now on."""
        if slot not in self.slots:
            return
        self._take(slot)
        self.slots.remove(slot)
        self.used_mib -= slot.memory_mib
        slot.state = State.GONE

    def release(self, slot: S) -> None:
        """The container's activation is over: it waits for the next one of its action."""
        slot.state = State.IDLE
        self._idle[slot] = None
        self._idle_of.setdefault(slot.key, []).append(slot)

    def warm(self, key: Hashable) -> S | None:
        """Take the container of this action that was used last, and mark it busy; paused ones come last."""
        if not (waiting := self._idle_of.get(key)):
            return None
        slot = waiting[-1]
        self._take(slot)
        slot.state = State.BUSY
        return slot

    def claim(self, key: Hashable, memory_mib: int) -> S | None:
        """Give a stem cell to an action, a ready one if there is, if its memory fits. Its state stays as it was."""
        stems = sorted(self.stems(), key=lambda slot: slot.state is not State.STEM)
        for slot in stems:
            if self.used_mib - slot.memory_mib + memory_mib <= self.capacity_mib:
                self.used_mib += memory_mib - slot.memory_mib
                slot.key, slot.memory_mib = key, memory_mib
                return slot
        return None

    def room(self, memory_mib: int) -> list[S] | None:
        """Containers to remove so that a new one fits: idle ones, the longest idle first, then stem cells.

        ``None`` when that would not do.
        """
        missing = self.used_mib + memory_mib - self.capacity_mib
        victims: list[S] = []
        for slot in (*self._idle, *self.stems()):
            if missing <= 0:
                break
            victims.append(slot)
            missing -= slot.memory_mib
        return victims if missing <= 0 else None

    def stems(self) -> list[S]:
        return [slot for slot in self.slots if slot.key is None]

    def _take(self, slot: S) -> None:
        if slot in self._idle:
            del self._idle[slot]
            waiting = self._idle_of[slot.key]
            waiting.remove(slot)
            if not waiting:
                del self._idle_of[slot.key]
