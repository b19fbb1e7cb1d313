"""`/metrics` in Prometheus form, under OpenWhisk's names where it has one.

``counter_*``, ``gauge_*`` and ``histogram_*`` are what controller and invoker of OpenWhisk publish,
``openwhisk_action_*`` (:mod:`deploy.standalone.user_metrics`) what its user-events exporter does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from deploy.standalone.user_metrics import UserMetrics

_METHODS = ("get", "put", "post", "delete")
_KINDS_OF_START = ("cold", "prewarmed", "warm", "recreated", "recreatedPrewarm")
_MIB_GAUGES = {
    "memoryInUse": "gauge_invoker_memoryInUse_counter",
    "memoryTotal": "gauge_invoker_memoryTotal_counter",
}


class Metrics:
    """Counters of the API, and what the invoker tells (:class:`~deploy.standalone.model.InvokerEvents`)."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.users = UserMetrics(self.registry)
        self._http = {
            method.upper(): self._histogram(f"histogram_http_{method}_counter_seconds", f"Answering {method.upper()}")
            for method in _METHODS
        }
        self.activations = self._counter("counter_loadbalancer_activations_counter", "Invocations accepted")
        self.blocking = self._counter("counter_controller_blockingActivation_start", "Blocking invocations")
        self.blocking_time = self._histogram(
            "histogram_controller_blockingActivation_finish_seconds", "Waiting for the result of a blocking invocation"
        )
        starts = Counter(
            "counter_invoker_containerStart_counter",
            "Containers given to invocations",
            ["containerState"],
            registry=self.registry,
        )
        self._starts = {kind: starts.labels(kind) for kind in _KINDS_OF_START}
        self._init = self._histogram("histogram_invoker_activationInit_finish_seconds", "/init of containers")
        self._run = self._histogram("histogram_invoker_activationRun_finish_seconds", "/run of containers")
        self._stats: Callable[[], Mapping[str, float]] = dict
        self._in_flight: Callable[[], int] = int
        self._cache_hits: Callable[[], int] = int

    def read(
        self, *, stats: Callable[[], Mapping[str, float]], in_flight: Callable[[], int], cache_hits: Callable[[], int]
    ) -> None:
        """From now on, ask these at each scrape; called once.

        ``stats``: :meth:`~deploy.standalone.model.Invoker.stats`. ``in_flight``: how many invocations run.
        ``cache_hits``: how often an entity was found without reading the database.
        """
        self._stats, self._in_flight, self._cache_hits = stats, in_flight, cache_hits
        self.registry.register(self)

    def answered(self, method: str, seconds: float) -> None:
        histogram = self._http.get(method)
        if histogram:
            histogram.observe(seconds)

    def started(self, kind_of_start: str) -> None:
        counter = self._starts.get(kind_of_start)
        if counter:
            counter.inc()

    def initialised(self, seconds: float) -> None:
        self._init.observe(seconds)

    def ran(self, seconds: float) -> None:
        self._run.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        stats = self._stats()
        running = "gauge_loadbalancer_activationsInflight_counter"
        yield GaugeMetricFamily(running, "Invocations running", value=self._in_flight())
        inflight = stats.get("containerPool_activeSize", 0) + stats.get("containerPool_runBufferSize", 0)
        yield GaugeMetricFamily("gauge_loadbalancer_memoryInflight_counter", "MiB of those that run", value=inflight)
        yield CounterMetricFamily(
            "counter_database_cacheHit_counter", "Entities found in memory", value=self._cache_hits()
        )
        for name, value in stats.items():
            if name.startswith("containerPool_"):
                yield GaugeMetricFamily(f"gauge_{name}_counter", "Containers of the invoker", value=value)
            elif name in _MIB_GAUGES:
                yield GaugeMetricFamily(_MIB_GAUGES[name], "MiB of the invoker", value=value)
            else:
                yield CounterMetricFamily(f"counter_invoker_{name}", "Since the start of the server", value=value)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, registry=self.registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, registry=self.registry)
