"""The zygote's own program: a second executor costs a fork, not an interpreter.

The zygote alone can say that an executor has ended (it is the parent), and ends them all when the proxy is gone.
It only imports, never computes: a thread pool does not survive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from action_runtime import kernel
from action_runtime.executor.log_tags import tags_wanted
from action_runtime.executor.zygote import NUMBER_BYTES, ORDER_BYTES, Program, encode_number

Run = Callable[[socket.socket, int], NoReturn]


def run_zygote(control: socket.socket, parent: int, node: str | None) -> NoReturn:
    """Fork a process for each number that comes with a channel; kill the one whose number comes alone.

    ``OWL_ZYGOTE_IMPORTS`` (comma separated) names modules that executors are to start with; not where they are
    processes of Node.js, the program ``node``.
    """
    kernel.name_process("owl-zygote")
    kernel.die_with(parent)
    _empty_input()
    for stream in (sys.stdout, sys.stderr):
        # A line is out before the action starts a process of its own or is killed; the locale does not matter.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    programs = _programs_of_node(node) if node else _programs_of_python()
    gc.collect()
    gc.freeze()
    _serve(control, programs)


def _empty_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


# What one kind of container does not need is not imported there: it costs milliseconds and memory.


def _programs_of_python() -> dict[Program, Run]:
    from action_runtime.executor.process import run_executor

    streams = None
    if tags_wanted():
        from action_runtime.executor.tagged_streams import TaggedStreams

        streams = TaggedStreams()
    _import_ahead(os.environ.get("OWL_ZYGOTE_IMPORTS", ""))
    return {Program.EXECUTOR: lambda channel, zygote: run_executor(channel, zygote, streams)}


def _programs_of_node(node: str) -> dict[Program, Run]:
    from action_runtime.executor.node_process import run_node, run_unpacker

    return {Program.EXECUTOR: lambda channel, zygote: run_node(channel, zygote, node), Program.UNPACKER: run_unpacker}


def _import_ahead(names: str) -> None:
    for name in filter(None, (part.strip() for part in names.split(","))):
        try:
            __import__(name)
        except Exception as error:
            print(f"action runtime: OWL_ZYGOTE_IMPORTS names {name}, which cannot be imported: {error}", file=sys.stderr)


class _Children:
    """The processes that run, by process id."""

    def __init__(self, control: socket.socket, programs: dict[Program, Run]) -> None:
        self._control = control
        self._programs = programs
        self._numbers: dict[int, int] = {}

    def fork(self, number: int, program: Program, channel: socket.socket) -> None:
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            print(f"action runtime: no process can be started: {error.strerror}", file=sys.stderr)
            return
        if pid:
            self._numbers[pid] = number
            return
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        self._programs[program](channel, zygote)

    def kill(self, number: int | None = None) -> None:
        for pid, of in self._numbers.items():
            if number in (None, of):
                os.kill(pid, signal.SIGKILL)

    def reap(self) -> None:
        while self._numbers:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                with contextlib.suppress(OSError):  # the proxy is gone: that is seen next
                    self._control.send(encode_number(number))


def _serve(control: socket.socket, programs: dict[Program, Run]) -> NoReturn:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children = _Children(control, programs)
    while True:
        readable, _, _ = select.select([control, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            children.reap()
        if control not in readable:
            continue
        try:
            message, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES, 1)
        except ConnectionError:  # ended without having read all it was told
            message = b""
        if not message:
            children.kill()
            os._exit(0)
        number = int.from_bytes(message[:NUMBER_BYTES])
        if descriptors:
            with socket.socket(fileno=descriptors[0]) as channel:
                children.fork(number, Program(message[NUMBER_BYTES]), channel)
        else:
            children.kill(number)
