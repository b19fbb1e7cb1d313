"""Figures of each action, named and labelled as OpenWhisk's user-events exporter does (core/monitoring/user-events)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric

from deploy.standalone.records import Record

MOST_ACTIONS = 1000
_MOST_VARIANTS = 16  # of kind and memory, for one action
_STATUSES = ("success", "application_error", "action_developer_error", "whisk_internal_error")
_LABELS = ("namespace", "initiator", "action")

_Labels = tuple[str, str, str]


@dataclass(slots=True)
class _Series:
    """The series of one action, held so that they need not be looked up for each activation."""

    cold_starts: Counter
    wait: Histogram
    init: Histogram
    duration: Histogram
    memory: Gauge
    activations: dict[tuple[str, str], Counter] = field(default_factory=dict)  # by kind and memory
    statuses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STATUSES, 0))


class UserMetrics:
    """``openwhisk_action_*`` of the actions that ran last, :data:`MOST_ACTIONS` at most: scrapes stay small."""

    def __init__(self, registry: CollectorRegistry, most_actions: int = MOST_ACTIONS) -> None:
        self._most = most_actions
        self._lock = threading.Lock()
        self._series: OrderedDict[_Labels, _Series] = OrderedDict()
        self._activations = Counter(
            "openwhisk_action_activations", "Activations", (*_LABELS, "kind", "memory"), registry=registry
        )
        self._cold_starts = Counter("openwhisk_action_coldStarts", "Cold starts", _LABELS, registry=registry)
        self._wait = Histogram(
            "openwhisk_action_waitTime_seconds", "From receipt to the start", _LABELS, registry=registry
        )
        self._init = Histogram("openwhisk_action_initTime_seconds", "Initialising", _LABELS, registry=registry)
        self._duration = Histogram("openwhisk_action_duration_seconds", "Running", _LABELS, registry=registry)
        self._memory = Gauge("openwhisk_action_memory", "Limit of the memory in MB", _LABELS, registry=registry)
        registry.register(self)

    def record(self, record: Record) -> None:
        """Count a finished activation of an action, sequence or conductor."""
        annotations = {pair["key"]: pair["value"] for pair in record["annotations"]}
        namespace, _, action = annotations["path"].partition("/")
        # A sequence of which nothing could run has no limits.
        memory = annotations.get("limits", {"memory": 0})["memory"]
        status = record["response"]["status"].replace(" ", "_")
        labels = (namespace, record["namespace"], action)
        with self._lock:
            series = self._of(labels)
            self._activations_of(labels, series, (annotations["kind"], str(memory))).inc()
            series.statuses[status] += 1
            series.memory.set(memory)
            series.wait.observe(annotations["waitTime"] / 1000)
            series.duration.observe(record["duration"] / 1000)
            if "initTime" in annotations:
                series.cold_starts.inc()
                series.init.observe(annotations["initTime"] / 1000)

    def collect(self) -> Iterator[Metric]:
        """The statuses: OpenWhisk's name for them lacks the ending that the client library gives counters."""
        status = Metric("openwhisk_action_status", "Activations by how they ended", "unknown")
        with self._lock:
            for labels, series in self._series.items():
                for name, count in series.statuses.items():
                    status.add_sample(status.name, {**dict(zip(_LABELS, labels, strict=True)), "status": name}, count)
        yield status

    def _of(self, labels: _Labels) -> _Series:
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._most:
                self._forget(*self._series.popitem(last=False))
            series = self._series[labels] = _Series(
                self._cold_starts.labels(*labels),
                self._wait.labels(*labels),
                self._init.labels(*labels),
                self._duration.labels(*labels),
                self._memory.labels(*labels),
            )
        else:
            self._series.move_to_end(labels)
        return series

    def _activations_of(self, labels: _Labels, series: _Series, key: tuple[str, str]) -> Counter:
        counter = series.activations.get(key)
        if counter is None:
            if len(series.activations) >= _MOST_VARIANTS:
                oldest = next(iter(series.activations))
                del series.activations[oldest]
                self._activations.remove(*labels, *oldest)
            counter = series.activations[key] = self._activations.labels(*labels, *key)
        return counter

    def _forget(self, labels: _Labels, series: _Series) -> None:
        metrics: tuple[Any, ...] = (self._cold_starts, self._wait, self._init, self._duration, self._memory)
        for metric in metrics:
            metric.remove(*labels)
        for key in series.activations:
            self._activations.remove(*labels, *key)
