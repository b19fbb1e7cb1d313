"""`/metrics`: the names that OpenWhisk's own dashboards ask for, and that they mean what they say."""

from __future__ import annotations

import re
import time
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from deploy.standalone.user_metrics import UserMetrics

# As scraped from a running OpenWhisk.
OPENWHISK = {
    "counter_controller_blockingActivation_start_total",
    "counter_loadbalancer_activations_counter_total",
    "counter_invoker_containerStart_counter_total",
    "counter_database_cacheHit_counter_total",
    *(
        f"gauge_containerPool_{what}_counter"
        for what in (
            "activeCount",
            "activeSize",
            "idlesCount",
            "idlesSize",
            "prewarmCount",
            "prewarmSize",
            "runBufferCount",
        )
    ),
    "gauge_loadbalancer_activationsInflight_counter",
    "gauge_loadbalancer_memoryInflight_counter",
    *(
        f"{histogram}_seconds_{part}"
        for histogram in (
            "histogram_invoker_activationRun_finish",
            "histogram_invoker_activationInit_finish",
            "histogram_controller_blockingActivation_finish",
            "histogram_http_get_counter",
            "histogram_http_put_counter",
            "histogram_http_post_counter",
        )
        for part in ("bucket", "sum", "count")
    ),
}
USER_EVENTS = {
    "openwhisk_action_activations_total": {"namespace", "initiator", "action", "kind", "memory"},
    "openwhisk_action_coldStarts_total": {"namespace", "initiator", "action"},
    "openwhisk_action_waitTime_seconds_count": {"namespace", "initiator", "action"},
    "openwhisk_action_initTime_seconds_count": {"namespace", "initiator", "action"},
    "openwhisk_action_duration_seconds_count": {"namespace", "initiator", "action"},
    "openwhisk_action_memory": {"namespace", "initiator", "action"},
    "openwhisk_action_status": {"namespace", "initiator", "action", "status"},
}


class Scrape:
    def __init__(self, client: Any) -> None:
        reply = client("GET", "/metrics")
        assert reply.status_code == 200
        self.text = reply.text
        self.samples = [sample for family in text_string_to_metric_families(reply.text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found)


def test_every_name_of_openwhisk_is_there(guest: Any) -> None:
    guest.put_action("seen")
    guest.invoke("seen")
    scrape = Scrape(guest)
    assert OPENWHISK - {sample.name for sample in scrape.samples} == set()
    labels = {sample.name: set(sample.labels) for sample in scrape.samples}
    assert {name: labels.get(name) for name in USER_EVENTS} == USER_EVENTS
    assert "_created" not in scrape.text


def test_counters_count_what_their_names_say(guest: Any) -> None:
    guest.put_action("pkgless", "def main(args):\n    return {'error': 'no'} if args else {}\n")
    before = Scrape(guest)
    assert guest.invoke("pkgless").status_code == 200
    assert guest.invoke("pkgless", {"a": 1}).status_code == 502
    guest.ns("POST", "actions/pkgless", {})
    until = time.monotonic() + 10
    ours = {"action": "pkgless", "namespace": "guest", "initiator": "guest"}
    while (after := Scrape(guest)).value("openwhisk_action_activations_total", **ours) < 3 and time.monotonic() < until:
        time.sleep(0.02)

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("counter_controller_blockingActivation_start_total") == 2
    assert more("histogram_controller_blockingActivation_finish_seconds_count") == 2
    assert more("counter_loadbalancer_activations_counter_total") == 3
    assert more("counter_invoker_containerStart_counter_total") == 3
    assert more("counter_invoker_containerStart_counter_total", containerState="warm") == 2
    assert more("histogram_invoker_activationInit_finish_seconds_count") == 1
    assert more("histogram_invoker_activationRun_finish_seconds_count") == 3
    assert more("histogram_http_post_counter_seconds_count") == 3
    assert more("counter_database_cacheHit_counter_total") > 0
    assert more("openwhisk_action_coldStarts_total", **ours) == 1
    assert more("openwhisk_action_status", **ours, status="success") == 2
    assert more("openwhisk_action_status", **ours, status="application_error") == 1
    assert after.value("openwhisk_action_activations_total", **ours, kind="python:3.11", memory="256") == 3
    assert after.value("openwhisk_action_memory", **ours) == 256


def test_parts_of_a_sequence_count_as_activations(guest: Any) -> None:
    guest.ns("PUT", "packages/pkg", {})
    guest.put_action("pkg/part")
    guest.ns("PUT", "actions/chain", {"exec": {"kind": "sequence", "components": ["/_/pkg/part", "/_/pkg/part"]}})
    assert guest.invoke("chain").status_code == 200
    scrape = Scrape(guest)
    assert scrape.value("openwhisk_action_activations_total", action="pkg/part") == 2
    assert scrape.value("openwhisk_action_activations_total", action="chain", kind="sequence") == 1


def test_who_invokes_and_whose_action_it_is_are_told_apart(guest: Any, alice: Any) -> None:
    guest.ns("PUT", "packages/shared", {"publish": True})
    guest.put_action("shared/tool")
    assert alice("POST", "/api/v1/namespaces/guest/actions/shared/tool?blocking=true", {}).status_code == 200
    labels = {"namespace": "guest", "initiator": "alice", "action": "shared/tool"}
    assert Scrape(guest).value("openwhisk_action_activations_total", **labels) == 1


def test_actions_without_number_do_not_make_figures_without_number() -> None:
    registry = CollectorRegistry()
    metrics = UserMetrics(registry, most_actions=10)
    for number in range(50):
        metrics.record(_record(f"a{number}"))
    metrics.record(_record("a40"))
    metrics.record(_record("a50"))
    from prometheus_client.exposition import generate_latest

    actions = set(re.findall(r'action="(\w+)"', generate_latest(registry).decode()))
    assert actions == {"a40", *(f"a{number}" for number in range(42, 51))}


def _record(name: str) -> dict[str, Any]:
    annotations = {
        "path": f"guest/{name}",
        "kind": "python:3.11",
        "waitTime": 1,
        "initTime": 2,
        "limits": {"memory": 256},
    }
    return {
        "namespace": "guest",
        "duration": 3,
        "response": {"status": "success"},
        "annotations": [{"key": key, "value": value} for key, value in annotations.items()],
    }
