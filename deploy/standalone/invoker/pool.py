"""Which container may serve which action, and who must go for whom: bookkeeping only, no I/O.

Memory is counted by the actions' limits, never by real use, as OpenWhisk does. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Hashable, Sized
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class State(Enum):
    STARTING = auto()  # the runtime does not listen yet
    STEM = auto()  # ready, claimed by no action
    BUSY = auto()  # it has calls
    IDLE = auto()
    PAUSED = auto()  # idle and frozen
    GONE = auto()


class Slot(Protocol):
    """What the pool must know of a container."""

    state: State
    flavour: Hashable
    key: Hashable | None  # the calls it may serve; None: a stem cell
    memory_mib: int
    places: int  # how many calls it takes at once
    calls: Sized
    initialised: bool
    retired: bool  # it gets no more calls


S = TypeVar("S", bound=Slot)


class Pool(Generic[S]):
    """Slots are its own to look at; whoever changes one says so with :meth:`update`."""

    def __init__(self, capacity_mib: int) -> None:
        self.capacity_mib = capacity_mib
        self.used_mib = 0
        self.slots: set[S] = set()
        self._idle: dict[S, None] = {}  # longest idle first
        self._open: dict[Hashable, dict[S, None]] = {}  # with free places, of each key; used last comes last
        self._stems: dict[Hashable, dict[S, None]] = {}  # of each flavour; the flavour wanted last comes last

    def add(self, slot: S) -> None:
        self.slots.add(slot)
        self.used_mib += slot.memory_mib
        if slot.key is None:
            self._stems.setdefault(slot.flavour, {})[slot] = None
        else:
            self.update(slot)

    def remove(self, slot: S) -> None:
        """Forget the container; its memory counts as free from now on."""
        if slot not in self.slots:
            return
        self.slots.remove(slot)
        self.used_mib -= slot.memory_mib
        self._stems.get(slot.flavour, {}).pop(slot, None)
        slot.state = State.GONE
        self.update(slot)

    def update(self, slot: S) -> None:
        """Its calls, or whether it is initialised, in service or there at all, have changed."""
        serves = slot.key is not None and not slot.retired and slot.state is not State.GONE
        if serves and slot.initialised and not slot.calls:
            if slot not in self._idle:
                slot.state = State.IDLE
                self._idle[slot] = None
        else:
            self._idle.pop(slot, None)
            if slot.calls and slot.state in (State.IDLE, State.PAUSED):
                slot.state = State.BUSY
        open_slots = self._open.get(slot.key)
        if serves and len(slot.calls) < slot.places:
            if open_slots is None:
                self._open[slot.key] = {slot: None}
            else:
                open_slots.pop(slot, None)
                open_slots[slot] = None
        elif open_slots is not None:
            open_slots.pop(slot, None)
            if not open_slots:
                del self._open[slot.key]

    def warm(self, key: Hashable) -> S | None:
        """The container of this key that should get the next call, if one has a place.

        One that is initialised comes before one that will be, a fuller one before an emptier one so that others can
        rest, and the one used last before the others. It is the caller who gives it the call.
        """
        open_slots = self._open.get(key)
        if open_slots is None:
            return None
        latest = reversed(open_slots)
        if len(open_slots) == 1:
            return next(latest)
        return max(latest, key=lambda slot: (slot.initialised, len(slot.calls)))

    def want(self, flavour: Hashable) -> None:
        """From now on stem cells of this flavour are of use, more than those of others."""
        self._stems[flavour] = self._stems.pop(flavour, {})

    def wanted(self) -> list[tuple[Hashable, int]]:
        """The flavours of which stem cells are of use, the one wanted last first, and how many there are."""
        return [(flavour, len(stems)) for flavour, stems in reversed(self._stems.items())]

    def claim(self, flavour: Hashable, key: Hashable, memory_mib: int) -> S | None:
        """Give a stem cell to an action, a ready one if there is, if its memory fits. Its state stays as it was."""
        slot = self._stem(flavour)
        if slot is None or self.used_mib - slot.memory_mib + memory_mib > self.capacity_mib:
            return None
        del self._stems[flavour][slot]
        self.used_mib += memory_mib - slot.memory_mib
        slot.key, slot.memory_mib = key, memory_mib
        return slot

    def room(self, flavour: Hashable, memory_mib: int) -> list[S] | None:
        """Containers to remove so that one of this size fits: idle ones, the longest idle first, then stem cells.

        Stem cells go in the order in which their flavours were last wanted, and the one that the action could claim
        only if it must. ``None`` when nothing would do.
        """
        spared = self._stem(flavour)
        if spared is not None:
            victims = self._victims(memory_mib - spared.memory_mib, spared)
            if victims is not None:
                return victims
        return self._victims(memory_mib, None)

    def stems(self) -> list[S]:
        return [slot for slots in self._stems.values() for slot in slots]

    def _stem(self, flavour: Hashable) -> S | None:
        stems = self._stems.get(flavour)
        return min(stems, key=lambda slot: slot.state is not State.STEM) if stems else None

    def _victims(self, memory_mib: int, spared: S | None) -> list[S] | None:
        missing = self.used_mib + memory_mib - self.capacity_mib
        victims: list[S] = []
        for slot in (*self._idle, *self.stems()):
            if missing <= 0:
                break
            if slot is not spared:
                victims.append(slot)
                missing -= slot.memory_mib
        return victims if missing <= 0 else None
