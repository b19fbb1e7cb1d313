"""Each function does its work for real, at its smallest sizes."""

from __future__ import annotations

import email
import math
import os
import random
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path

import pytest

from workloads.functions.catalog import CATALOG, warm_params
from workloads.inputs import CLIPS, GENOMES, PAGES, PHOTOS, VIDEOS


class Rows(HTMLParser):
    """Counts the rows of orders in a page and the tags left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr" and "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_dynamic_html_renders_every_row_and_escapes(call):
    params = {"rows": 12, "seed": 3, "customer": "<Ada & Co>", "preview": True}
    first, again, other = call("dynamic_html", params, params, {**params, "seed": 4})
    rows = Rows(first["page"])
    assert rows.open == []
    assert rows.ids == [f"order-{number}" for number in range(1, 13)]
    assert "&lt;Ada &amp; Co&gt;" in first["page"] and "<Ada" not in first["page"]
    assert first["bytes"] == len(first["page"].encode())
    assert first == again and first["sha256"] != other["sha256"]


def test_email_generation_writes_messages_that_parse(call):
    params = {"recipients": 3, "seed": 1, "preview": True}
    first, again = call("email_generation", params, params)
    assert first == again and first["messages"] == 3
    message = email.message_from_bytes(first["first"].encode(), policy=default)
    person = message["To"].addresses[0]
    assert person.addr_spec == "customer1@owl.example"
    assert person.display_name in message["Subject"]
    assert f"Dear {person.display_name}," in message.get_body(("plain",)).get_content()
    assert message.get_body(("html",)) is not None
    (statement,) = message.iter_attachments()
    assert statement.get_filename() == "statement.csv" and len(statement.get_content().splitlines()) == 6


def test_image_processing_makes_all_variants(call, inputs: Path):
    params = {"image": (inputs / PHOTOS[0]).as_uri(), "thumbnail": 100, "angle": 90, "blur": 8}
    first, again = call("image_processing", params, params)
    assert first == again
    assert (first["width"], first["height"]) == (800, 534)
    outputs = first["outputs"]
    assert (outputs["thumbnail"]["width"], outputs["thumbnail"]["height"]) == (100, 67)
    assert (outputs["rotated"]["width"], outputs["rotated"]["height"]) == (534, 800)
    assert outputs["blurred"]["bytes"] < outputs["sharpened"]["bytes"], "less detail takes fewer bytes"
    assert outputs["blurred"]["mean"] == pytest.approx(outputs["rotated"]["mean"], abs=1)
    assert len({output["sha256"] for output in outputs.values()}) == len(outputs) == 7


def test_video_processing_makes_playable_clips(call, inputs: Path):
    video = str(inputs / VIDEOS[0])
    width, height, seconds = CLIPS["short"]
    scale = {"video": video, "operation": "scale", "height": 64}
    scaled, again, marked, plain = call(
        "video_processing", scale, scale, {"video": video, "operation": "watermark"}, {"video": video}
    )
    assert scaled == again
    assert (scaled["height"], scaled["seconds"]) == (64, seconds)
    assert scaled["width"] == pytest.approx(64 * width / height, abs=2)
    assert (marked["width"], marked["height"], marked["fps"]) == (width, height, 25)
    assert marked["sha256"] != plain["sha256"]
    assert scaled["bytes"] < plain["bytes"] < plain["source_bytes"]


def test_image_recognition_reads_the_rendered_words(call, inputs: Path):
    (result,) = call("image_recognition", {"image": (inputs / PAGES[0]).as_uri()})
    expected = (inputs / PAGES[0]).with_suffix(".txt").read_text().splitlines()
    # The network finds every letter but not always the space between two words.
    assert [line.replace(" ", "") for line in result["text"]] == [line.replace(" ", "") for line in expected]
    assert result["lines"] == len(expected) and result["confidence"] > 0.9


def test_image_recognition_finds_no_text_on_an_empty_page(call, cache: Path):
    from PIL import Image

    blank = cache / "blank.png"
    Image.new("RGB", (1600, 400), "white").save(blank)
    (result,) = call("image_recognition", {"image": str(blank)})
    blank.unlink()
    assert result == {"width": 768, "height": 192, "lines": 0, "confidence": 0.0, "text": []}


def test_k_nearest_neighbours_recognises_unseen_digits(call):
    params = {"samples": 2000, "queries": 200, "neighbours": 3, "seed": 5}
    first, again = call("k_nearest_neighbours", params, params)
    assert first == again
    assert first["accuracy"] > 0.9
    assert sum(first["predicted"]) == 200


def test_arithmetic_agrees_with_the_exact_integrals(call):
    coarse, fine = call("arithmetic", {"steps": 2}, {"steps": 2000})
    assert fine["values"] == pytest.approx({"pi": math.pi, "sine": 2, "gauss": math.sqrt(math.pi)}, abs=1e-9)
    assert fine["largest_error"] < 1e-9 < coarse["largest_error"]


def test_merge_sort_sorts(call):
    rng = random.Random(2)
    numbers = [rng.randint(-50, 50) for _ in range(301)] + [0.5, -0.5]
    own, drawn, again = call("merge_sort", {"numbers": numbers}, {"count": 5000, "seed": 9}, {"count": 5000, "seed": 9})
    assert own["numbers"] == sorted(numbers)
    expected = random.Random(9)
    values = sorted(expected.randrange(1_000_000_000) for _ in range(5000))
    assert drawn == again
    assert drawn == {
        "count": 5000,
        "smallest": values[0],
        "median": values[2500],
        "largest": values[-1],
        "sum": sum(values),
        "sorted": True,
    }


def test_gradient_descent_learns(call):
    params = {"samples": 1000, "epochs": 60, "seed": 1}
    first, again, longer = call("gradient_descent", params, params, {**params, "epochs": 200})
    assert first == again
    assert first["first_loss"] == pytest.approx(math.log(10), abs=1e-3), "ten equally likely classes"
    assert longer["last_loss"] < first["last_loss"] < 1
    assert longer["accuracy"] > 0.9


def test_dna_visualisation_counts_and_draws(call, cache: Path):
    small = cache / "small.fasta"
    small.write_text(">test\nGGGG\nacgt\nNTTTTTT\n")
    params = {"sequence": small.as_uri(), "width": 64, "height": 64}
    first, again = call("dna_visualisation", params, params)
    small.unlink()
    assert first == again
    assert first["bases"] == 15 and first["counts"] == {"A": 1, "C": 1, "G": 5, "T": 7, "N": 1}
    assert first["words"] == 1, "all words but the first contain the unknown base"
    assert (first["highest"], first["lowest"], first["end"]) == (5.0, -2.0, -2.0)


def test_dna_visualisation_of_a_genome(call, inputs: Path):
    (result,) = call("dna_visualisation", {"sequence": str(inputs / GENOMES[0])})
    assert result["bases"] == sum(result["counts"].values()) == int(GENOMES[0][-13:-6])
    gc = (result["counts"]["G"] + result["counts"]["C"]) / result["bases"]
    assert 0.48 < gc < 0.54, "that of Escherichia coli is 0.51"


WRONG = {
    "dynamic_html": [({"rows": 0}, "rows must be a whole number from 1 to 4000"), ({"customer": 7}, "customer must be")],
    "email_generation": [({"recipients": "5"}, "recipients must be a whole number"), ({"seed": -1}, "seed must be")],
    "arithmetic": [({"steps": 3}, "even"), ({"steps": 1e9}, "steps must be"), ({"steps": True}, "steps must be")],
    "merge_sort": [
        ({"numbers": ["a"]}, "numbers only"),
        ({"numbers": []}, "1 to 1000"),
        ({"count": 10**7}, "count must be"),
    ],
    "k_nearest_neighbours": [({"neighbours": 0}, "neighbours must be"), ({"samples": None}, "samples must be")],
    "gradient_descent": [({"learning_rate": -1}, "learning_rate must be"), ({"epochs": 0}, "epochs must be")],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters_are_a_clear_error(name: str, call):
    results = call(name, *(params for params, _ in WRONG[name]))
    for result, (_, message) in zip(results, WRONG[name]):
        assert list(result) == ["error"] and message in result["error"]


FILE_FUNCTIONS = {
    "image_processing": ("image", {"blur": 0}, "blur must be", "not a readable image"),
    "video_processing": ("video", {"operation": "rewind"}, "operation must be one of", "not a readable video"),
    "image_recognition": ("image", {"image": 7}, "image must be the path", "not a readable image"),
    "dna_visualisation": ("sequence", {"width": 1}, "width must be", "is not a FASTA file"),
}


@pytest.mark.parametrize("name", FILE_FUNCTIONS)
def test_files_that_are_missing_foreign_or_of_the_wrong_kind_are_a_clear_error(name: str, call, cache: Path):
    key, wrong, wrong_message, unreadable = FILE_FUNCTIONS[name]
    junk, link = cache / "junk.bin", cache / "link"
    junk.write_bytes(os.urandom(2000))
    link.symlink_to("/etc/passwd")
    try:
        results = call(
            name,
            wrong,
            {},
            {key: str(cache / "absent file.png")},
            {key: "/etc/passwd"},
            {key: f"file://{cache}/../../../../../../etc/passwd"},
            {key: str(link)},
            {key: str(cache)},
            {key: junk.as_uri()},
        )
    finally:
        junk.unlink()
        link.unlink()
    outside = "must lie inside the cache or data folder"
    expected = [wrong_message, f"{key} must be", "no readable file 'absent file.png'", *[outside] * 3, "no readable file"]
    for result, message in zip(results, [*expected, unreadable], strict=True):
        assert list(result) == ["error"] and message in result["error"]


@pytest.mark.parametrize("name", CATALOG)
def test_the_call_that_warms_a_container_succeeds(name: str, call, inputs: Path):
    (result,) = call(name, warm_params(name, inputs))
    assert "error" not in result
