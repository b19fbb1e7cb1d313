"""Standard streams that put on each line the tag of the activation that wrote it.

Whose a line is, is known from its context: an activation's own thread, the threads and pool tasks it starts, its
asyncio tasks. What goes past the language's streams (C libraries, programs the action starts) is not tagged, nor is
what is written outside of any activation or after its end.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from action_runtime.executor.log_tags import SENTINEL, tag_of, write_all

MAX_LINE = 1 << 20  # bytes of a line without an end that are held back; more of them are a line of their own


class _Activation:
    """One init or run, and the lines it has begun on each stream."""

    def __init__(self, tag: bytes) -> None:
        self.tag = tag
        self.begun = {1: bytearray(), 2: bytearray()}
        self.ended = False


_nobody = _Activation(b"")
_current: ContextVar[_Activation] = ContextVar("activation", default=_nobody)


class TaggedStreams:
    """Replaces ``sys.stdout`` and ``sys.stderr`` of this process. There is one, from before other modules look at them."""

    def __init__(self) -> None:
        # A redirected or closed descriptor must not swallow what ends an activation's logs.
        self._ends = (os.dup(1), os.dup(2))
        self._lock = threading.RLock()  # a finaliser or signal handler may print while its own thread holds it
        self._live: set[_Activation] = {_nobody}
        sys.stdout = sys.__stdout__ = _TaggedText(_TaggedBytes(self, 1))
        sys.stderr = sys.__stderr__ = _TaggedText(_TaggedBytes(self, 2))
        os.register_at_fork(after_in_child=self._forget)
        _pass_on_to_threads()

    @contextlib.contextmanager
    def activation(self, activation: object, sentinel: bool) -> Iterator[None]:
        """Tag with this id what is written inside; at its end, begun lines are ended and the sentinel, if any, follows.

        The sentinel is written here, under the lock of the lines: another process would write it into a long one.
        """
        mine = _Activation(tag_of(activation))
        with self._lock:
            self._live.add(mine)
        token = _current.set(mine)
        yield
        # Not after an exception: that ends the process, and its traceback is the activation's.
        _current.reset(token)
        with self._lock:
            self._end_lines(mine)
            mine.ended = True
            self._live.discard(mine)
            if sentinel:
                for descriptor in self._ends:
                    with contextlib.suppress(OSError):  # nobody reads this container's log any more
                        write_all(descriptor, mine.tag + SENTINEL)

    def write(self, descriptor: int, data: bytes) -> None:
        """Pass on what now are whole lines."""
        mine = _current.get()
        with self._lock:
            if mine.ended:
                mine = _nobody
            begun = mine.begun[descriptor]
            begun += data
            end = begun.rfind(b"\n") + 1 if b"\n" in data else 0
            if len(begun) - end >= MAX_LINE:
                begun += b"\n"
                end = len(begun)
            lines = bytes(begun[:end])
            del begun[:end]
            for line in lines.split(b"\n")[:-1]:
                write_all(descriptor, mine.tag + line + b"\n")

    def end_lines(self) -> None:
        """End every line that was begun: this process is about to end."""
        with self._lock:
            for activation in self._live:
                self._end_lines(activation)

    def _end_lines(self, activation: _Activation) -> None:
        for descriptor, begun in activation.begun.items():
            if begun:
                with contextlib.suppress(OSError):  # closed by the action
                    write_all(descriptor, activation.tag + begun + b"\n")
                begun.clear()

    def _forget(self) -> None:
        # The lines begun are the parent's to end, and the lock may have been another thread's.
        self._lock = threading.RLock()
        for activation in self._live:
            for begun in activation.begun.values():
                begun.clear()


class _TaggedBytes(io.BufferedIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, streams: TaggedStreams, descriptor: int) -> None:
        self._streams = streams
        self._descriptor = descriptor
        self.name = {1: "<stdout>", 2: "<stderr>"}[descriptor]
        self.mode = "wb"

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        content = bytes(memoryview(data))
        self._streams.write(self._descriptor, content)
        return len(content)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


class _TaggedText(io.TextIOWrapper):
    """``sys.stdout``. Holds nothing back itself: what it held might be passed on by another activation's write."""

    def __init__(self, buffer: _TaggedBytes) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.mode = "w"

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.buffer.write(text.encode(self.encoding, self.errors or "strict"))
        return len(text)


def _pass_on_to_threads() -> None:
    """Have threads and pool tasks belong to the activation that starts them (asyncio does this itself)."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_here(thread: threading.Thread) -> None:
        mine = _current.get()
        if mine is not _nobody:
            thread.run = _belonging_to(mine, thread.run)  # type: ignore[method-assign]
        start(thread)

    def submit_here(pool: ThreadPoolExecutor, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(pool, _belonging_to(_current.get(), task), *args, **kwargs)

    threading.Thread.start = start_here  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_here  # type: ignore[method-assign]


def _belonging_to(activation: _Activation, call: Callable[..., Any]) -> Callable[..., Any]:
    def call_for_it(*args: Any, **kwargs: Any) -> Any:
        token = _current.set(activation)
        try:
            return call(*args, **kwargs)
        finally:
            _current.reset(token)

    return call_for_it
