"""A container's place in the pool, and the calls it serves."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from deploy.standalone.invoker.call import Call
from deploy.standalone.invoker.collector import Collector
from deploy.standalone.invoker.container import Container
from deploy.standalone.invoker.conversation import Conversation
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.pool import State
from deploy.standalone.invoker.responses import Verdict


class Owner(Protocol):
    """Whoever decides what follows from what a container does."""

    def made(self, slot: Slot, collector: Collector) -> None:
        """Its container is there, and will listen some time; ``collector`` is to get what it writes. Under the lock."""
        ...

    def started(self, slot: Slot) -> None: ...

    def failed(self, slot: Slot, verdict: Verdict) -> None:
        """It is no good; ``verdict`` is for the calls it may have."""
        ...

    def answered(self, slot: Slot, activation_id: str, response: Response) -> None: ...

    def logged(self, slot: Slot, activation_id: str) -> None: ...

    def hung_up(self, slot: Slot, activation_id: str, delivered: bool) -> None: ...

    def exited(self, slot: Slot) -> None: ...

    def overdue(self, slot: Slot) -> None:
        """The time it was armed for has come."""
        ...


class Slot:
    """Plain state, guarded by the owner's lock; what it hears from its conversation it passes on."""

    def __init__(self, owner: Owner, name: str, flavour: Flavour, key: Hashable | None, memory_mib: int) -> None:
        self.owner = owner
        self.name = name
        self.flavour = flavour
        self.key = key
        self.memory_mib = memory_mib
        self.places = 1  # how many calls it takes at once
        self.state = State.STARTING
        self.container: Container | None = None  # with its conversation, once it is made
        self.conversation: Conversation | None = None
        self.calls: dict[str, Call] = {}  # by activation, first come first
        self.initialised = False
        # Whether sentinels end its logs: those of managed kinds do, of images of users' own that is learnt.
        self.sentinels: bool | None = True if flavour.managed else None
        self.frozen = False
        self.changing = False  # a worker is freezing or thawing it
        self.retired = False  # it gets no more calls, and goes when those it has are over
        self.idle_since = 0.0
        self.due = float("inf")  # when something must happen if nothing else does
        self.timer = float("inf")  # when the loop looks at it next: at ``due`` or earlier

    def started(self) -> None:
        self.owner.started(self)

    def answered(self, activation_id: str, response: Response) -> None:
        self.owner.answered(self, activation_id, response)

    def logged(self, activation_id: str) -> None:
        self.owner.logged(self, activation_id)

    def hung_up(self, activation_id: str, delivered: bool) -> None:
        self.owner.hung_up(self, activation_id, delivered)

    def exited(self) -> None:
        self.owner.exited(self)
