"""The pool's bookkeeping: memory is never promised twice, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deploy.standalone.invoker.pool import Pool, State


PYTHON, NODE = "python", "node"


@dataclass(eq=False)
class Slot:
    key: str | None
    memory_mib: int
    state: State = State.BUSY
    flavour: str = PYTHON
    places: int = 1
    calls: list[str] = field(default_factory=list)
    initialised: bool = True
    retired: bool = False


def stem(memory_mib: int = 100, flavour: str = PYTHON, state: State = State.STEM) -> Slot:
    return Slot(None, memory_mib, state, flavour, initialised=False)


def begin(pool: Pool[Slot], slot: Slot) -> None:
    slot.calls.append("call")
    pool.update(slot)


def end(pool: Pool[Slot], slot: Slot) -> None:
    slot.calls.pop()
    pool.update(slot)


def test_the_container_used_last_is_used_next() -> None:
    pool: Pool[Slot] = Pool(1000)
    first, second = Slot("a", 100), Slot("a", 100)
    for slot in (first, second):
        pool.add(slot)
    assert pool.warm("b") is None
    assert pool.warm("a") is second
    begin(pool, second)
    assert pool.warm("a") is first
    begin(pool, first)
    assert pool.warm("a") is None
    end(pool, first)
    assert (pool.warm("a"), first.state, second.state) == (first, State.IDLE, State.BUSY)


def test_the_fullest_container_with_a_place_is_used_next() -> None:
    pool: Pool[Slot] = Pool(1000)
    slots = [Slot("a", 100, places=2) for _ in range(3)]
    for slot in slots:
        pool.add(slot)
    begin(pool, slots[0])
    assert pool.warm("a") is slots[0]
    begin(pool, slots[0])
    assert pool.warm("a") is slots[2]
    end(pool, slots[0])
    assert pool.warm("a") is slots[0]


def test_a_container_that_initialises_is_used_when_no_other_has_a_place() -> None:
    pool: Pool[Slot] = Pool(1000)
    starting, ready = Slot("a", 100, State.STARTING, places=3, initialised=False), Slot("a", 100, places=3)
    begin(pool, starting)
    for slot in (starting, ready):
        pool.add(slot)
    assert pool.warm("a") is ready
    for _ in range(3):
        begin(pool, ready)
    assert (pool.warm("a"), starting.state) == (starting, State.STARTING)


def test_a_retired_container_gets_no_more_calls() -> None:
    pool: Pool[Slot] = Pool(1000)
    slot = Slot("a", 100, places=2)
    pool.add(slot)
    begin(pool, slot)
    slot.retired = True
    pool.update(slot)
    assert pool.warm("a") is None
    end(pool, slot)
    assert (pool.warm("a"), pool.room(PYTHON, 1000)) == (None, None)


def test_room_is_made_of_the_longest_idle_first_and_of_stem_cells_last() -> None:
    pool: Pool[Slot] = Pool(500)
    slots = [Slot("a", 100), Slot("b", 100), Slot("c", 100), stem(), Slot("d", 100)]
    for slot in slots:
        if slot.key:
            slot.calls.append("call")
        pool.add(slot)
    for slot in (slots[1], slots[0], slots[2]):
        end(pool, slot)
    assert pool.room(NODE, 100) == [slots[1]]
    assert pool.room(NODE, 150) == [slots[1], slots[0]]
    assert pool.room(NODE, 400) == [slots[1], slots[0], slots[2], slots[3]]
    assert pool.room(NODE, 401) is None


def test_stem_cells_yield_in_the_order_in_which_they_were_last_wanted() -> None:
    pool: Pool[Slot] = Pool(400)
    for flavour in (PYTHON, NODE, PYTHON):
        pool.want(flavour)
    python, node, idle = stem(), stem(flavour=NODE), Slot("a", 200)
    for slot in (python, node, idle):
        pool.add(slot)
    assert pool.wanted() == [(PYTHON, 1), (NODE, 1)]
    assert pool.room("other", 300) == [idle, node]
    assert pool.room("other", 400) == [idle, node, python]


def test_the_stem_cell_that_an_action_could_claim_is_spared() -> None:
    pool: Pool[Slot] = Pool(400)
    python, node, idle = stem(), stem(flavour=NODE), Slot("a", 200)
    for slot in (python, node, idle):
        pool.add(slot)
    assert pool.room(PYTHON, 300) == [idle]
    assert pool.room(NODE, 400) == [idle, python]
    assert pool.room(NODE, 401) is None


def test_a_claimed_stem_cell_counts_with_its_new_memory() -> None:
    pool: Pool[Slot] = Pool(500)
    starting, ready = stem(200, state=State.STARTING), stem(200)
    pool.add(starting)
    pool.add(ready)
    assert pool.claim(NODE, "a", 100) is None
    assert pool.claim(PYTHON, "a", 400) is None
    assert pool.claim(PYTHON, "a", 300) is ready
    assert (pool.used_mib, ready.key, ready.memory_mib) == (500, "a", 300)
    assert pool.claim(PYTHON, "b", 100) is starting
    assert pool.stems() == []


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[Slot] = Pool(1000)
        self.made: list[Slot] = []  # in an order that is the same in each run

    def busy(self) -> list[Slot]:
        return [slot for slot in self.made if slot.calls and slot.state is not State.GONE]

    @rule(key=st.sampled_from("abc"), memory=st.sampled_from([64, 128, 300, 700, 1000]), places=st.integers(1, 3))
    def call(self, key: str, memory: int, places: int) -> None:
        flavour = NODE if key == "c" else PYTHON
        self.pool.want(flavour)
        slot = self.pool.warm(key) or self.pool.claim(flavour, key, memory)
        if slot is None:
            victims = self.pool.room(flavour, memory)
            if victims is None:
                return
            for victim in victims:
                assert not victim.calls
                self.pool.remove(victim)
            slot = self.pool.claim(flavour, key, memory)
        if slot is None:
            slot = Slot(key, memory, places=places, flavour=flavour, calls=["call"], initialised=False)
            self.add(slot)
            return
        assert slot.flavour == flavour and not slot.retired
        slot.state = State.BUSY
        begin(self.pool, slot)
        assert len(slot.calls) <= slot.places

    @rule(flavour=st.sampled_from([PYTHON, NODE]))
    def stem(self, flavour: str) -> None:
        if self.pool.used_mib + 128 <= 1000:
            self.add(stem(128, flavour))

    def add(self, slot: Slot) -> None:
        self.pool.add(slot)
        self.made.append(slot)

    @rule(data=st.data())
    def initialise(self, data: st.DataObject) -> None:
        if starting := [slot for slot in self.busy() if not slot.initialised]:
            slot = starting[data.draw(st.integers(0, len(starting) - 1))]
            slot.initialised, slot.state = True, State.BUSY
            self.pool.update(slot)

    @rule(data=st.data(), dies=st.booleans(), retires=st.booleans())
    def end(self, data: st.DataObject, dies: bool, retires: bool) -> None:
        if ready := [slot for slot in self.busy() if slot.initialised]:
            slot = ready[data.draw(st.integers(0, len(ready) - 1))]
            slot.retired = slot.retired or retires
            end(self.pool, slot)
            if dies or (slot.retired and not slot.calls):
                self.pool.remove(slot)

    @invariant()
    def memory_is_counted_right(self) -> None:
        assert self.pool.used_mib == sum(slot.memory_mib for slot in self.pool.slots) <= 1000

    @invariant()
    def with_nobody_busy_everything_fits(self) -> None:
        if not self.busy():
            assert self.pool.room(PYTHON, 1000) is not None

    @invariant()
    def who_is_offered_has_a_place(self) -> None:
        for key in "abc":
            slot = self.pool.warm(key)
            if slot is not None:
                assert slot in self.pool.slots and slot.key == key and len(slot.calls) < slot.places


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
