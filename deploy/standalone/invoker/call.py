"""One invocation on its way through the invoker, and the requests it makes of a container."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any

from deploy.standalone.invoker.logs import ActivationLog
from deploy.standalone.invoker.responses import Verdict
from deploy.standalone.model import Invocation, Outcome


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _key(invocation: Invocation) -> Hashable:
    """Calls of equal keys may share containers.

    As in OpenWhisk, a container serves one namespace: the users of a shared action must not meet in it. Nor may the
    users of two bindings, whose parameters were given to it with /init.
    """
    action = invocation.action
    return (invocation.namespace, *action.key, *sorted(action.init_env.items()))


class Call:
    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.id = invocation.activation_id
        self.action = invocation.action
        self.key = _key(invocation)
        self.future: Future[Outcome] = Future()
        self.future.set_running_or_notify_cancel()  # nobody cancels a call once it is here
        self.start_ms: int | None = None  # when a container got it: of init if there was one, else of run
        self.init_ms: int | None = None
        self.run_ms: int | None = None  # when a container got /run
        self.verdict: Verdict | None = None  # once the container answered; its logs may still come
        self.end_ms = 0
        self.attempts = 0
        self.due = float("inf")  # when something must happen to it if nothing else does
        self.lost = False  # no answer will come
        self.log: ActivationLog | None = None
        self._payload = json.dumps(invocation.payload)  # by the caller's thread, before any lock is taken

    @property
    def deadline_ms(self) -> int:
        return now_ms() + self.action.limits.timeout_ms

    def init_body(self) -> bytes:
        """Body of ``POST /init``."""
        action = self.action
        environment = dict(action.init_env)
        environment |= {f"__OW_{name.upper()}": value for name, value in self._context().items()}
        value = {
            "name": action.path.rpartition("/")[2],
            "main": action.main,
            "binary": action.binary,
            "env": environment,
        }
        if action.code is not None:  # an image may need none
            value["code"] = action.code
        return json.dumps({"value": value}).encode()

    def run_body(self) -> bytes:
        """Body of ``POST /run``."""
        return f'{{"value":{self._payload},{json.dumps(self._context())[1:]}'.encode()

    def start_over(self) -> None:
        """No container has begun it: the next one gets it as if it were the first."""
        self.start_ms = self.init_ms = self.run_ms = self.log = None
        self.due, self.lost = float("inf"), False

    def decide(self, verdict: Verdict) -> None:
        """The container has answered, or never will."""
        self.verdict = verdict
        self.end_ms = now_ms()

    def outcome(self, logs: list[str]) -> Outcome:
        verdict = self.verdict
        assert verdict is not None
        start = self.end_ms if self.start_ms is None else self.start_ms
        return Outcome(
            status=verdict.status,
            result=verdict.result,
            start_ms=start,
            end_ms=self.end_ms,
            wait_ms=max(0, start - self.invocation.received_ms),
            init_ms=self.init_ms,
            logs=logs,
            size=verdict.size,
            timed_out=verdict.timed_out,
        )

    def _context(self) -> dict[str, Any]:
        invocation, action = self.invocation, self.action
        context = {
            "namespace": invocation.namespace,
            "action_name": action.fqn,
            "action_version": action.version,
            "activation_id": invocation.activation_id,
            "transaction_id": invocation.transaction_id,
            "deadline": str(self.deadline_ms),
        }
        if action.provide_api_key and invocation.api_key is not None:
            context["api_key"] = invocation.api_key
        return context
