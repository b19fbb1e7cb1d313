"""Loans carried out on real control groups, and what the kernel refuses."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from rm_agent.actuators.cgroup import CgroupActuator
from rm_agent.cgroup import Cgroup
from rm_agent.harvest import Offer
from rm_agent.journal import Journal, audit, history
from rm_agent.market import Market
from tests.rm_agent.conftest import Node

pytestmark = pytest.mark.root


class Bench:
    def __init__(self, node: Node, folder: Path, resource: str) -> None:
        self.path = folder / "journal.db"
        self.actuator = CgroupActuator(node.driver)
        self.journal = Journal(self.path)
        self.journal.begin("harvest")
        self.floors: dict[str, int] = {}
        self.market = Market(
            resource,
            self.actuator,
            self.journal,
            changed=lambda name, amount: None,
            floor=lambda name: self.floors.get(name, 0),
            willing=lambda offer: True,
        )

    def add(self, *groups: Cgroup) -> None:
        for group in groups:
            own = self.actuator.read(group.path)
            self.journal.take_charge(group.path, self.actuator.identity(group.path), own)
            self.market.add(group.name, group.path, getattr(own, self.market.resource))


def offer(group: Cgroup, amount: int) -> list[Offer]:
    return [Offer(group.name, amount, math.inf)]


def test_memory_in_use_is_not_taken_and_not_lent(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, "memory_mib")
    donor, borrower = node.container("donor", memory=128), node.container("borrower", memory=64)
    bench.add(donor, borrower)
    node.holder(donor, 90)
    assert bench.market.borrow("borrower", 164, offer(donor, 100), "test") == 64
    assert (donor.get_memory(), borrower.get_memory()) == (128, 64)
    assert bench.market.loans() == [] and bench.market.failures == 1
    assert audit(bench.path).violations == 0 and donor.usage().oom_kills == 0


def test_a_borrower_is_not_cut_below_what_it_uses(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, "memory_mib")
    donor, borrower = node.container("donor", memory=128), node.container("borrower", memory=64)
    bench.add(donor, borrower)
    assert bench.market.borrow("borrower", 144, offer(donor, 80), "test") == 144
    holder = node.holder(borrower, 100)
    bench.floors["borrower"] = 130
    assert bench.market.recall("donor", 128, "its owner has a call") == 66
    assert (donor.get_memory(), borrower.get_memory()) == (62, 130)
    assert history(bench.path, donor.path)[0].kind == "note"
    holder.kill()
    holder.wait()
    bench.floors.clear()
    assert bench.market.recall("donor", 128, "its owner has a call") == 0
    assert (donor.get_memory(), borrower.get_memory()) == (128, 64)
    assert borrower.usage().oom_kills == 0 and audit(bench.path).violations == 0


def test_a_donor_that_is_gone_is_found_out_when_it_is_written_to(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, "cpu_millis")
    donor, borrower = node.container("donor"), node.container("borrower")
    bench.add(donor, borrower)
    donor.remove()
    assert bench.market.borrow("borrower", 900, offer(donor, 400), "test") == 500
    bench.market.sweep()
    assert not bench.market.holds("donor") and borrower.get_cpu() == 500
    assert audit(bench.path).violations == 0


def test_without_a_journal_nothing_is_lent_and_owners_get_theirs_back(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, "cpu_millis")
    donor, borrower, other = (node.container(name) for name in ("donor", "borrower", "other"))
    bench.add(donor, borrower, other)
    bench.market.borrow("borrower", 700, offer(donor, 200), "test")
    with sqlite3.connect(bench.path, isolation_level=None) as blocker:
        blocker.execute("CREATE TRIGGER full BEFORE INSERT ON transitions BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        assert bench.market.borrow("borrower", 900, offer(donor, 200), "test") == 500
        assert [group.get_cpu() for group in (donor, borrower, other)] == [500, 500, 500]
        assert bench.market.borrow("borrower", 900, offer(donor, 200), "test") == 500
        blocker.execute("DROP TRIGGER full")
    assert bench.market.borrow("borrower", 900, offer(donor, 200), "test") == 700
    assert audit(bench.path).violations == 0


def test_without_a_journal_memory_in_use_is_still_not_given_out_twice(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, "memory_mib")
    donor, borrower, other = (node.container(name, memory=128) for name in ("donor", "borrower", "other"))
    bench.add(donor, borrower, other)
    bench.market.borrow("borrower", 192, offer(donor, 64), "test")
    holder = node.holder(borrower, 150)
    with sqlite3.connect(bench.path, isolation_level=None) as blocker:
        blocker.execute("CREATE TRIGGER full BEFORE INSERT ON transitions BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        bench.market.borrow("other", 160, offer(donor, 32), "test")
        assert sum(group.get_memory() for group in (donor, borrower, other)) <= 384
        holder.kill()
        holder.wait()
        bench.market.recall("donor", 128, "its owner has a call")
        assert [group.get_memory() for group in (donor, borrower, other)] == [128, 128, 128]
        blocker.execute("DROP TRIGGER full")
    assert bench.market.borrow("borrower", 192, offer(donor, 64), "test") == 192
    assert audit(bench.path).violations == 0
