"""`/metrics` in Prometheus form, under OpenWhisk's names where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_INVOKER_GAUGES = {
    "memoryInUse": "gauge_loadbalancer_memoryInflight_counter",
    "memoryTotal": "gauge_invoker_memoryTotal_counter",
}
_METHODS = ("get", "put", "post", "delete")


class Metrics:
    """Counters of the API, and the invoker's own figures through ``stats``."""

    def __init__(self, stats: Callable[[], Mapping[str, float]], in_flight: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._http = {
            method: Histogram(
                f"histogram_http_{method}_counter_seconds", f"Time to answer {method.upper()}", registry=self.registry
            )
            for method in _METHODS
        }
        self.activations = Counter(
            "counter_loadbalancer_activations_counter", "Invocations accepted", registry=self.registry
        )
        self.blocking = Counter(
            "counter_controller_blockingActivation_start", "Blocking invocations", registry=self.registry
        )
        self.blocking_time = Histogram(
            "histogram_controller_blockingActivation_finish_seconds",
            "Time a blocking invocation was waited for",
            registry=self.registry,
        )
        self._stats = stats
        self._in_flight = in_flight
        self.registry.register(self)

    def answered(self, method: str, seconds: float) -> None:
        histogram = self._http.get(method.lower())
        if histogram:
            histogram.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        running = "gauge_loadbalancer_activationsInflight_counter"
        yield GaugeMetricFamily(running, "Invocations running", value=self._in_flight())
        for name, value in self._stats().items():
            if name.startswith("containerPool_"):
                yield GaugeMetricFamily(f"gauge_{name}_counter", "Containers of the invoker", value=value)
            elif name in _INVOKER_GAUGES:
                yield GaugeMetricFamily(_INVOKER_GAUGES[name], "MiB of the invoker", value=value)
            else:
                yield CounterMetricFamily(f"counter_invoker_{name}", "Since the start of the server", value=value)
