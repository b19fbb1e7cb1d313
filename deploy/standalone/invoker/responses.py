"""What an answer of a container, or its absence, means for the activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.standalone.invoker.http import Response
from deploy.standalone.jsontext import loads
from deploy.standalone.model import Status

MAX_RESULT = 1 << 20  # bytes of a result, as configured in OpenWhisk

INIT_DIED = "The action did not initialize and exited unexpectedly."
RUN_DIED = "The action did not produce a valid response and exited unexpectedly."
OUT_OF_MEMORY = "The action exhausted its memory and was aborted."


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    result: Any
    size: int | None = None  # bytes of the answer, when there was one
    timed_out: bool = False

    @property
    def destroys(self) -> bool:
        """Whether the container may not be used again."""
        return self.status >= Status.DEVELOPER_ERROR


def developer_error(message: Any, size: int | None = None) -> Verdict:
    return Verdict(Status.DEVELOPER_ERROR, {"error": message}, size)


def internal_error(message: Any) -> Verdict:
    return Verdict(Status.INTERNAL_ERROR, {"error": message})


def timed_out(timeout_ms: int, initialising: bool) -> Verdict:
    where = " during initialization" if initialising else ""
    error = f"The action exceeded its time limits of {timeout_ms} milliseconds{where}."
    return Verdict(Status.DEVELOPER_ERROR, {"error": error}, timed_out=True)


def died(initialising: bool, out_of_memory: bool) -> Verdict:
    if out_of_memory:
        return developer_error(OUT_OF_MEMORY)
    return developer_error(INIT_DIED if initialising else RUN_DIED)


def of_init(response: Response) -> Verdict | None:
    """``None`` when the action is initialised."""
    if response.status == 200:
        return None
    message, size = _error_of(response, "The action failed during initialization")
    # 507: the container's disk is full, which is not the developer's doing.
    return internal_error(message) if response.status == 507 else developer_error(message, size)


def of_run(response: Response) -> Verdict:
    if response.length > MAX_RESULT:
        shown = response.body[:MAX_RESULT].decode(errors="replace")
        message = (
            f"The action produced a response that exceeded the allowed length: {response.length} > {MAX_RESULT} bytes. "
            f"The truncated response was: {shown}"
        )
        return Verdict(Status.APPLICATION_ERROR, {"error": message}, response.length)
    if response.status != 200:
        return developer_error(*_error_of(response, "The action did not produce a valid JSON response"))
    value = _parsed(response.body)
    if isinstance(value, dict):
        if "error" in value:
            return Verdict(Status.APPLICATION_ERROR, {"error": value["error"]}, response.length)
        return Verdict(Status.SUCCESS, value, response.length)
    if isinstance(value, list):
        return Verdict(Status.SUCCESS, value, response.length)
    return developer_error(_with_body("The action did not produce a valid JSON response", response), response.length)


def _error_of(response: Response, otherwise: str) -> tuple[Any, int]:
    value = _parsed(response.body)
    if isinstance(value, dict) and "error" in value:
        return value["error"], response.length
    return _with_body(otherwise, response), response.length


def _with_body(message: str, response: Response) -> str:
    text = response.body.decode(errors="replace").strip()
    return f"{message}: {text}" if text else f"{message}."


def _parsed(body: bytes) -> Any:
    try:
        return loads(body, surrogates=True)
    except ValueError:
        return None
