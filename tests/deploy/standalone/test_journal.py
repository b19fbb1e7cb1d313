"""What the journal promises: whatever was accepted is found after a crash, however little was written since."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.standalone.journal import Journal, read

SMALL = 4096
TEXTS = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=60)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path, SMALL)
    yield opened
    opened.close()


def name(number: int) -> str:
    return f"{number:032x}"


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_is_accepted_and_finished_is_found_while_the_writer_lives(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(1), "one")
    journal.accept(name(2), "two")
    assert journal.finish(name(1), "ONE")
    found = read(tmp_path)
    assert found.unfinished == {name(2): "two"}
    assert found.finished == {name(1): "ONE"}
    assert found.last_write_ms > 0


def test_closed_and_settled_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(1), "one")
    journal.finish(name(1), "ONE")
    journal.settle([name(1)])
    journal.close()
    assert files(tmp_path) == []


def test_closed_and_not_settled_is_kept(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(1), "one")
    journal.finish(name(1), "ONE")
    journal.close()
    assert read(tmp_path).finished == {name(1): "ONE"}
    with pytest.raises(OSError, match="stopping"):
        journal.accept(name(2), "two")
    assert not journal.finish(name(3), "three")


def test_its_size_is_that_of_what_is_not_settled(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(0), "runs for long")
    for number in range(1, 500):
        journal.accept(name(number), "x" * 50)
        journal.finish(name(number), "y" * 500)
        journal.settle([name(number)])
    assert len(files(tmp_path)) <= 3
    assert read(tmp_path).unfinished == {name(0): "runs for long"}
    journal.finish(name(0), "ended")
    assert read(tmp_path).finished[name(0)] == "ended"


def test_an_entry_larger_than_a_segment(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(1), "one")
    assert journal.finish(name(1), "x" * 3 * SMALL)
    journal.accept(name(2), "two")
    found = read(tmp_path)
    assert found.finished == {name(1): "x" * 3 * SMALL}
    assert found.unfinished == {name(2): "two"}


def test_the_next_journal_leaves_the_files_of_the_last_alone(journal: Journal, tmp_path: Path) -> None:
    journal.accept(name(1), "one")
    journal.close()
    second = Journal(tmp_path, SMALL)
    second.accept(name(2), "two")
    assert read(tmp_path).unfinished == {name(1): "one", name(2): "two"}
    second.close()


def test_reading_is_undisturbed_by_what_is_no_journal(tmp_path: Path) -> None:
    assert read(tmp_path / "none").files == []
    (tmp_path / "00000001.log").touch()
    (tmp_path / "00000002.log").write_bytes(os.urandom(10_000))
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "00000003.log").mkdir()
    found = read(tmp_path)
    assert (found.unfinished, found.finished) == ({}, {})
    found.clear()
    assert files(tmp_path) == ["00000003.log", "notes.txt"]


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    numbers = itertools.count()
    left = threading.Lock(), set()

    def work() -> None:
        choose = random.Random(threading.get_ident())
        for number in itertools.islice(numbers, 300):
            journal.accept(name(number), f"accepted {number}")
            if choose.random() < 0.9:
                journal.finish(name(number), f"finished {number}" + "." * choose.randrange(200))
            if choose.random() < 0.8:
                journal.settle([name(number)])
            else:
                with left[0]:
                    left[1].add(name(number))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(tmp_path)
    assert left[1] <= found.unfinished.keys() | found.finished.keys()
    assert all(text.startswith(f"accepted {int(key, 16)}") for key, text in found.unfinished.items())
    assert all(text.startswith(f"finished {int(key, 16)}") for key, text in found.finished.items())
    journal.close()


@given(entries=st.lists(st.tuples(TEXTS, TEXTS | st.none()), min_size=1, max_size=6), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_beginning_of_any_interleaving_of_its_lines_is_read(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, 1 << 16)
    order = data.draw(st.permutations(range(len(entries))))
    for number in order:
        journal.accept(name(number), entries[number][0])
    for number in data.draw(st.permutations(range(len(entries)))):
        if entries[number][1] is not None:
            journal.finish(name(number), entries[number][1])
    (file,) = {file for file in folder.iterdir() if file.read_bytes().strip(b"\0")}
    written = file.read_bytes()
    lines = [line + b"\n" for line in written.rstrip(b"\0").split(b"\n")[:-1]]
    journal.close()
    # Each line has its place; a killed server has written any part of each, from its start.
    kept = [data.draw(st.sampled_from([0, len(line) // 2, len(line) - 1, len(line), len(line)])) for line in lines]
    file.write_bytes(b"".join(line[:n].ljust(len(line), b"\0") for line, n in zip(lines, kept, strict=True)))
    found = read(folder)
    # Without its line break a line is whole all the same: what follows it is zeros.
    whole = {line[8:41].decode() for line, n in zip(lines, kept, strict=True) if n >= len(line) - 1}
    finished = {key[1:]: entries[int(key[1:], 16)][1] for key in whole if key.startswith("F")}
    accepted = {key[1:]: entries[int(key[1:], 16)][0] for key in whole if key.startswith("A")}
    assert found.finished == finished
    assert found.unfinished == {key: text for key, text in accepted.items() if key not in finished}
