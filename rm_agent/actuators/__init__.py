"""What enforces an allocation. A new actuator is one small class with this interface."""

from __future__ import annotations

from typing import Protocol

from rm_agent.harvest import Allocation


class ActuatorError(Exception):
    """The amount could not be set; what was enforced before still is."""


class ContainerGone(ActuatorError):
    """The container does not exist any more."""


class Actuator(Protocol):
    resources: tuple[str, ...]  # names of the fields of an allocation that it enforces

    def read(self, path: str) -> Allocation:
        """What is enforced now; 0 for what is not limited. Raises :class:`ContainerGone`."""
        ...

    def apply(self, path: str, resource: str, amount: int) -> None:
        """Enforce ``amount`` of ``resource``. Raises :class:`ActuatorError` or :class:`ContainerGone`."""
        ...

    def identity(self, path: str) -> str:
        """Tells the container from any other that had or will have its name. Raises :class:`ContainerGone`."""
        ...

    def forget(self, path: str) -> None:
        """The container is gone for good."""
        ...


__all__ = ["Actuator", "ActuatorError", "ContainerGone"]
