"""The zygote's own program: a second executor costs a fork, not an interpreter.

The zygote alone can say that an executor has ended (it is the parent), and ends them all when the proxy is gone.
It only imports, never computes: a thread pool does not survive a fork.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from action_runtime import kernel
from action_runtime.executor.log_tags import tags_wanted
from action_runtime.executor.process import run_executor
from action_runtime.executor.zygote import NUMBER_BYTES, encode_number

if TYPE_CHECKING:
    from action_runtime.executor.tagged_streams import TaggedStreams


def run_zygote(control: socket.socket, parent: int) -> NoReturn:
    """Fork an executor for each number that comes with a channel; kill the one whose number comes alone.

    ``OWL_ZYGOTE_IMPORTS`` (comma separated) names modules that executors are to start with.
    """
    kernel.name_process("owl-zygote")
    kernel.die_with(parent)
    _empty_input()
    for stream in (sys.stdout, sys.stderr):
        # A line is out before the action starts a process of its own or is killed; the locale does not matter.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    streams = _tag_streams() if tags_wanted() else None
    _import_ahead(os.environ.get("OWL_ZYGOTE_IMPORTS", ""))
    gc.collect()
    gc.freeze()
    _serve(control, streams)


def _empty_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _tag_streams() -> TaggedStreams:
    # Imported where it is wanted only: it costs milliseconds, and patches.
    from action_runtime.executor.tagged_streams import TaggedStreams

    return TaggedStreams()


def _import_ahead(names: str) -> None:
    for name in filter(None, (part.strip() for part in names.split(","))):
        try:
            __import__(name)
        except Exception as error:
            print(f"action runtime: OWL_ZYGOTE_IMPORTS names {name}, which cannot be imported: {error}", file=sys.stderr)


class _Children:
    """The executors that run, by process id."""

    def __init__(self, control: socket.socket, streams: TaggedStreams | None) -> None:
        self._control = control
        self._streams = streams
        self._numbers: dict[int, int] = {}

    def fork(self, number: int, channel: socket.socket) -> None:
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
        run_executor(channel, zygote, self._streams)

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
                self._control.send(encode_number(number))


def _serve(control: socket.socket, streams: TaggedStreams | None) -> NoReturn:
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children = _Children(control, streams)
    while True:
        readable, _, _ = select.select([control, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            children.reap()
        if control not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, NUMBER_BYTES, 1)
        if not message:
            children.kill()
            os._exit(0)
        number = int.from_bytes(message)
        if descriptors:
            with socket.socket(fileno=descriptors[0]) as channel:
                children.fork(number, channel)
        else:
            children.kill(number)
