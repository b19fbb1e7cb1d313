"""What the API hands to the invoker and gets back: plain data, no behaviour."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol


class Status(IntEnum):
    """``statusCode`` of an activation record."""

    SUCCESS = 0
    APPLICATION_ERROR = 1
    DEVELOPER_ERROR = 2
    INTERNAL_ERROR = 3

    @property
    def text(self) -> str:
        return ("success", "application error", "action developer error", "whisk internal error")[self]


@dataclass(frozen=True, slots=True)
class Limits:
    timeout_ms: int = 60_000
    memory_mib: int = 256
    logs_mib: int = 10
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Runnable:
    """One revision of an action, ready to be run. Two containers are interchangeable only for equal ``key``."""

    namespace: str
    path: str  # "pkg/name" or "name"
    version: str
    revision: str  # changes with every PUT, also when an action is deleted and made anew
    kind: str  # "python:3.11"
    code: str | None  # source, or base64 when binary
    binary: bool
    main: str
    limits: Limits
    init_env: dict[str, str] = field(default_factory=dict)  # parameters marked init:true
    cpu_millis: int | None = None  # annotation resources.cpu; None: the server's default
    provide_api_key: bool = False
    image: str | None = None  # blackbox

    @property
    def fqn(self) -> str:
        return f"/{self.namespace}/{self.path}"

    @property
    def key(self) -> tuple[str, str]:
        return (self.fqn, self.revision)


@dataclass(frozen=True, slots=True)
class Invocation:
    activation_id: str
    transaction_id: str
    action: Runnable
    payload: dict[str, Any] | list[Any]
    received_ms: int  # receipt by the API; start of waitTime
    namespace: str  # the invoking user's (differs from the action's for shared packages)
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invocation ended. ``result`` holds ``{"error": ...}`` when status is not SUCCESS."""

    status: Status
    result: Any
    start_ms: int
    end_ms: int
    wait_ms: int
    init_ms: int | None  # None: warm
    logs: list[str] = field(default_factory=list)  # "2026-11-22T23:38:16.440937896Z stdout: text", time padded to 30
    size: int | None = None  # bytes of the result, when it was measured
    timed_out: bool = False  # the action exceeded its time limit


class Invoker(Protocol):
    def submit(self, invocation: Invocation) -> Future[Outcome]:
        """Never raises for what the action does; the future fails only when the server itself is closing."""
        ...

    def stats(self) -> dict[str, float]:
        """Gauges and counters for /metrics, named as OpenWhisk names them where it has a name."""
        ...

    def close(self, grace_s: float = 10.0) -> None:
        """Let running activations finish for ``grace_s``, then stop and remove every container."""
        ...


class InvokerEvents(Protocol):
    """Hears what an invoker does, on whichever of its threads it happens: to be answered quickly, never raising."""

    def started(self, kind_of_start: str) -> None:
        """A call got a container: ``cold``, ``prewarmed`` or ``warm``.

        ``recreated`` is a cold start and ``recreatedPrewarm`` a prewarmed one that others had to make room for.
        """
        ...

    def initialised(self, seconds: float) -> None:
        """``/init`` was answered, or its time was up."""
        ...

    def ran(self, seconds: float) -> None:
        """``/run`` was answered, or its time was up."""
        ...
