from __future__ import annotations

import json
from dataclasses import asdict
from html.parser import HTMLParser

import pytest

from tests.workloads.runs import RESOURCES, pair_of_runs
from workloads.bench.compare import Run, figures
from workloads.bench.document import document, write
from workloads.report import render, write_report


def make(runs: list[Run]) -> dict:
    values, intervals = figures(runs, 120.0, 400.0)
    settings = {"pairs": len(runs) // 2, "seconds": 30.0, "load": 0.35, "resources": RESOURCES}
    samples = {
        "runs": [run.to_json() for run in runs],
        "intervals": {key: asdict(one) for key, one in intervals.items()},
    }
    return document("loop", settings, values, samples)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.plots: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for key in ("src", "href", "xlink:href") if (value := found.get(key))]
        if tag == "svg":
            self.plots.append(found["data-plot"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(make(pair_of_runs(1, speed=0.5) + pair_of_runs(2, speed=0.5))))


def test_it_needs_nothing_from_elsewhere(page: Page) -> None:
    assert page.plots == ["speed", "functions", "timeline", "arrivals"]
    assert all(link.startswith(("#", "data:")) for link in page.links)


def test_headlines_definitions_and_functions_are_there(page: Page) -> None:
    text = " ".join(page.words)
    for expected in ("mean completion time", "donor_p99_slowdown", "image recognition", "95 % interval", "120"):
        assert expected in text


def test_failures_are_shown_and_cannot_inject_markup() -> None:
    runs = pair_of_runs()
    runs[0].invocations[0].status, runs[0].invocations[0].error = "refused", "<script>alert(1)</script>"
    text = render(make(runs))
    assert "&lt;script&gt;alert(1)" in text and "<script>" not in text


def test_a_run_in_which_nothing_was_lent_has_a_report_too(tmp_path) -> None:
    runs = pair_of_runs()
    for call in runs[1].invocations:
        call.use = None
    runs[1].timeline = []
    result = make(runs)
    saved = tmp_path / "loop.json"
    write(saved, result)
    read = json.loads(saved.read_text())
    assert read["figures"]["donor_p99_slowdown"] is None
    assert write_report(read, tmp_path / "new" / "folder").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "new" / "folder" / "loop.json").read_text())["figures"] == read["figures"]


def test_ids_of_the_plots_do_not_clash(page: Page) -> None:
    text = render(make(pair_of_runs()))
    ids = [part.split('"', 1)[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
