"""A container's place in the pool, and the call it serves."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from deploy.standalone.invoker.call import Call
from deploy.standalone.invoker.container import Container
from deploy.standalone.invoker.conversation import Conversation
from deploy.standalone.invoker.http import Response
from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.pool import State
from deploy.standalone.invoker.responses import Verdict


class Owner(Protocol):
    """Whoever decides what follows from what a container does."""

    def started(self, slot: Slot) -> None: ...

    def failed(self, slot: Slot, verdict: Verdict) -> None:
        """It is no good; ``verdict`` is for the call it may have."""
        ...

    def answered(self, slot: Slot, response: Response) -> None: ...

    def logged(self, slot: Slot) -> None: ...

    def hung_up(self, slot: Slot) -> None: ...

    def exited(self, slot: Slot) -> None: ...

    def overdue(self, slot: Slot) -> None:
        """The time it was armed for has come."""
        ...


class Slot:
    """Plain state, guarded by the owner's lock; what it hears from its conversation it passes on."""

    def __init__(self, owner: Owner, name: str, key: Hashable | None, memory_mib: int) -> None:
        self.owner = owner
        self.name = name
        self.key = key
        self.memory_mib = memory_mib
        self.state = State.STARTING
        self.frozen = False
        self.container: Container | None = None  # with its conversation, once it is made
        self.conversation: Conversation | None = None
        self.call: Call | None = None
        self.log: ActivationLog | None = None
        self.initialised = False
        self.idle_since = 0.0
        self.due = float("inf")  # when something must happen if nothing else does
        self.timer = float("inf")  # when the loop looks at it next: at ``due`` or earlier

    def started(self) -> None:
        self.owner.started(self)

    def answered(self, response: Response) -> None:
        self.owner.answered(self, response)

    def logged(self) -> None:
        self.owner.logged(self)

    def hung_up(self) -> None:
        self.owner.hung_up(self)

    def exited(self) -> None:
        self.owner.exited(self)
