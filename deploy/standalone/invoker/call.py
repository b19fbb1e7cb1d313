"""One invocation on its way through the invoker, and the requests it makes of a container."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from typing import Any

from deploy.standalone.invoker.responses import Verdict
from deploy.standalone.model import Invocation, Outcome


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Call:
    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.action = invocation.action
        self.future: Future[Outcome] = Future()
        self.future.set_running_or_notify_cancel()  # nobody cancels a call once it is here
        self.start_ms: int | None = None  # when a container got it: of init if there was one, else of run
        self.init_ms: int | None = None
        self.verdict: Verdict | None = None  # once the container answered; its logs may still come
        self.end_ms = 0
        self.attempts = 0
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
            "code": action.code or "",
            "env": environment,
        }
        return json.dumps({"value": value}).encode()

    def run_body(self) -> bytes:
        """Body of ``POST /run``."""
        return f'{{"value":{self._payload},{json.dumps(self._context())[1:]}'.encode()

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
