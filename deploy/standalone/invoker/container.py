"""What the invoker needs of a container, whatever it is made of."""

from __future__ import annotations

import socket
from typing import Protocol


class StartFailed(Exception):
    """A container could not be started; the message says why."""


class ImageUnavailable(StartFailed):
    """A container's image cannot be had: no engine, no such image, or it cannot be pulled.

    The message is the error that the action's developer gets: ``Failed to pull container image 'X'.``
    """


class Container(Protocol):
    """A started runtime and its three descriptors.

    Descriptors are non-blocking and belong to the container: :meth:`destroy` closes them. :meth:`claim`,
    :meth:`hurry`, :meth:`pause` and :meth:`resume` raise :class:`~rm_agent.cgroup.CgroupError` or ``OSError`` when
    they fail: the container is destroyed then.
    """

    name: str
    slow: bool  # claim, hurry, pause, resume and out_of_memory take more than a millisecond: workers only
    ready: int  # readable: b"1" once the runtime listens, end of file when it never will
    exited: int  # readable once the runtime's process ended
    streams: tuple[int, int]  # stdout, stderr

    def connect(self) -> socket.socket:
        """A non-blocking connection to the runtime, which may still be in the making. Raises ``OSError``."""
        ...

    def claim(self, cpu_millis: int, memory_mib: int) -> None:
        """Give it an action's own resources: from now on they may be changed by others, but not from here."""
        ...

    def hurry(self) -> None:
        """An action waits for a container that is still starting in the background."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def out_of_memory(self) -> bool:
        """Whether the kernel killed one of its processes for want of memory."""
        ...

    def destroy(self) -> None:
        """Kill every process and remove every trace; blocks until they are gone. Never raises."""
        ...
