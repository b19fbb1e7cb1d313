"""The state of a container's one action, and what each request does to it."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from selectors import EVENT_READ, BaseSelector
from socket import socket

from action_runtime.executor.frames import FrameReader, Kind, send_frame
from action_runtime.executor.log_tags import SENTINEL, tag_of, tags_wanted, write_all
from action_runtime.executor.zygote import Program, Zygote
from action_runtime.proxy.http import Request, Response, error, json_response
from action_runtime.proxy.report import NodeReport
from action_runtime.proxy.requests import BadRequest, Init, parse_context, parse_init

_TWICE = "Cannot initialize the action more than once."
_UNDEFINED = "no action defined yet"
_EXITED = "command exited"
_NO_START = "Cannot start action. Check logs for details."
_ABRUPT = b"Command exited abruptly during initialization.\n"

Answer = Callable[[Response], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One request for the executor, and where its answer goes."""

    phase: str
    body: bytes
    answer: Answer
    input_bytes: int
    action: str = ""
    version: str = ""
    activation: str | None = None


@dataclass(slots=True)
class Executor:
    """The proxy's end of one executor process, or of the unpacker that prepares the action ``of`` one."""

    number: int
    channel: socket
    frames: FrameReader
    of: Executor | None = None
    working: dict[int, Work] = field(default_factory=dict)
    unpacker: Executor | None = None
    setup: bytes = b""
    ended: bool = False


class NotReady(Exception):
    """The executor that was to be started ahead could not be; the text says why."""


