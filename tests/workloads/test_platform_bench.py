"""The benchmark of the platform: its figures, its page, its command, and how it finds what is lost."""

from __future__ import annotations

import io
import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from workloads.bench import BenchError, run
from workloads.bench.document import document, write
from workloads.bench.platform import PARTS
from workloads.bench.platform_figures import figures, met
from workloads.bench.platform_page import render, write_page
from workloads.bench.platform_requests import malformed, request
from workloads.bench.platform_soak import wrongness
from workloads.bench.platform_table import summary

KEYS = {
    "replay_exchanges", "replay_differences", "warm_p50_ms", "warm_p99_ms", "invocations_per_s_16_clients", "warm_16_p99_ms",
    "cold_ms", "soak_activations", "soak_lost", "soak_duplicates", "fuzz_requests", "fuzz_500s",
}  # fmt: skip
AUTHORIZATIONS = {"bench": "Basic YTpi", "alice": "Basic Yzpk"}


def samples() -> dict[str, Any]:
    rng = random.Random(1)
    times = [[round(rng.lognormvariate(0.5, 0.3), 2) for _ in range(200)] for _ in range(3)]
    return {
        "replay": {"files": {"01-info": {"exchanges": 10, "differences": 1, "attempts": 1, "output": []},
                             "02-x": {"exchanges": 5, "differences": 0, "attempts": 2, "output": []}}, "skipped": "bb"},
        "warm": {"rounds": times, "rounds_16": [{"ms": ms, "seconds": 0.25} for ms in times], "idle": {"ms": times[0], "seconds": 1.0},
                 "nodejs": None},
        "cold": {"python": [40.0, 50.0, 45.0], "without_stem_cell": [100.0], "nodejs": None},
        "soak": {"activations": 100, "records": 101, "lost": 1, "duplicates": 0, "missing": ["f" * 32], "wrong": [], "twice": [],
                 "statuses": {"success": 99, "whisk internal error": 2}, "calls": {"step, blocking": 100}, "seconds": 3.0,
                 "kills": [[0.5, "server"], [1.2, "wsk0_1_bench_step"]], "timeline": [[0, 40, 0], [1, 60, 4]], "repeated": 4,
                 "refused_starts": [], "defects": []},
        "fuzz": {"requests": 50, "malformed": 5, "seconds": 1.0, "statuses": {"200": 20, "404": 30}, "status_500": 0, "platform_errors": 0,
                 "unanswered": 0, "faults": [], "defects": [], "alive": True},
    }  # fmt: skip


def made(**changes: Any) -> dict[str, Any]:
    found = {part: sample for part, sample in (samples() | changes).items() if sample != "left out"}
    parts = "all" if set(found) == set(PARTS) else next(iter(found))
    return document("platform", {"quick": True, "parts": parts}, figures(found), found)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.plots: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for key in ("src", "href", "xlink:href") if (value := found.get(key))]
        if tag == "svg":
            self.plots.append(str(found["data-plot"]))


def test_every_figure_asked_for_is_there_and_comes_from_the_samples() -> None:
    found = figures(samples())
    assert KEYS <= found.keys()
    assert found["replay_exchanges"] == 15 and found["replay_differences"] == 1
    assert found["invocations_per_s_16_clients"] == 800
    assert found["cold_ms"] == 45
    assert found["soak_server_kills"] == 1 == found["soak_container_kills"]


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    found = figures({"replay": None})
    assert KEYS <= found.keys() and set(found.values()) == {None}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("warm_p50_ms", 3.0, True), ("warm_p50_ms", 3.1, False), ("soak_lost", 0, True), ("soak_lost", 1, False),
     ("invocations_per_s_16_clients", 599, False), ("cold_ms", None, None), ("fuzz_requests", 5, None)],
)  # fmt: skip
def test_targets(key: str, value: float | None, expected: bool | None) -> None:
    assert met(key, value) is expected


def test_table_tells_what_was_lost_and_left_out() -> None:
    text = io.StringIO()
    summary(Console(file=text, width=160), made())
    shown = text.getvalue()
    for expected in ("warm_p99_ms", "1,080", "lost: " + "f" * 32, "01-info: 1 of 10 exchanges differ", "left out"):
        assert expected in shown
    text = io.StringIO()
    summary(Console(file=text, width=160), made(replay=None))
    assert "nothing was replayed" in text.getvalue()


