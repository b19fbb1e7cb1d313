"""An executor's life: take the action's code, load it, answer runs until the proxy is gone."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock, Semaphore, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from action_runtime import kernel
from action_runtime.executor.action import ActionError, Code, load, place
from action_runtime.executor.frames import Kind, receive_frame, send_frame

if TYPE_CHECKING:
    from action_runtime.executor.tagged_streams import TaggedStreams

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NOT_AN_OBJECT = b'{"error":"The action did not return a dictionary or array."}\n'
_NOT_A_NUMBER = b'{"error":"The action returned NaN or Infinity, which JSON does not have."}\n'


def run_executor(channel: socket.socket, zygote: int, streams: TaggedStreams | None) -> NoReturn:
    """Be the executor of one action. Ends like a Python program would: traceback, flushed streams, exit code.

    ``streams`` are there where logs are to be tagged.
    """
    kernel.name_process("owl-executor")
    kernel.die_with(zygote)
    kernel.be_killed_first()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _, _, setup = receive_frame(channel)
        order = json.loads(setup)
        with _logs_of(order["env"].get("__OW_ACTIVATION_ID"), streams, sentinel=False):
            action = _load(channel, order)
        send_frame(channel, Kind.READY, 0)
        if os.environ.get("__OW_ALLOW_CONCURRENT") == "true":
            _serve_concurrently(channel, action, streams)
        else:
            _serve(channel, action, streams)
        os._exit(0)
    except BaseException as error:
        _end(error, streams)


def _logs_of(activation: object, streams: TaggedStreams | None, sentinel: bool) -> AbstractContextManager[None]:
    return streams.activation(activation, sentinel) if streams else nullcontext()


def _load(channel: socket.socket, order: dict[str, Any]) -> Callable[[Any], Any]:
    _, _, content = receive_frame(channel)
    code = Code(Path(order["folder"]), order["main"], content, order["binary"])
    del content
    try:
        _set_environment(order["env"])
        place(code)
    except ActionError as error:
        print(error, file=sys.stderr)
        send_frame(channel, Kind.REFUSED, 0, error.refusal())
        os._exit(1)
    action = load(code)
    _flush()
    return action


def _set_environment(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        try:
            os.environ[name] = value
        except ValueError as error:
            raise ActionError(f"The environment variable {name!r} cannot be set: {error}.") from error


def _serve(channel: socket.socket, action: Callable[[Any], Any], streams: TaggedStreams | None) -> None:
    while frame := _next_run(channel):
        _answer(channel, *frame, action, streams)


def _serve_concurrently(channel: socket.socket, action: Callable[[Any], Any], streams: TaggedStreams | None) -> None:
    """One thread per run that is under way. Threads are kept: libraries hold pools and caches per thread."""
    work: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    idle = Semaphore(0)
    sending = Lock()

    def serve_runs() -> None:
        try:
            while True:
                _answer(channel, *work.get(), action, streams, sending)
                idle.release()
        except BaseException as error:
            _end(error, streams)

    while frame := _next_run(channel):
        work.put(frame)
        if not idle.acquire(blocking=False):
            Thread(target=serve_runs, daemon=True).start()


def _next_run(channel: socket.socket) -> tuple[int, bytes] | None:
    try:
        _, number, body = receive_frame(channel)
    except (EOFError, OSError):
        return None
    return number, body


def _answer(
    channel: socket.socket,
    number: int,
    body: bytes,
    action: Callable[[Any], Any],
    streams: TaggedStreams | None,
    sending: Lock | None = None,
) -> None:
    request = json.loads(body)
    payload = {}
    for name, value in request.items():
        if name == "value":
            payload = value
        else:
            # The process has one environment: of concurrent runs, the last one's is seen.
            os.environ[f"__OW_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    with _logs_of(request.get("activation_id"), streams, sentinel=True):
        kind, result = _encode(_call(action, payload))
        _flush()
    with sending or nullcontext():
        send_frame(channel, kind, number, result)


def _call(action: Callable[[Any], Any], payload: Any) -> Any:
    try:
        return action(payload)
    except Exception as error:
        _print_traceback(error)
        print(file=sys.stderr)
        return {"error": str(error)}


def _encode(result: Any) -> tuple[Kind, bytes]:
    try:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        if not str(error).startswith("Out of range float"):
            raise
        return Kind.UNFIT, _NOT_A_NUMBER
    if text[0] in "{[" or text == "null":
        return Kind.RESULT, text.encode() + b"\n"
    return Kind.UNFIT, _NOT_AN_OBJECT


def _end(error: BaseException, streams: TaggedStreams | None) -> NoReturn:
    status = 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if status and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    else:
        _print_traceback(error)
    _flush()
    if streams:
        streams.end_lines()
    # Not an ordinary exit: that would run what the zygote was to do at its own.
    os._exit(status & 0xFF)


def _print_traceback(error: BaseException) -> None:
    shown = error.with_traceback(_without_our_frames(error.__traceback__))
    sys.__excepthook__(type(shown), shown, shown.__traceback__)


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback and traceback.tb_next and traceback.tb_frame.f_code.co_filename.startswith(_OURS):
        traceback = traceback.tb_next
    return traceback


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except Exception:
            # Closed, replaced by something else or its reader is gone: the action's own doing, and no reason to end it.
            continue
    kernel.flush_c_streams()
