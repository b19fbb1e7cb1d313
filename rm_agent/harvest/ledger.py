"""The ledger of one resource on one node: own amounts, loans, and what is enforced right now.

Two views are kept apart. *Entitled* is what a container should have: its own, minus what it lends, plus what it
borrows. *Applied* is what the last successful write to the container says. :meth:`Ledger.steps` leads from the
second to the first, every shrink before any grow, so that the sum of what is applied never exceeds the sum of what
is owned, at any point of the way and wherever the way is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Step(NamedTuple):
    """One write to one container."""

    container: str
    before: int
    after: int

    @property
    def shrinks(self) -> bool:
        return self.after < self.before


@dataclass(slots=True)
class Loan:
    donor: str
    borrower: str
    amount: int


class Ledger:
    """Loans of one resource. Amounts are non-negative integers; methods raise ``ValueError`` on impossible ones.

    No container lends and borrows at the same time. Not thread-safe: the caller holds a lock around a decision
    and the steps that enforce it.
    """

    def __init__(self) -> None:
        self.own: dict[str, int] = {}
        self.applied: dict[str, int] = {}
        self._loans: dict[tuple[str, str], int] = {}
        self._closed: set[str] = set()

    @property
    def loans(self) -> list[Loan]:
        """Open loans, oldest first."""
        return [Loan(donor, borrower, amount) for (donor, borrower), amount in self._loans.items()]

    def lent(self, name: str) -> int:
        return sum(amount for (donor, _), amount in self._loans.items() if donor == name)

    def borrowed(self, name: str) -> int:
        return sum(amount for (_, borrower), amount in self._loans.items() if borrower == name)

    def entitled(self, name: str) -> int:
        return self.own[name] - self.lent(name) + self.borrowed(name)

    def add(self, name: str, own: int) -> None:
        """A container with its own amount, which is also what is enforced."""
        if name in self.own:
            raise ValueError(f"{name} is in the ledger already")
        if own < 0:
            raise ValueError("an own amount is not negative")
        self.own[name] = self.applied[name] = own

    def change_own(self, name: str, own: int) -> None:
        """The platform gave a container without loans another limit."""
        if own < 0 or self.lent(name) or self.borrowed(name) or self.applied[name] != self.own[name]:
            raise ValueError(f"{name} has loans: its own amount cannot change now")
        self.own[name] = self.applied[name] = own

    def lend(self, donor: str, borrower: str, amount: int) -> None:
        """Book a loan; :meth:`steps` then shrinks the donor and grows the borrower."""
        if donor == borrower or donor not in self.own or borrower not in self.own:
            raise ValueError(f"no loan from {donor} to {borrower}")
        if donor in self._closed or borrower in self._closed:
            raise ValueError("a container that is gone neither lends nor borrows")
        if amount <= 0 or amount > self.own[donor] - self.lent(donor):
            raise ValueError(f"{donor} cannot lend {amount}")
        if self.borrowed(donor) or self.lent(borrower):
            raise ValueError("no container lends and borrows at the same time")
        self._loans[donor, borrower] = self._loans.get((donor, borrower), 0) + amount

    def repay(self, donor: str, borrower: str, amount: int) -> None:
        """Undo a part of a loan or all of it; :meth:`steps` then shrinks the borrower and grows the donor."""
        held = self._loans.get((donor, borrower), 0)
        if not 0 < amount <= held:
            raise ValueError(f"{borrower} owes {donor} {held}, not {amount}")
        if amount == held:
            del self._loans[donor, borrower]
        else:
            self._loans[donor, borrower] = held - amount

    def steps(self) -> list[Step]:
        """The writes still to be done, in order. Grows are cut to what the shrinks before them set free."""
        shrinks, grows = [], []
        room = sum(self.own.values()) - sum(self.applied.values())
        for name, applied in self.applied.items():
            if name in self._closed:
                continue
            entitled = self.entitled(name)
            if entitled < applied:
                shrinks.append(Step(name, applied, entitled))
                room += applied - entitled
            elif entitled > applied:
                grows.append(Step(name, applied, entitled))
        # Owners get their own back before borrowers get more than theirs.
        grows.sort(key=lambda step: step.before >= self.own[step.container])
        steps = shrinks
        for step in grows:
            part = min(step.after - step.before, room)
            if part > 0:
                steps.append(Step(step.container, step.before, step.before + part))
                room -= part
        return steps

    def done(self, step: Step) -> None:
        """The write succeeded."""
        if self.applied.get(step.container) != step.before:
            raise ValueError(f"{step} does not start at what is applied")
        if sum(self.applied.values()) + step.after - step.before > sum(self.own.values()):
            raise ValueError(f"{step} would break conservation")
        self.applied[step.container] = step.after

    def refused(self, step: Step) -> None:
        """The kernel refused the write: the loans are corrected to what is enforced.

        A donor that cannot shrink lends less. A borrower that cannot shrink keeps its loan from those who wait for
        it. A borrower that cannot grow gives the loan up; an owner that cannot grow stays entitled and
        :meth:`steps` names it again.
        """
        name = step.container
        if step.shrinks:
            excess = self.applied[name] - self.entitled(name)
            excess -= self._cancel([key for key in self._loans if key[0] == name], excess)
            for waiting in sorted(self.applied, key=lambda other: self.borrowed(other) > 0):
                excess -= self._owe(waiting, name, excess)
        else:
            self._cancel([key for key in self._loans if key[1] == name], self.entitled(name) - self.applied[name])

    def close(self, name: str) -> None:
        """The container is gone. It stays in the books until nobody holds what it lent; see :meth:`sweep`."""
        for donor, borrower in [key for key in self._loans if name in key]:
            del self._loans[donor, borrower]
        self.applied[name] = min(self.applied[name], self.own[name])
        self._closed.add(name)

    def sweep(self) -> list[str]:
        """Drop the closed containers whose amounts are all back; returns their names."""
        dropped = []
        for name in sorted(self._closed):
            # A borrower that could not shrink owes it to the closed container: ask for it again.
            for key in [key for key in self._loans if key[0] == name]:
                del self._loans[key]
            free = sum(self.own.values()) - sum(self.applied.values())
            if self.own[name] - self.applied[name] <= free:
                del self.own[name], self.applied[name]
                self._closed.discard(name)
                dropped.append(name)
        return dropped

    def _cancel(self, keys: list[tuple[str, str]], amount: int) -> int:
        cancelled = 0
        for donor, borrower in reversed(keys):
            part = min(self._loans[donor, borrower], amount - cancelled)
            if part > 0:
                self.repay(donor, borrower, part)
                cancelled += part
        return cancelled

    def _owe(self, waiting: str, holder: str, amount: int) -> int:
        """Book up to ``amount`` that ``holder`` cannot give back against what ``waiting`` is short of."""
        amount = min(amount, self.entitled(waiting) - self.applied[waiting])
        if waiting == holder or amount <= 0:
            return 0
        left = amount
        for donor, borrower in [key for key in self._loans if key[1] == waiting]:
            part = min(self._loans[donor, borrower], left)
            if part > 0:
                self.repay(donor, borrower, part)
                self._loans[donor, holder] = self._loans.get((donor, holder), 0) + part
                left -= part
        if left > 0:
            self._loans[waiting, holder] = self._loans.get((waiting, holder), 0) + left
        return amount
