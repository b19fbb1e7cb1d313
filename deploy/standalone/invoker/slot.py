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


class Owner(Protocol):
    """Whoever decides what follows from what a container does."""

    def _started(self, slot: Slot) -> None: ...

    def _answered(self, slot: Slot, response: Response) -> None: ...

    def _logged(self, slot: Slot) -> None: ...

    def _hung_up(self, slot: Slot) -> None: ...

    def _exited(self, slot: Slot) -> None: ...


class Slot:
    """Plain state, guarded by the owner's lock; what it hears from its conversation it passes on."""

    def __init__(self, owner: Owner, name: str, key: Hashable | None, memory_mib: int) -> None:
        self._owner = owner
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
        self._owner._started(self)

    def answered(self, response: Response) -> None:
        self._owner._answered(self, response)

    def logged(self) -> None:
        self._owner._logged(self)

    def hung_up(self) -> None:
        self._owner._hung_up(self)

    def exited(self) -> None:
        self._owner._exited(self)
