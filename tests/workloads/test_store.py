from __future__ import annotations

import os

import pytest

from workloads.bench import BenchError
from workloads.bench.store import Store

SETTINGS = {"pairs": 2, "seconds": 40.0}


def kept(home, **changes) -> int:
    with Store("loop", SETTINGS | changes, resume=True, home=home) as store:
        return len(store)


@pytest.fixture
def home(tmp_path):
    with Store("loop", SETTINGS, resume=False, home=tmp_path) as store:
        store.save("1-off", {"run": 1})
    return tmp_path


def test_a_run_is_there_for_the_one_who_continues(home) -> None:
    with Store("loop", SETTINGS, resume=True, home=home) as store:
        assert store.continued
        assert store.load("1-off") == {"run": 1}
        assert store.load("1-on") is None


def test_other_settings_or_a_fresh_start_do_not_see_it(home) -> None:
    assert kept(home) == 1
    assert kept(home, seconds=50.0) == 0
    with Store("loop", SETTINGS, resume=False, home=home) as store:
        assert len(store) == 0


def test_a_complete_benchmark_leaves_nothing_to_continue(home) -> None:
    with Store("loop", SETTINGS, resume=True, home=home) as store:
        store.complete()
    assert kept(home) == 0


def test_two_at_once_are_refused_until_the_first_ends(home) -> None:
    with Store("loop", SETTINGS, resume=True, home=home), pytest.raises(BenchError, match="another"):
        Store("loop", SETTINGS, resume=False, home=home).__enter__()
    assert kept(home) == 1


def test_a_spoilt_run_is_named(home) -> None:
    (home / "bench" / "loop" / "1-off.json").write_text("{")
    with Store("loop", SETTINGS, resume=True, home=home) as store, pytest.raises(BenchError, match="1-off.json"):
        store.load("1-off")


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "bench").write_text("a file")
    with pytest.raises(BenchError, match="OWL_HOME"):
        Store("loop", SETTINGS, resume=False, home=tmp_path).__enter__()
    assert os.listdir(tmp_path) == ["bench"]
