"""What the rules want for a container, and what a profile learns from calls."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rm_agent.containers import action_of
from rm_agent.harvest import Allocation
from rm_agent.policy import ContainerView, FixedPolicy, HarvestPolicy, NodeView, Target, observe
from rm_agent.profiles import Call, Profile

OWN = Allocation(500, 256)
IDLE = ContainerView(
    name="wsk0_1_guest_hello",
    action="/guest/hello",
    own=OWN,
    allocation=OWN,
    running=False,
    initialising=False,
    reports=True,
    running_s=0.0,
    idle_s=5.0,
    cpu=0,
    cpu_recent=0,
    throttled=False,
    memory=20,
    memory_peak=30,
)
RUNNING = replace(IDLE, running=True, idle_s=0.0, running_s=0.5, cpu=100, cpu_recent=100)


def call(peak: int, allocated: int = 500, saturated: bool = False, memory: int = 40) -> Call:
    return Call(1.0, peak, allocated, saturated, memory)


def profile(*calls: Call) -> Profile:
    made = Profile()
    for each in calls:
        made.learn(each)
    return made


def decide(view: ContainerView, cores: int = 2000) -> Target:
    node = NodeView(100.0, cores, 4096, {view.name: view})
    return observe(HarvestPolicy(), node)[view.name]


def test_an_idle_container_that_reports_keeps_a_floor() -> None:
    assert decide(IDLE).keep.cpu_millis == 50


def test_a_call_that_just_ended_is_held() -> None:
    assert decide(replace(IDLE, idle_s=0.05)).keep.cpu_millis == 500


def test_one_that_does_not_report_keeps_the_peak_of_its_action() -> None:
    silent = replace(IDLE, reports=False)
    assert decide(silent).keep.cpu_millis == 500
    assert decide(replace(silent, profile=profile(*[call(200)] * 3))).keep.cpu_millis == 250


def test_the_first_call_runs_at_its_own() -> None:
    target = decide(replace(RUNNING, throttled=True, cpu=500))
    assert target.keep == target.want == OWN


def test_a_running_call_lends_what_its_action_never_uses() -> None:
    assert decide(replace(RUNNING, profile=profile(*[call(200)] * 3))).keep.cpu_millis == 250
    assert decide(replace(RUNNING, profile=profile(*[call(200)] * 2))).keep.cpu_millis == 500
    assert decide(replace(RUNNING, profile=profile(*[call(460)] * 3))).keep.cpu_millis == 500


def test_a_call_gets_its_own_before_it_lends() -> None:
    view = replace(RUNNING, profile=profile(*[call(200)] * 3))
    assert decide(replace(view, running_s=0.1)).keep.cpu_millis == 500


def test_initialisation_keeps_its_own() -> None:
    assert decide(replace(RUNNING, initialising=True, profile=profile(*[call(200)] * 3))).keep.cpu_millis == 500


def test_an_action_the_safeguard_had_to_restore_is_spared() -> None:
    known = profile(*[call(200)] * 3)
    known.spared_until = 160.0
    assert decide(replace(RUNNING, profile=known)).keep.cpu_millis == 500


def test_a_saturated_call_wants_twice_what_it_has_up_to_the_node() -> None:
    known = profile(call(100))
    assert decide(replace(RUNNING, profile=known, cpu=460)).want.cpu_millis == 1000
    assert (
        decide(replace(RUNNING, profile=known, throttled=True, allocation=Allocation(1500, 256))).want.cpu_millis
        == 2000
    )


def test_history_makes_a_call_borrow_from_its_start() -> None:
    starved = profile(call(490, 500, True))
    assert decide(replace(RUNNING, profile=starved)).want.cpu_millis == 1000
    satisfied = profile(call(490, 500, True), call(600, 1000))
    assert decide(replace(RUNNING, profile=satisfied)).want.cpu_millis == 750


def test_what_a_borrower_does_not_use_goes_back() -> None:
    view = replace(RUNNING, running_s=5.0, allocation=Allocation(2000, 256), cpu_recent=300, profile=profile(call(300)))
    assert decide(view).want.cpu_millis == 600


def test_memory_is_kept_above_the_highest_peak() -> None:
    target = decide(replace(IDLE, profile=profile(*[call(100, memory=100)] * 3)))
    assert target.keep.memory_mib == 132
    assert decide(replace(IDLE, memory_peak=200, profile=profile(*[call(100, memory=100)] * 3))).keep.memory_mib == 250
    assert decide(IDLE).keep.memory_mib == 256


def test_an_oom_kill_ends_the_harvest_and_makes_the_action_borrow() -> None:
    known = profile(*[call(100)] * 3)
    known.suffered_oom()
    assert decide(replace(IDLE, profile=known)).keep.memory_mib == 256
    assert decide(replace(RUNNING, profile=known)).want.memory_mib == 512


def test_the_fixed_policy_moves_nothing() -> None:
    node = NodeView(0.0, 2000, 4096, {})
    assert FixedPolicy().decide(RUNNING, node).want == OWN


def test_actions_are_read_from_names_as_a_last_resort() -> None:
    assert action_of("wsk0_3_guest_hello") == "guest_hello"
    assert action_of("wsk0_3_prewarm_python311") == ""
    assert action_of("postgres") == ""


amounts = st.integers(0, 4000)
views = st.builds(
    ContainerView,
    name=st.just("c"),
    action=st.just("a"),
    own=st.builds(Allocation, amounts, amounts),
    allocation=st.builds(Allocation, amounts, amounts),
    running=st.booleans(),
    initialising=st.booleans(),
    reports=st.booleans(),
    running_s=st.floats(0, 1e4),
    idle_s=st.floats(0, 1e4),
    cpu=amounts,
    cpu_recent=amounts,
    throttled=st.booleans(),
    memory=amounts,
    memory_peak=amounts,
    profile=st.lists(st.builds(Call, st.floats(0, 100), amounts, amounts, st.booleans(), amounts), max_size=5).map(
        lambda calls: profile(*calls)
    ),
)


@given(views)
def test_a_target_keeps_at_most_its_own_and_wants_at_least_that(view: ContainerView) -> None:
    target = decide(view)
    assert all(keep <= own <= want for keep, own, want in zip(target.keep, view.own, target.want))
    assert target.want.cpu_millis <= max(2000, view.own.cpu_millis)
    # Whoever is harvested of memory keeps more than it uses and ever used.
    if target.keep.memory_mib < view.own.memory_mib:
        assert target.keep.memory_mib >= max(view.memory, view.memory_peak, view.profile.memory_peak) + 32
