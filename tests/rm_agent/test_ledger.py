"""The ledger under any sequence of decisions, refusals and disappearances."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rm_agent.harvest import Ledger, Offer, Step, draw

amounts = st.integers(1, 600)


class LedgerMachine(RuleBasedStateMachine):
    """Holds a model of what the kernel enforces, which the ledger must never let grow beyond what is owned."""

    @initialize()
    def start(self) -> None:
        self.ledger = Ledger()
        self.kernel: dict[str, int] = {}
        self.owned: dict[str, int] = {}
        self.count = 0

    def names(self) -> list[str]:
        return sorted(self.kernel)

    @rule(own=st.integers(0, 600))
    def add(self, own: int) -> None:
        name = f"c{self.count}"
        self.count += 1
        self.ledger.add(name, own)
        self.kernel[name] = self.owned[name] = own

    @precondition(lambda self: len(self.kernel) > 1)
    @rule(data=st.data(), amount=amounts)
    def lend(self, data: st.DataObject, amount: int) -> None:
        donor, borrower = data.draw(st.permutations(self.names()))[:2]
        ledger = self.ledger
        possible = (
            amount <= ledger.own[donor] - ledger.lent(donor)
            and not ledger.borrowed(donor)
            and not ledger.lent(borrower)
        )
        if possible:
            ledger.lend(donor, borrower, amount)
        else:
            with pytest.raises(ValueError):
                ledger.lend(donor, borrower, amount)

    @precondition(lambda self: self.ledger.loans)
    @rule(data=st.data(), amount=amounts)
    def repay(self, data: st.DataObject, amount: int) -> None:
        loan = data.draw(st.sampled_from(self.ledger.loans))
        self.ledger.repay(loan.donor, loan.borrower, min(amount, loan.amount))

    @rule(data=st.data())
    def enforce(self, data: st.DataObject) -> None:
        """Take some of the steps; any of them may be refused, and the way may be cut off anywhere."""
        steps = self.ledger.steps()
        for step in steps:
            outcome = data.draw(st.sampled_from(["done", "done", "done", "refused", "stop"]))
            if outcome == "stop":
                return
            assert self.kernel[step.container] == step.before
            if outcome == "refused":
                self.ledger.refused(step)
                return
            self.kernel[step.container] = step.after
            assert sum(self.kernel.values()) <= sum(self.owned.values())
            self.ledger.done(step)

    @rule()
    def settle(self) -> None:
        """With nothing refused, everybody ends with what is due."""
        for step in self.ledger.steps():
            self.kernel[step.container] = step.after
            assert sum(self.kernel.values()) <= sum(self.owned.values())
            self.ledger.done(step)
        assert self.ledger.steps() == []
        if len(self.kernel) == len(self.ledger.own):
            assert all(self.kernel[name] == self.ledger.entitled(name) for name in self.kernel)

    @precondition(lambda self: self.kernel)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.names()))
        self.ledger.close(name)
        # The books treat it as still owning until those who hold what it lent are cut.
        self.kernel.pop(name)
        self.owned[name] -= self.ledger.applied[name]

    @rule()
    def sweep(self) -> None:
        for name in self.ledger.sweep():
            del self.owned[name]

    @rule()
    def restore_everything(self) -> None:
        ledger = self.ledger
        for loan in ledger.loans:
            ledger.repay(loan.donor, loan.borrower, loan.amount)
        self.settle()
        for name in ledger.sweep():
            del self.owned[name]
        assert self.kernel == ledger.own == ledger.applied == self.owned

    @invariant()
    def books_match_the_kernel(self) -> None:
        assert {name: self.ledger.applied[name] for name in self.kernel} == self.kernel

    @invariant()
    def conserves(self) -> None:
        ledger = self.ledger
        assert sum(ledger.applied.values()) <= sum(ledger.own.values())
        assert sum(self.kernel.values()) <= sum(self.owned.values())

    @invariant()
    def loans_are_sound(self) -> None:
        ledger = self.ledger
        for loan in ledger.loans:
            assert loan.amount > 0
            assert ledger.lent(loan.donor) <= ledger.own[loan.donor]
            assert not ledger.borrowed(loan.donor) and not ledger.lent(loan.borrower)

    @invariant()
    def nothing_is_negative(self) -> None:
        assert all(amount >= 0 for amount in self.ledger.applied.values())


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def ledger(**own: int) -> Ledger:
    made = Ledger()
    for name, amount in own.items():
        made.add(name, amount)
    return made


def test_the_donor_shrinks_before_the_borrower_grows() -> None:
    books = ledger(borrower=500, donor=500)
    books.lend("donor", "borrower", 450)
    assert books.steps() == [Step("donor", 500, 50), Step("borrower", 500, 950)]


def test_the_borrower_shrinks_before_its_owner_gets_it_back() -> None:
    books = ledger(donor=500, borrower=500)
    books.lend("donor", "borrower", 450)
    for step in books.steps():
        books.done(step)
    books.repay("donor", "borrower", 450)
    assert books.steps() == [Step("borrower", 950, 500), Step("donor", 50, 500)]


def test_a_refused_shrink_takes_the_dependent_grow_with_it() -> None:
    books = ledger(donor=256, borrower=128)
    books.lend("donor", "borrower", 100)
    books.refused(books.steps()[0])
    assert books.steps() == [] and books.loans == []


def test_a_borrower_that_cannot_shrink_keeps_its_loan() -> None:
    books = ledger(donor=256, borrower=128)
    books.lend("donor", "borrower", 100)
    for step in books.steps():
        books.done(step)
    books.repay("donor", "borrower", 100)
    books.refused(books.steps()[0])
    assert books.steps() == [] and books.lent("donor") == 100 and books.applied == {"donor": 156, "borrower": 228}


def test_a_step_that_would_give_out_more_than_is_owned_is_an_error() -> None:
    books = ledger(a=100)
    with pytest.raises(ValueError, match="conservation"):
        books.done(Step("a", 100, 101))


def test_offers_are_drawn_from_the_latest_end_first() -> None:
    offers = [Offer("soon", 100, 5.0), Offer("idle", 60, float("inf")), Offer("late", 100, 9.0)]
    assert draw(offers, 200) == [("idle", 60), ("late", 100), ("soon", 40)]


def test_the_largest_idle_donor_is_drawn_first() -> None:
    offers = [Offer("small", 50, float("inf")), Offer("large", 400, float("inf"))]
    assert draw(offers, 300) == [("large", 300)]