class ActionProxy:
    """Answers ``/init`` and ``/run`` as the action proxy of OpenWhisk does; everything else is 200 and empty.

    The executor's end is noticed at once and answered; the proxy outlives it. Runs are handed over one at a time,
    or all as they come where ``concurrent``. Both log streams get the sentinel after what an activation has printed.
    ``ahead`` is the channel of executor 0 where executors take long to start, so that one is started ahead; these do
    not unpack zips themselves.
    """

    def __init__(
        self,
        zygote: Zygote,
        selector: BaseSelector,
        work: Path,
        concurrent: bool,
        report: NodeReport,
        ahead: socket | None = None,
    ) -> None:
        self._zygote = zygote
        self._selector = selector
        self._work_folder = work
        self._concurrent = concurrent
        self._report = report
        self._tags = tags_wanted()
        self._ready: Callable[[], None] | None = None
        self._processes: dict[int, Executor] = {}
        self._unpacks = ahead is not None
        self._ahead = self._attach(0, ahead) if ahead else None
        self._executor: Executor | None = None
        self._initialised = False
        self._env: dict[str, str] = {}
        self._waiting: deque[Work] = deque()
        self._spawned = 0
        self._numbered = 0
        selector.register(zygote.control, EVENT_READ, self._on_zygote)

    def prepare(self, ready: Callable[[], None]) -> None:
        """Call ``ready`` once an init can be served without delay. Its failure is NotReady, raised by the selector's calls."""
        if self._ahead:
            self._ready = ready
        else:
            ready()

    def handle(self, request: Request, answer: Answer) -> None:
        """Serve one request; ``answer`` is called once, now or later."""
        if request.path == "/init":
            self._init(request.body, answer)
        elif request.path == "/run":
            self._run(request.body, answer)
        else:
            answer(Response(200))

    def _init(self, body: bytes, answer: Answer) -> None:
        if self._initialised or self._executor:
            _write(2, f"{time.strftime('%Y/%m/%d %H:%M:%S')} {_TWICE}\n".encode())
            answer(error(403, _TWICE))
            return
        try:
            init = parse_init(body)
        except BadRequest as problem:
            answer(error(problem.status, str(problem)))
            return
        self._env = init.env
        activation = {"activation_id": init.env.get("__OW_ACTIVATION_ID")}
        work = Work("init", b"", answer, len(body), *self._identity(activation))
        self._executor = executor = self._ahead or self._spawn()
        self._ahead = None
        executor.working[0] = work
        executor.setup = self._setup(init)
        self._tell("start", work)
        if self._unpacks and init.binary:
            executor.unpacker = self._spawn(of=executor)
            self._give(executor.unpacker, executor.setup, init.content)
        else:
            self._give(executor, executor.setup, init.content)

    def _give(self, process: Executor, setup: bytes, content: bytes) -> None:
        try:
            send_frame(process.channel, Kind.SETUP, 0, setup)
            send_frame(process.channel, Kind.CODE, 0, content)
        except OSError:
            self._on_end(process)

    def _setup(self, init: Init) -> bytes:
        folder = self._work_folder / str(_next_number(self._work_folder)) / "bin"
        return json.dumps({"main": init.main, "env": init.env, "binary": init.binary, "folder": str(folder)}).encode()

    def _spawn(self, of: Executor | None = None) -> Executor:
        self._spawned += 1
        channel = self._zygote.spawn(self._spawned, Program.UNPACKER if of else Program.EXECUTOR)
        return self._attach(self._spawned, channel, of)

    def _attach(self, number: int, channel: socket, of: Executor | None = None) -> Executor:
        executor = self._processes[number] = Executor(number, channel, FrameReader(channel), of)
        self._selector.register(channel, EVENT_READ, lambda _: self._on_channel(executor))
        return executor

    def _run(self, body: bytes, answer: Answer) -> None:
        if not self._executor or not self._initialised:
            answer(error(500, _UNDEFINED))
        elif self._executor.ended:
            answer(error(500, _EXITED))
        else:
            # The executor parses the body itself; here only the node's manager and tags need to know whose it is.
            identity = self._identity(parse_context(body)) if self._report.enabled or self._tags else ()
            self._waiting.append(Work("run", body, answer, len(body), *identity))
            self._hand_over()

    def _hand_over(self) -> None:
        while self._waiting and (executor := self._executor) and (self._concurrent or not executor.working):
            work = self._waiting.popleft()
            self._numbered += 1
            executor.working[self._numbered] = work
            self._tell("start", work)
            try:
                send_frame(executor.channel, Kind.RUN, self._numbered, work.body)
            except OSError:
                self._on_end(executor)

    def _on_channel(self, executor: Executor) -> None:
        if executor.ended:
            return
        for kind, number, payload in executor.frames.available():
            if kind == Kind.STANDBY:
                self._on_standby()
            elif kind == Kind.UNFIT and not number:
                raise NotReady(payload.decode())
            elif kind == Kind.UNPACKED and executor.of:
                self._retire(executor)
                self._give(executor.of, executor.of.setup, b"")
            else:
                self._on_frame(executor.of or executor, kind, number, payload)
        if executor.frames.ended:
            self._on_end(executor)

    def _on_standby(self) -> None:
        if self._ready:
            self._ready()
            self._ready = None

    def _on_frame(self, executor: Executor, kind: int, number: int, payload: bytes) -> None:
        work = executor.working.pop(number, None)
        if work is None:
            return
        self._tell("end", work)
        if kind == Kind.READY:
            self._initialised = True
            work.answer(json_response(200, {"ok": True}))
        elif kind == Kind.REFUSED:
            self._retire(executor)
            self._executor = None
            self._end_logs(work)
            refusal = json.loads(payload)
            work.answer(error(refusal["status"], refusal["error"]))
        else:
            if not self._tags:  # else the executor has done it
                self._end_logs(work)
            work.answer(Response(200 if kind == Kind.RESULT else 502, payload))
            self._hand_over()

    def _on_zygote(self, _: int) -> None:
        executor = self._processes.get(self._zygote.ended())
        if executor:
            # What it sent before it ended counts.
            self._on_channel(executor)
            self._on_end(executor)

    def _on_end(self, process: Executor) -> None:
        if process.ended:
            return
        executor = process.of or process
        lost = list(executor.working.values())
        executor.working.clear()
        self._retire(executor)
        if executor is self._ahead:
            self._ahead = None
            if self._ready:
                raise NotReady("the process that is to run the action ended before it was ready")
        if lost:
            self._executor = None
        for work in lost:
            self._tell("end", work)
            if work.phase == "init":
                _write(2, self._tag(work) + _ABRUPT)
            self._end_logs(work)
            work.answer(error(502, _NO_START) if work.phase == "init" else error(400, _EXITED))
        while self._waiting:
            self._waiting.popleft().answer(error(500, _UNDEFINED))

    def _retire(self, executor: Executor) -> None:
        if executor.unpacker:
            self._retire(executor.unpacker)
        if executor.ended:
            return
        executor.ended = True
        del self._processes[executor.number]
        self._selector.unregister(executor.channel)
        executor.channel.close()
        # Closing its end of the channel does not end a process.
        self._zygote.kill(executor.number)

    def _identity(self, context: dict[str, object]) -> tuple[str, str, str | None]:
        """(action, version, activation) of a run; what its context leaves out is known from init, but the activation."""
        action = context.get("action_name") or self._env.get("__OW_ACTION_NAME", "")
        version = context.get("action_version") or self._env.get("__OW_ACTION_VERSION", "")
        activation = context.get("activation_id")
        return str(action), str(version), str(activation) if activation else None

    def _end_logs(self, work: Work) -> None:
        for descriptor in (1, 2):
            _write(descriptor, self._tag(work) + SENTINEL)

    def _tag(self, work: Work) -> bytes:
        return tag_of(work.activation) if self._tags else b""

    def _tell(self, event: str, work: Work) -> None:
        inflight = len(self._executor.working) if self._executor else 0
        self._report.send(event, work.phase, work.action, work.version, work.activation, inflight, work.input_bytes)


def _next_number(folder: Path) -> int:
    try:
        return max((int(name) for name in os.listdir(folder) if name.isdecimal()), default=0) + 1
    except OSError:
        return 1


def _write(descriptor: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    except OSError:
        # Nobody reads this container's log any more: no reason to stop serving.
        return
