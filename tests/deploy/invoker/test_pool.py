"""The pool's bookkeeping: memory is never promised twice, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deploy.standalone.invoker.pool import Pool, State


@dataclass(eq=False)
class Slot:
    key: str | None
    memory_mib: int
    state: State = State.BUSY


def test_the_container_used_last_is_used_next() -> None:
    pool: Pool[Slot] = Pool(1000)
    first, second = Slot("a", 100), Slot("a", 100)
    for slot in (first, second):
        pool.add(slot)
        pool.release(slot)
    assert pool.warm("b") is None
    assert pool.warm("a") is second
    assert pool.warm("a") is first
    assert pool.warm("a") is None


def test_room_is_made_of_the_longest_idle_first_and_of_stem_cells_last() -> None:
    pool: Pool[Slot] = Pool(500)
    slots = [Slot("a", 100), Slot("b", 100), Slot("c", 100), Slot(None, 100, State.STEM), Slot("d", 100)]
    for slot in slots:
        pool.add(slot)
    for slot in (slots[1], slots[0], slots[2]):
        pool.release(slot)
    assert pool.room(100) == [slots[1]]
    assert pool.room(150) == [slots[1], slots[0]]
    assert pool.room(400) == [slots[1], slots[0], slots[2], slots[3]]
    assert pool.room(401) is None


def test_a_claimed_stem_cell_counts_with_its_new_memory() -> None:
    pool: Pool[Slot] = Pool(500)
    starting, ready = Slot(None, 200, State.STARTING), Slot(None, 200, State.STEM)
    pool.add(starting)
    pool.add(ready)
    assert pool.claim("a", 400) is None
    assert pool.claim("a", 300) is ready
    assert (pool.used_mib, ready.key, ready.memory_mib) == (500, "a", 300)
    assert pool.claim("b", 100) is starting
    assert pool.stems() == []


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[Slot] = Pool(1000)
        self.busy: list[Slot] = []

    @rule(key=st.sampled_from("abc"), memory=st.sampled_from([64, 128, 300, 700, 1000]))
    def call(self, key: str, memory: int) -> None:
        slot = self.pool.warm(key) or self.pool.claim(key, memory)
        if slot is None:
            victims = self.pool.room(memory)
            if victims is None:
                return
            for victim in victims:
                assert victim not in self.busy
                self.pool.remove(victim)
            slot = Slot(key, memory)
            self.pool.add(slot)
        assert slot not in self.busy
        slot.state = State.BUSY
        self.busy.append(slot)

    @rule()
    def stem(self) -> None:
        if self.pool.used_mib + 128 <= 1000:
            self.pool.add(Slot(None, 128, State.STEM))

    @rule(data=st.data(), dies=st.booleans())
    def end(self, data: st.DataObject, dies: bool) -> None:
        if self.busy:
            slot = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
            (self.pool.remove if dies else self.pool.release)(slot)

    @invariant()
    def memory_is_counted_right(self) -> None:
        assert self.pool.used_mib == sum(slot.memory_mib for slot in self.pool.slots) <= 1000

    @invariant()
    def with_nobody_busy_everything_fits(self) -> None:
        if not self.busy:
            assert self.pool.room(1000) is not None


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
