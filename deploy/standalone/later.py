"""Answers that wait for activations without holding a thread."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers

from deploy.standalone.http_connection import DEFER
from deploy.standalone.records import Record

log = logging.getLogger(__name__)

_HELPERS = 4
_NONE = Headers()
_LIGHT_BYTES = 32_768


class Waiting:
    """Tells those who wait that their time is up, and makes answers of large results: one thread and a few helpers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        self._tickets = itertools.count()
        self._next = float("inf")
        self._closed = False
        self._helpers = ThreadPoolExecutor(_HELPERS, "answers")
        self._thread = threading.Thread(target=self._run, name="answers-due", daemon=True)
        self._thread.start()

    def call_at(self, when: float, callback: Callable[[], None]) -> int:
        """Call back at ``when`` on the clock of ``time.monotonic``, unless :meth:`forget` is called with the ticket."""
        with self._changed:
            ticket = next(self._tickets)
            self._waiting[ticket] = (when, callback)
            if when < self._next:
                self._next = when
                self._changed.notify()
        return ticket

    def forget(self, ticket: int) -> None:
        # The next time to wake stays: what is due is looked up again then.
        with self._changed:
            self._waiting.pop(ticket, None)

    def help(self, work: Callable[[], None]) -> None:
        self._helpers.submit(work)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._helpers.shutdown()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                if now < self._next:
                    self._changed.wait(None if self._next == float("inf") else self._next - now)
                    continue
                entries = list(self._waiting.items())
                due = [(ticket, callback) for ticket, (when, callback) in entries if when <= now]
                for ticket, _ in due:
                    self._waiting.pop(ticket, None)
                self._next = min((when for _, (when, _) in entries if when > now), default=float("inf"))
            for _, callback in due:
                try:
                    callback()
                except Exception:  # one answer's trouble must not be another's
                    log.exception("an answer that was due could not be given")


class Later(Response):
    """An answer made by ``answer`` of what is ``awaited``, or of None when ``timeout_s`` are over before.

    ``answer`` is called once, on any thread, outside of the request, and must not raise. ``light`` says whether making
    the answer takes so little that the thread which brings the result may do it.
    """

    def __init__(
        self,
        awaited: Future[Any],
        timeout_s: float,
        answer: Callable[[Future[Any] | None], Response],
        waiting: Waiting,
        light: Callable[[Future[Any] | None], bool],
    ) -> None:
        # Not Response.__init__: nothing of this object is ever sent.
        self.headers = _NONE
        self._awaited = awaited
        self._until = time.monotonic() + timeout_s
        self._answer = answer
        self._waiting = waiting
        self._light = light
        self._once = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[DEFER](self)
        return ()

    def when_done(self, callback: Callable[[Response], None]) -> None:
        """Call back with the answer, once."""

        def settle(result: Future[Any] | None) -> None:
            if self._once.acquire(blocking=False):
                callback(self._answer(result))

        def brought(result: Future[Any] | None) -> None:
            if self._light(result):
                settle(result)
            else:
                self._waiting.help(lambda: settle(result))

        def finished(result: Future[Any]) -> None:
            self._waiting.forget(ticket)
            brought(result)

        ticket = self._waiting.call_at(self._until, lambda: brought(None))
        self._awaited.add_done_callback(finished)


def small_result(record: Future[Record] | None) -> bool:
    """Whether an activation's result, if it is there at all, is quickly made an answer."""
    if record is None or record.exception() is not None:
        return True
    return record.result()["response"].get("size", 0) <= _LIGHT_BYTES


def all_of(futures: Sequence[Future[Any]]) -> Future[None]:
    """Done when all are, whatever became of them. There must be one at least."""
    done: Future[None] = Future()
    left = len(futures)
    lock = threading.Lock()

    def count(_: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = not left
        if last:
            done.set_result(None)

    for future in futures:
        future.add_done_callback(count)
    return done
