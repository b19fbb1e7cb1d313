"""The whole path: OpenWhisk API, containers, and the resource manager that moves resources between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rm_agent.journal import audit
from workloads.platform import Platform

pytestmark = [pytest.mark.root, pytest.mark.slow]

MANIFEST = """
packages:
  pair:
    actions:
      roomy:
        code: |
          def main(args):
              return {}
        runtime: python:3.11
        limits: {memorySize: 512}
        annotations: {resources: {cpu: 1000}}
      hungry:
        code: |
          import time

          def main(args):
              held = []
              for _ in range(args["mib"] // 10):
                  held.append(bytearray(b"x" * 10 * 2**20))
                  time.sleep(0.2)
              return {"mib": 10 * len(held)}
        runtime: python:3.11
        limits: {memorySize: 128}
        annotations: {resources: {cpu: 500}}
      busy:
        code: |
          import time

          def main(args):
              until = time.process_time() + args["cpu_s"]
              while time.process_time() < until:
                  pass
              return {}
        runtime: python:3.11
        limits: {memorySize: 128}
        annotations: {resources: {cpu: 250}}
"""


@pytest.fixture(params=[False, True], ids=["without the manager", "with the manager"])
def platform(request: pytest.FixtureRequest, tmp_path: Path):
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(MANIFEST)
    with Platform(managed=request.param, manifests=[manifest], work=tmp_path / "work") as platform:
        # An action must be known, by some calls, before what it does not use is lent.
        platform.warm({"pair/roomy": [{}] * 4, "pair/busy": [{"cpu_s": 0.02}] * 4, "pair/hungry": [{"mib": 10}] * 4})
        yield platform
    if platform.managed:
        assert audit(platform.journal).violations == 0


def test_a_call_that_outgrows_its_memory_lives_on_what_is_lent(platform: Platform) -> None:
    record = platform.openwhisk.invoke("pair/hungry", {"mib": 160})
    if platform.managed:
        assert record.result == {"mib": 160}
    else:
        assert record.status == "action developer error"
        assert not platform.openwhisk.invoke("pair/hungry", {"mib": 10}).get("error")  # in a new container


def test_a_call_short_of_cpu_runs_on_what_is_lent(platform: Platform) -> None:
    record = platform.openwhisk.invoke("pair/busy", {"cpu_s": 1.0})
    assert record.success
    seconds = record["duration"] / 1000
    # A quarter of a core makes four seconds of one; what is lent makes less than half of that.
    assert seconds < 2.0 if platform.managed else seconds > 3.5


def test_an_owner_gets_its_own_back_while_it_is_lent(platform: Platform) -> None:
    running = platform.openwhisk.invoke("pair/busy", {"cpu_s": 1.5}, blocking=False)
    times = [platform.openwhisk.invoke("pair/roomy", {})["duration"] for _ in range(10)]
    assert sorted(times)[5] < 50
    assert platform.openwhisk.wait(running.id, 30).success