def test_page_needs_nothing_from_elsewhere_and_escapes() -> None:
    data = made()
    data["samples"]["fuzz"]["faults"] = [{"sent": "<script>alert(1)</script>", "answer": "500"}]
    text = render(data)
    page = Page(text)
    assert page.plots == ["latency", "starts", "kills", "answers"]
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "<script>" not in text and "&lt;script&gt;alert(1)" in text


def test_page_of_one_part_read_back_from_its_json(tmp_path: Path) -> None:
    data = made(replay="left out", warm="left out", cold="left out", soak="left out")
    write(tmp_path / "platform.json", data)
    page = write_page(json.loads((tmp_path / "platform.json").read_text()), tmp_path / "report")
    assert Page(page.read_text()).plots == ["answers"]


def test_a_part_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="replay, warm, cold, soak, fuzz"):
        run("platform", only="speed", console=Console(file=io.StringIO()))


CALL = {"call": "0-1", "what": "step", "blocking": True, "n": 4, "answered": ["success", {"call": "0-1", "n": 5}]}


@pytest.mark.parametrize(
    ("change", "status", "result", "reason"),
    [
        ({}, "success", {"call": "0-1", "n": 5}, None),
        ({}, "success", {"call": "0-2", "n": 5}, "another's result"),
        ({}, "whisk internal error", {"error": "killed"}, "the caller was answered"),
        ({"answered": None}, "whisk internal error", {"error": "killed"}, None),
        ({"answered": None}, "application error", {"error": "?"}, "application error"),
        ({"answered": None, "what": "fail"}, "application error", {"error": "0-1"}, None),
        ({"answered": None, "what": "chain"}, "success", {"call": "0-1", "n": 7}, None),
        ({"answered": None, "what": "event"}, "success", {"call": "0-1", "n": 4}, None),
    ],
)
def test_a_record_must_be_that_of_its_call(
    change: dict[str, Any], status: str, result: Any, reason: str | None
) -> None:
    found = wrongness(CALL | change, {"response": {"status": status, "result": result}})
    assert (found is None) if reason is None else (reason in str(found))


def test_a_seed_gives_the_same_requests() -> None:
    def some(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [malformed(rng, request(rng, AUTHORIZATIONS)) for _ in range(300)]

    assert some(7) == some(7) != some(8)


def test_requests_that_are_not_malformed_keep_to_http() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        sent = request(rng, AUTHORIZATIONS)
        head, blank, body = sent.encode().partition(b"\r\n\r\n")
        assert blank and body == sent.body
        assert head.count(b"\r\n") == len(sent.headers) and len(head.split(b"\r\n")[0].split(b" ")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("part", ["warm", "cold", "fuzz"])
def test_parts_measure_a_real_server(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import workloads.bench.platform as platform

    small = {"rounds": 1, "calls": 20, "seconds": 0.3, "idle_connections": 10, "cold_trials": 1, "requests": 200}
    monkeypatch.setattr(platform, "QUICK", platform.QUICK | small)
    monkeypatch.setenv("OWL_HOME", str(tmp_path / "home"))
    result = run("platform", quick=True, only=part, json=tmp_path / "out.json", console=Console(file=io.StringIO()))
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["figures"] == result["figures"] and saved["samples"].keys() == {part}
    key = {"warm": "warm_p50_ms", "cold": "cold_ms", "fuzz": "fuzz_requests"}[part]
    assert saved["figures"][key] > 0


@pytest.mark.slow
def test_a_soak_with_a_kill_accounts_for_every_call(tmp_path: Path) -> None:
    from workloads.bench.platform_soak import soak

    found = soak({"activations": 80, "server_kills": 1, "seed": 2}, tmp_path, lambda text, done: None)
    assert [what for _, what in found["kills"]].count("server") == 1
    assert found["activations"] >= 80 and sum(found["calls"].values()) == 80
    assert (found["missing"], found["wrong"], found["twice"]) == ([], [], [])
