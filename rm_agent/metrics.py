"""Prometheus metrics, computed when they are scraped and never before."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rm_agent.manager import Manager

_COUNTERS = {
    "loans": "Loans made",
    "recalls": "Loans called in for their owner",
    "safeguards": "Containers restored because they came near their reduced allocation",
    "read_errors": "Containers restored because their use could not be read",
    "oom_kills": "Processes killed for lack of memory in managed containers",
    "harvest_oom_kills": "Of these, in containers that had lent memory",
    "reports": "Reports of runtimes taken in",
    "calls": "Calls seen from start to end",
    "refused_writes": "Resizes that the kernel refused",
}


class _NodeCollector(Collector):
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        state = self._manager.state()
        labels = ["container", "action", "resource"]
        own = GaugeMetricFamily("rm_agent_own", "Own amount of a container (millicores, MiB)", labels=labels)
        has = GaugeMetricFamily("rm_agent_allocation", "Amount that is enforced now", labels=labels)
        used = GaugeMetricFamily("rm_agent_usage", "Amount in use", labels=labels)
        for container in state["containers"]:
            for resource in state["totals"]:
                values = [container["name"], container["action"], resource]
                own.add_metric(values, container["own"][resource])
                has.add_metric(values, container["alloc"][resource])
                used.add_metric(values, container["usage"][resource])
        yield from (own, has, used)
        lent = GaugeMetricFamily("rm_agent_lent", "Amount on loan on this node", labels=["resource"])
        for resource, total in state["totals"].items():
            lent.add_metric([resource], total["lent"])
        yield lent
        yield GaugeMetricFamily("rm_agent_containers", "Managed containers", value=len(state["containers"]))
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"rm_agent_{name}", text, value=state["counts"][name])
        if times := sorted(self._manager.restore_s):
            restore = GaugeMetricFamily(
                "rm_agent_restore_seconds", "From a report to the owner's CPU, last 1,000", labels=["quantile"]
            )
            for quantile in (0.5, 0.99, 1.0):
                restore.add_metric([str(quantile)], times[min(len(times) - 1, int(quantile * len(times)))])
            yield restore


class Metrics:
    """A registry of its own, so that nothing else of the process is shown."""

    def __init__(self, manager: Manager) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_NodeCollector(manager))

    def text(self) -> bytes:
        """In Prometheus' exposition format."""
        return generate_latest(self._registry)
