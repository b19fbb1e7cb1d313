"""The journal and its audit, which must find what the ledger would never do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rm_agent.harvest import Allocation, Ledger, Step
from rm_agent.journal import ActivationUse, Journal, JournalError, activations, audit, history

OWN = Allocation(500, 256)


def opened(path: Path, *names: str, keep: int = 200_000, dry: bool = False) -> Journal:
    journal = Journal(path, keep)
    journal.begin("harvest", dry)
    for name in names:
        journal.take_charge(f"root/{name}", f"boot:{name}", OWN)
    return journal


def move(journal: Journal, *steps: tuple[str, int, int]) -> None:
    journal.resizes(
        "cpu_millis", [(f"root/{name}", Step(name, before, after)) for name, before, after in steps], "test"
    )


def test_a_loan_and_its_return_conserve(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db", "a", "b")
    move(journal, ("a", 500, 100), ("b", 500, 900))
    move(journal, ("b", 900, 500), ("a", 100, 500))
    found = audit(tmp_path / "j.db")
    assert (found.violations, found.resizes, found.containers, found.sessions) == (0, 4, 2, 1)
    assert found.lent_cpu_millis_s > 0


@pytest.mark.parametrize(
    "steps",
    [
        [("b", 500, 900)],  # nobody shrank
        [("b", 500, 900), ("a", 500, 100)],  # in the wrong order
        [("a", 400, 100)],  # it had 500
        [("a", 500, -1)],
    ],
)
def test_the_audit_finds_what_must_not_be(tmp_path: Path, steps: list[tuple[str, int, int]]) -> None:
    move(opened(tmp_path / "j.db", "a", "b"), *steps)
    found = audit(tmp_path / "j.db")
    assert found.violations >= 1 and found.findings


def test_the_audit_finds_tampered_rows(tmp_path: Path) -> None:
    move(opened(tmp_path / "j.db", "a", "b"), ("a", 500, 100), ("b", 500, 900))
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("UPDATE transitions SET after = 901 WHERE after = 900")
    assert audit(tmp_path / "j.db").violations == 1


def test_a_refused_shrink_undoes_the_grow_that_waited_for_it(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db", "a", "b")
    move(journal, ("a", 500, 100), ("b", 500, 900))
    journal.failed("cpu_millis", [("root/a", Step("a", 500, 100)), ("root/b", Step("b", 500, 900))], "busy")
    move(journal, ("a", 500, 400), ("b", 500, 600))
    assert audit(tmp_path / "j.db").violations == 0


def test_the_own_amount_on_record_outlives_the_agent(tmp_path: Path) -> None:
    opened(tmp_path / "j.db", "a").close()
    journal = opened(tmp_path / "j.db")
    assert journal.take_charge("root/a", "boot:a", Allocation(50, 256)) == OWN
    assert journal.take_charge("root/a", "boot:another", Allocation(50, 256)) == Allocation(50, 256)


def test_dry_sessions_have_books_of_their_own(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db", "a", "b", dry=True)
    move(journal, ("a", 500, 100), ("b", 500, 900))
    assert journal.in_charge() == []
    journal.begin("harvest")
    for name in "ab":
        journal.take_charge(f"root/{name}", f"boot:{name}", OWN)
    move(journal, ("b", 500, 100), ("a", 500, 900))
    assert audit(tmp_path / "j.db").violations == 0
    assert [known.path for known in journal.in_charge()] == ["root/a", "root/b"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(1, 500)), max_size=25),
    st.integers(1, 12),
)
def test_what_the_ledger_does_passes_the_audit_pruned_or_not(
    tmp_path_factory: pytest.TempPathFactory, loans: list[tuple[str, str, int]], keep: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.db"
    journal = opened(path, "a", "b", "c", keep=keep)
    ledger = Ledger()
    for name in "abc":
        ledger.add(name, 500)
    for donor, borrower, amount in loans:
        try:
            ledger.lend(donor, borrower, amount)
        except ValueError:
            for loan in ledger.loans:
                ledger.repay(loan.donor, loan.borrower, loan.amount)
        steps = ledger.steps()
        journal.resizes("cpu_millis", [(f"root/{step.container}", step) for step in steps], "test")
        for step in steps:
            ledger.done(step)
        journal.prune(7)
    found = audit(path)
    journal.close()
    assert found.violations == 0, found.findings
    assert found.transitions <= keep + 60


def test_growth_is_bounded(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db", "a", "b", keep=50)
    for number in range(60):
        move(journal, ("a", 500, 100), ("b", 500, 900))
        move(journal, ("b", 900, 500), ("a", 100, 500))
        journal.add_activations([use(f"{number:032x}")])
    journal.add_records([(f"{number:032x}", "/guest/hello", number, 1, 1, 0, 0) for number in range(90)])
    while journal.prune():
        pass
    found = audit(tmp_path / "j.db")
    assert found.violations == 0 and found.transitions == 50 and found.activations == 50
    assert journal.add_records([("0" * 32, "/guest/hello", 0, 1, 1, 0, 0)]) == 1
    assert journal.add_records([(f"{89:032x}", "/guest/hello", 89, 1, 1, 0, 0)]) == 0


def use(activation: str, **changed: int) -> ActivationUse:
    values = dict(own_cpu=500, min_cpu=500, max_cpu=500, own_memory=256, min_memory=256, max_memory=256) | changed
    return ActivationUse(
        activation,
        "/guest/hello",
        "wsk0_1_guest_hello",
        1.0,
        2.0,
        peak_cpu=400,
        peak_memory=80,
        saturated=False,
        **values,
    )


def test_calls_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db")
    uses = [use("a" * 32), use("b" * 32, min_cpu=100), use("c" * 32, max_memory=300)]
    journal.add_activations(uses)
    assert activations(tmp_path / "j.db") == uses
    assert activations(tmp_path / "j.db", latest=1) == uses[2:]
    found = audit(tmp_path / "j.db")
    assert (found.activations, found.harvested, found.accelerated) == (3, 1, 1)


def test_history_names_one_container_only(tmp_path: Path) -> None:
    move(opened(tmp_path / "j.db", "wsk0_1_a", "wsk0x1_a"), ("wsk0_1_a", 500, 400))
    moves = history(tmp_path / "j.db", "wsk0_1_a")
    assert moves[0].kind == "resize" and moves[0].after == 400
    assert {each.container for each in moves} == {"root/wsk0_1_a"}


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "j.db"), Journal(tmp_path / "j.db")
    assert first.acquire() and not second.acquire()
    first.close()
    assert second.acquire()


def test_what_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        audit(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(JournalError, match="cannot use"):
        Journal(tmp_path / "text.db")
    with pytest.raises(JournalError, match="cannot"):
        Journal(tmp_path / "text.db" / "j.db")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE theirs (a)")
    with pytest.raises(JournalError, match="database of something else"):
        Journal(tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "other.db") as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    opened(tmp_path / "new.db").close()
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="version 99"):
        Journal(tmp_path / "new.db")
    with pytest.raises(JournalError, match="version 99"):
        audit(tmp_path / "new.db")


def test_an_end_that_could_not_be_written_can_be_written_later(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j.db", "a")
    with sqlite3.connect(tmp_path / "j.db", isolation_level=None) as blocker:
        blocker.execute("CREATE TRIGGER full BEFORE INSERT ON transitions BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        with pytest.raises(sqlite3.Error):
            journal.gone("root/a")
        blocker.execute("DROP TRIGGER full")
    journal.gone("root/a")
    assert journal.in_charge() == []
