"""Open-loop replay: every call is sent at its own time, whether or not earlier ones were answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rm_agent.openwhisk import Activation, OpenWhisk, OpenWhiskError

WORKERS = 128  # calls in flight; a call beyond that waits here, which counts in its completion time
PATIENCE_S = 300.0  # for calls that OpenWhisk answers with 202 after a minute
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """One call to send ``at_s`` seconds after the start. ``index`` pairs it with the same call of another run."""

    index: int
    at_s: float
    action: str
    params: dict[str, Any]


@dataclass(slots=True)
class Invocation:
    """What became of a request. Times in seconds after the start of the replay, durations in ms.

    ``status`` is that of the activation record, or ``refused`` where there is none; ``error`` says what went wrong.
    ``use`` is what the resource manager's journal tells about the activation (None: nothing).
    """

    index: int
    action: str
    scheduled_s: float
    sent_s: float
    finished_s: float
    status: str
    error: str | None = None
    activation: str | None = None
    duration_ms: float | None = None
    wait_ms: float | None = None
    init_ms: float | None = None
    timings: dict[str, float] | None = field(default=None)
    use: dict[str, Any] | None = field(default=None)

    @property
    def ok(self) -> bool:
        return self.status == "success"

    @property
    def completion_ms(self) -> float:
        """From the time it was due to its answer: waiting, start of a container and execution."""
        return (self.finished_s - self.scheduled_s) * 1000


def replay(
    requests: Sequence[Request],
    openwhisk: OpenWhisk,
    *,
    workers: int = WORKERS,
    on_done: Callable[[Invocation], None] | None = None,
) -> list[Invocation]:
    """Send ``requests`` at their times and return what became of each, in order of ``index``.

    Refusals and failures are results, not exceptions. ``on_done`` is called from the sending threads. Interrupting it
    drops what was not sent yet; answers still outstanding end with the server.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="replay")
    pending: list[Future[Invocation]] = []
    try:
        start = time.monotonic()
        for request in sorted(requests, key=lambda request: request.at_s):
            delay = start + request.at_s - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            pending.append(pool.submit(_send, request, openwhisk, start, on_done))
        wait(pending)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return sorted((future.result() for future in pending), key=lambda done: done.index)


def _send(
    request: Request, openwhisk: OpenWhisk, start: float, on_done: Callable[[Invocation], None] | None
) -> Invocation:
    sent = time.monotonic() - start
    record: Activation | None = None
    status, error = "refused", None
    try:
        record = openwhisk.invoke(request.action, request.params)
        if record.pending:
            record = openwhisk.wait(record.id, PATIENCE_S, POLL_S)
        status = record.status
        if not record.success:
            error = _reason(record)
    except OpenWhiskError as failure:
        error = f"{failure.status} {failure}" if failure.status else str(failure)
    done = Invocation(
        request.index, request.action, request.at_s, round(sent, 4), round(time.monotonic() - start, 4), status, error
    )
    if record is not None:
        done.activation = record.id
        done.duration_ms = record.get("duration")
        done.wait_ms, done.init_ms = record.wait_ms, record.init_ms
        done.timings = _timings(record)
    if on_done is not None:
        on_done(done)
    return done


def _reason(record: Activation) -> str:
    result = record.result
    reason = result.get("error", result) if isinstance(result, dict) else result
    return str(reason)[:500]


def _timings(record: Activation) -> dict[str, float] | None:
    result = record.result
    timings = result.get("timings") if isinstance(result, dict) else None
    if not isinstance(timings, dict):
        return None
    return {key: value for key, value in timings.items() if isinstance(value, int | float)}


def to_columns(invocations: Sequence[Invocation]) -> dict[str, list[Any]]:
    """One list per field: the compact form in which runs are kept in JSON."""
    rows = [asdict(invocation) for invocation in invocations]
    return {column.name: [row[column.name] for row in rows] for column in fields(Invocation)}


def from_columns(columns: dict[str, list[Any]]) -> list[Invocation]:
    """The reverse of :func:`to_columns`."""
    names = [column.name for column in fields(Invocation)]
    return [Invocation(**dict(zip(names, row))) for row in zip(*(columns[name] for name in names), strict=True)]
