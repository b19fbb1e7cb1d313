"""The parts of a running server, put together; what every resource reaches through ``rest.platform()``."""

from __future__ import annotations

import logging
import threading
from typing import Any

from deploy.standalone.auth import Users
from deploy.standalone.invocations import Caller, Invocations, Started
from deploy.standalone.later import Waiting
from deploy.standalone.logs import event
from deploy.standalone.metrics import Metrics
from deploy.standalone.model import Invoker
from deploy.standalone.records import Record
from deploy.standalone.resolve import Resolved
from deploy.standalone.settings import Settings
from deploy.standalone.store import Store
from deploy.standalone.throttle import RateLimit

_log = logging.getLogger("owl.activations")


class Platform:
    """Storage, users, limits and the invoker of one server."""

    def __init__(self, settings: Settings, store: Store, invoker: Invoker, metrics: Metrics, waiting: Waiting) -> None:
        self.settings = settings
        self.store = store
        self.users = Users(settings.users)
        self.invocation_rate = RateLimit(settings.invocations_per_minute)
        self.fire_rate = RateLimit(settings.fires_per_minute)
        self.invocations = Invocations(settings, store, invoker, metrics.users.record)
        self.metrics = metrics
        self.waiting = waiting
        self.draining = threading.Event()
        metrics.read(
            stats=invoker.stats,
            in_flight=lambda: self.invocations.in_flight,
            cache_hits=lambda: store.cache_hits,
        )

    def start(self, caller: Caller, target: Resolved, payload: dict[str, Any]) -> Started:
        """Run an action: see :meth:`~deploy.standalone.invocations.Invocations.start`."""
        started = self.invocations.start(caller, target, payload)
        self.metrics.activations.inc()
        tid, activation_id = caller.transaction_id, started.activation_id
        if _log.isEnabledFor(logging.INFO):
            name = f"/{target.action.namespace}/{target.action.path}"
            event(_log, logging.INFO, "started", tid=tid, activation=activation_id, user=caller.user.name, action=name)
        started.record.add_done_callback(
            lambda done: self._ended(tid, activation_id, None if done.exception() else done.result())
        )
        return started

    def _ended(self, tid: str, activation_id: str, record: Record | None) -> None:
        if record is None:
            event(_log, logging.ERROR, "ended without a record", tid=tid, activation=activation_id)
            return
        if _log.isEnabledFor(logging.INFO):
            status, duration = record["response"]["status"], record["duration"]
            event(_log, logging.INFO, "ended", tid=tid, activation=activation_id, status=status, duration_ms=duration)
