"""The parts of a running server, put together; what every resource reaches through ``rest.platform()``."""

from __future__ import annotations

import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from deploy.standalone.auth import Users
from deploy.standalone.invocations import Caller, Invocations, Started
from deploy.standalone.metrics import Metrics
from deploy.standalone.model import Invoker
from deploy.standalone.records import Record
from deploy.standalone.resolve import Resolved
from deploy.standalone.settings import Settings
from deploy.standalone.store import Store
from deploy.standalone.throttle import RateLimit


class Platform:
    """Storage, users, limits and the invoker of one server."""

    def __init__(self, settings: Settings, store: Store, invoker: Invoker) -> None:
        self.settings = settings
        self.store = store
        self.users = Users(settings.users)
        self.invocation_rate = RateLimit(settings.invocations_per_minute)
        self.fire_rate = RateLimit(settings.fires_per_minute)
        self.invocations = Invocations(settings, store, invoker)
        self.metrics = Metrics(invoker.stats, lambda: self.invocations.in_flight)
        self.draining = threading.Event()

    def start(self, caller: Caller, target: Resolved, payload: dict[str, Any]) -> Started:
        started = self.invocations.start(caller, target, payload)
        self.metrics.activations.inc()
        return started

    def wait(self, started: Started, timeout_s: float) -> Record | None:
        """The record of an invocation, None when it takes longer than ``timeout_s``."""
        self.metrics.blocking.inc()
        began = time.perf_counter()
        try:
            return started.record.result(timeout_s)
        except FutureTimeout:
            return None
        finally:
            self.metrics.blocking_time.observe(time.perf_counter() - began)
