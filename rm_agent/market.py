"""Carries out decisions on one resource: books them in the ledger, journals them, writes them to the containers."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable

from rm_agent.actuators import Actuator, ActuatorError, ContainerGone
from rm_agent.harvest import Ledger, Offer, Step, draw
from rm_agent.journal import Journal

log = logging.getLogger(__name__)


class Market:
    """Loans of one resource between the containers of a node. Thread-safe.

    ``changed(name, amount)`` is called after each write. ``floor(name)`` is the least amount that a borrower can be
    cut to without harm (its memory in use, with a margin). ``willing(offer)`` is asked under the lock whether an
    offer still stands, so that a container that just started a call is not taken for idle.
    """

    def __init__(
        self,
        resource: str,
        actuator: Actuator,
        journal: Journal,
        changed: Callable[[str, int], None],
        floor: Callable[[str], int],
        willing: Callable[[Offer], bool],
    ) -> None:
        self.resource = resource
        self.failures = 0
        self._actuator = actuator
        self._journal = journal
        self._changed = changed
        self._floor = floor
        self._willing = willing
        self._ledger = Ledger()
        self._paths: dict[str, str] = {}
        self._short: dict[str, int] = {}
        # What the journal says of each container, once that differs from the truth because it cannot be written.
        self._recorded: dict[str, int] | None = None
        self._lock = threading.Lock()

    def add(self, name: str, path: str, own: int) -> None:
        with self._lock:
            self._ledger.add(name, own)
            self._paths[name] = path

    def holds(self, name: str) -> bool:
        """It is in the books, perhaps only because others still hold what it lent."""
        return name in self._ledger.own

    def amounts(self, name: str) -> tuple[int, int]:
        """(own, applied)"""
        return self._ledger.own.get(name, 0), self._ledger.applied.get(name, 0)

    def loans(self) -> list[tuple[str, str, int]]:
        """(donor, borrower, amount), oldest first."""
        with self._lock:
            return [(loan.donor, loan.borrower, loan.amount) for loan in self._ledger.loans]

    def untouched(self, name: str) -> bool:
        """No loan concerns it, so that what is enforced is what the platform set."""
        ledger = self._ledger
        with self._lock:
            if name not in ledger.own or ledger.lent(name) or ledger.borrowed(name):
                return False
            return ledger.applied[name] == ledger.own[name]

    def change_own(self, name: str, own: int) -> bool:
        """Follow the platform; ``False`` when a loan was made meanwhile."""
        with self._lock:
            try:
                self._ledger.change_own(name, own)
            except (ValueError, KeyError):
                return False
            return True

    def recall(self, name: str, keep: int, reason: str) -> int:
        """Give a donor back what it lacks to ``keep``. Returns what it still lacks, which borrowers hold in use."""
        with self._lock:
            ledger = self._ledger
            if name not in ledger.own:
                return 0
            missing = min(keep, ledger.own[name]) - ledger.entitled(name)
            holders = []
            # The latest loan was drawn from this donor when others had no more to give: it goes first.
            for loan in reversed([loan for loan in ledger.loans if loan.donor == name]):
                if missing <= 0:
                    break
                part = min(missing, loan.amount, self._free(loan.borrower))
                if part > 0:
                    ledger.repay(name, loan.borrower, part)
                    missing -= part
                if missing > 0:
                    holders.append(loan.borrower)
            self._settle(reason)
            missing = min(keep, ledger.own.get(name, 0)) - ledger.applied.get(name, 0)
            self._tell_short(name, max(0, missing), holders)
            return max(0, missing)

    def release(self, name: str, ceiling: int, reason: str) -> None:
        """Return what a borrower has beyond ``ceiling``, as far as it does not hold it in use."""
        with self._lock:
            ledger = self._ledger
            if name not in ledger.own:
                return
            excess = min(ledger.entitled(name) - max(ceiling, ledger.own[name]), self._free(name))
            for loan in reversed([loan for loan in ledger.loans if loan.borrower == name]):
                part = min(excess, loan.amount)
                if part <= 0:
                    break
                ledger.repay(loan.donor, name, part)
                excess -= part
            self._settle(reason)

    def borrow(self, name: str, want: int, offers: Iterable[Offer], reason: str) -> int:
        """Grow a container towards ``want`` with what others offer; returns what it has then."""
        with self._lock:
            ledger = self._ledger
            if name not in ledger.own or ledger.lent(name):
                return ledger.applied.get(name, 0)
            if self._recorded is not None and not self._record_again():
                return ledger.applied[name]
            standing = [
                offer
                for offer in offers
                if offer.donor != name
                and offer.donor in ledger.own
                and offer.amount <= ledger.own[offer.donor] - ledger.lent(offer.donor)
                and not ledger.borrowed(offer.donor)
                and self._willing(offer)
            ]
            for donor, amount in draw(standing, want - ledger.entitled(name)):
                ledger.lend(donor, name, amount)
            self._settle(reason)
            return ledger.applied.get(name, 0)

    def close(self, name: str) -> None:
        """The container is gone: whoever borrowed from it is cut."""
        with self._lock:
            if name in self._ledger.own:
                self._ledger.close(name)
                self._settle(f"{name} is gone")

    def sweep(self) -> None:
        """Call in again what vanished containers had lent, and drop those whose amounts are all back."""
        with self._lock:
            self._settle("a container that lent is gone")
            for name in self._ledger.sweep():
                del self._paths[name]
                self._short.pop(name, None)

    def _free(self, borrower: str) -> int:
        return max(0, self._ledger.entitled(borrower) - max(self._floor(borrower), self._ledger.own[borrower]))

    def _settle(self, reason: str) -> None:
        refused: set[str] = set()
        while steps := [step for step in self._ledger.steps() if step.shrinks or step.container not in refused]:
            if not self._record(steps, reason):
                continue  # there are other steps now
            for index, step in enumerate(steps):
                problem = self._write(step)
                if problem is None:
                    continue
                self._record_failure(steps[index:], problem)
                if isinstance(problem, ContainerGone):
                    self._ledger.close(step.container)
                else:
                    self.failures += 1
                    log.warning("%s of %s stays at %d: %s", self.resource, step.container, step.before, problem)
                    self._ledger.refused(step)
                    refused.add(step.container)
                break
            else:
                return

    def _write(self, step: Step) -> ActuatorError | None:
        try:
            self._actuator.apply(self._paths[step.container], self.resource, step.after)
        except ActuatorError as problem:
            return problem
        self._ledger.done(step)
        self._changed(step.container, step.after)
        return None

    def _record(self, steps: list[Step], reason: str) -> bool:
        if self._recorded is not None:
            return True
        try:
            self._journal.resizes(self.resource, self._with_paths(steps), reason)
        except sqlite3.Error as error:
            # What is not on record must not be lent: every owner gets its own back, and that is recorded later.
            log.error("the journal cannot be written (%s): all %s goes back to its owners", error, self.resource)
            self._recorded = dict(self._ledger.applied)
            for loan in self._ledger.loans:
                self._ledger.repay(loan.donor, loan.borrower, loan.amount)
            return False
        return True

    def _record_failure(self, steps: list[Step], problem: ActuatorError) -> None:
        if self._recorded is None:
            try:
                self._journal.failed(self.resource, self._with_paths(steps), str(problem))
            except sqlite3.Error:
                self._recorded = self._ledger.applied | {step.container: step.after for step in steps}

    def _record_again(self) -> bool:
        ledger = self._ledger
        if ledger.applied != ledger.own:
            self._settle("the journal cannot be written")
            return False
        try:
            recorded = self._recorded or {}
            # The borrowers on record first, so that the rows conserve one by one.
            names = sorted(ledger.own, key=lambda name: ledger.own[name] - recorded.get(name, 0))
            owns = [(self._paths[name], ledger.own[name]) for name in names]
            self._journal.settled(self.resource, owns, "the journal can be written again")
        except sqlite3.Error:
            return False
        self._recorded = None
        return True

    def _tell_short(self, name: str, missing: int, holders: list[str]) -> None:
        if missing == self._short.get(name, 0):
            return
        self._short[name] = missing
        if missing and name in self._ledger.own:
            has, own = self._ledger.applied[name], self._ledger.own[name]
            reason = f"cannot be restored now: {', '.join(holders) or 'a borrower'} holds {missing} of it in use"
            log.warning("%s of %s %s", self.resource, name, reason)
            try:
                self._journal.note(self._paths[name], self.resource, has, own, reason)
            except sqlite3.Error as error:
                log.error("the journal cannot be written: %s", error)

    def _with_paths(self, steps: list[Step]) -> list[tuple[str, Step]]:
        return [(self._paths[step.container], step) for step in steps]
