"""The invoker with real containers: what an invocation gets, and what becomes of the container."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.standalone.invoker import InUse, InvokerClosed
from deploy.standalone.invoker.conversation import Conversation
from deploy.standalone.invoker.process import ProcessContainer
from deploy.standalone.model import Status
from rm_agent.cgroup import CgroupError, detect

COUNT = "n = 0\n\ndef main(args):\n    global n\n    n += 1\n    return {'n': n}\n"
SLEEP = "import time\n\ndef main(args):\n    time.sleep(args.get('s', 60))\n    return {'slept': True}\n"
GATE = (
    "import os, time\n\ndef main(args):\n    while not os.path.exists(args['gate']):\n        time.sleep(0.005)\n    return {}\n"
)


def alive(pid: int) -> bool:
    """Zombies, which only their parent can bury, are dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def commands(word: str) -> list[str]:
    """Of processes, the warden and the containers among them, that were told of it."""
    found = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [command for command in found if word in command]


def text(line: str) -> str:
    return line[31:]


def pid_of(run_dir: Path) -> int:
    """The only container's process."""
    (file,) = run_dir.glob("wsk0_*/pid")
    while not (digits := file.read_text()):
        pass
    return int(digits)


def test_the_first_call_initialises_the_second_is_warm(make_invoker, invocation) -> None:
    invoker = make_invoker()
    first = invoker.submit(invocation(COUNT)).result(20)
    second = invoker.submit(invocation(COUNT)).result(20)
    assert (first.status, first.result, first.size) == (Status.SUCCESS, {"n": 1}, len('{"n": 1}\n'))
    assert (second.status, second.result) == (Status.SUCCESS, {"n": 2})
    assert first.init_ms is not None and second.init_ms is None
    assert first.end_ms - first.start_ms >= first.init_ms
    assert 0 <= second.wait_ms < 1000
    stats = invoker.stats()
    assert (stats["warmStarts"], stats["containerPool_idlesCount"]) == (1, 1)


def test_the_users_of_a_shared_action_do_not_meet_in_a_container(make_invoker, invocation) -> None:
    invoker = make_invoker()
    code = "import os\nuser = os.environ['__OW_NAMESPACE']\n\ndef main(args):\n    return {'user': user, 'key': os.environ.get('KEY')}\n"
    for user, key in (("alice", "a"), ("bob", "b"), ("alice", "a"), ("alice", "other binding")):
        call = invocation(code, user=user, init_env={"KEY": key})
        assert invoker.submit(call).result(20).result == {"user": user, "key": key}
    assert invoker.stats()["warmStarts"] == 1


def test_another_revision_gets_another_container(make_invoker, invocation) -> None:
    invoker = make_invoker()
    assert invoker.submit(invocation(COUNT, revision="1")).result(20).result == {"n": 1}
    assert invoker.submit(invocation(COUNT, revision="2")).result(20).result == {"n": 1}
    assert invoker.submit(invocation(COUNT, revision="1")).result(20).result == {"n": 2}


def test_two_calls_at_once_get_two_containers(make_invoker, invocation, run_dir: Path) -> None:
    invoker = make_invoker()
    gate = run_dir / "gate"
    calls = [invoker.submit(invocation(GATE, {"gate": str(gate)})) for _ in range(2)]
    assert invoker.stats()["containerPool_activeCount"] == 2
    gate.touch()
    assert [call.result(20).status for call in calls] == [Status.SUCCESS] * 2


def test_log_lines_of_loading_and_running(make_invoker, invocation) -> None:
    invoker = make_invoker()
    code = "import sys\nprint('loaded')\n\ndef main(args):\n    print('päivää ☀')\n    sys.stderr.write('open end')\n    return {}\n"
    outcome = invoker.submit(invocation(code)).result(20)
    lines = [text(line) for line in outcome.logs]
    assert [line for line in lines if line.startswith("stdout")] == ["stdout: loaded", "stdout: päivää ☀"]
    assert [line for line in lines if line.startswith("stderr")] == ["stderr: open end"]
    again = invoker.submit(invocation(code)).result(20)
    assert len(again.logs) == 2
    silent = invoker.submit(invocation(code, logs=0, name="silent")).result(20)
    assert (silent.status, silent.logs) == (Status.SUCCESS, [])


def test_many_log_lines_do_not_block_the_action(make_invoker, invocation) -> None:
    code = "def main(args):\n    for i in range(50000):\n        print('a line of the log', i)\n    return {}\n"
    outcome = make_invoker().submit(invocation(code, logs=1)).result(20)
    assert outcome.status is Status.SUCCESS
    assert text(outcome.logs[0]) == "stdout: a line of the log 0"
    assert text(outcome.logs[-1]).startswith("stderr: Logs were truncated because")
    assert sum(len(line) + 1 for line in outcome.logs[:-1]) <= 1 << 20


def test_the_action_knows_who_calls_it(make_invoker, invocation) -> None:
    code = "import os\n\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k.startswith(('__OW', 'COLOUR', 'EXTRA'))}\n"
    invoker = make_invoker(container_env={"EXTRA": "1"})
    call = invocation(code, user="alice", init_env={"COLOUR": "green"}, api_key="id:secret")
    seen = invoker.submit(call).result(20).result
    assert "__OW_API_KEY" not in seen
    assert 0 < int(seen.pop("__OW_DEADLINE")) - time.time() * 1000 < 20_000
    assert seen == {
        "__OW_NAMESPACE": "alice",
        "__OW_ACTION_NAME": "/guest/act",
        "__OW_ACTION_VERSION": "0.0.1",
        "__OW_ACTIVATION_ID": call.activation_id,
        "__OW_TRANSACTION_ID": "tid",
        "__OW_API_HOST": "http://localhost:3233",
        "COLOUR": "green",
        "EXTRA": "1",
    }
    call = invocation(code, name="trusted", api_key="id:secret", provide_api_key=True)
    assert invoker.submit(call).result(20).result["__OW_API_KEY"] == "id:secret"


def test_an_application_error_keeps_the_container(make_invoker, invocation) -> None:
    invoker = make_invoker(stem_cells=0)
    code = "def main(args):\n    raise ValueError('boom')\n"
    for _ in range(2):
        outcome = invoker.submit(invocation(code)).result(20)
        assert (outcome.status, outcome.result) == (Status.APPLICATION_ERROR, {"error": "boom"})
        assert any("ValueError: boom" in line for line in outcome.logs)
    assert invoker.stats()["containersStarted"] == 1


def test_a_developer_error_destroys_the_container(make_invoker, invocation, eventually) -> None:
    invoker = make_invoker(stem_cells=0)
    code = "import os\n\ndef main(args):\n    print('bye', flush=True)\n    os._exit(3)\n"
    outcome = invoker.submit(invocation(code)).result(20)
    assert (outcome.status, outcome.result) == (Status.DEVELOPER_ERROR, {"error": "command exited"})
    assert text(outcome.logs[0]) == "stdout: bye"
    assert text(outcome.logs[-1]).startswith("stderr: The action did not initialize or run as expected.")
    eventually(lambda: invoker.stats()["containersRemoved"] == 1)
    assert invoker.submit(invocation(code)).result(20).init_ms is not None


def test_code_that_does_not_load(make_invoker, invocation) -> None:
    outcome = make_invoker().submit(invocation("def main(args)\n    return {}\n")).result(20)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert "failed to generate or locate a binary" in outcome.result["error"]
    assert outcome.init_ms is not None
    assert any("expected ':'" in line for line in outcome.logs)


def test_a_result_that_is_too_large_is_cut(make_invoker, invocation) -> None:
    invoker = make_invoker()
    code = "def main(args):\n    return {'blob': 'x' * args['bytes']}\n"
    outcome = invoker.submit(invocation(code, {"bytes": 1_100_000})).result(20)
    assert (outcome.status, outcome.size) == (Status.APPLICATION_ERROR, 1_100_013)
    assert "1100013 > 1048576 bytes" in outcome.result["error"]
    outcome = invoker.submit(invocation(code, {"bytes": 1_000_000})).result(20)
    assert (outcome.status, outcome.init_ms) == (Status.SUCCESS, None)
    assert len(outcome.result["blob"]) == 1_000_000


def test_a_payload_of_a_megabyte(make_invoker, invocation) -> None:
    payload = {"blob": "ä" * 500_000}
    assert make_invoker().submit(invocation(payload=payload)).result(20).result == payload


def test_time_is_up_while_running(make_invoker, invocation, eventually) -> None:
    invoker = make_invoker(stem_cells=0)
    outcome = invoker.submit(invocation(SLEEP, timeout=200)).result(20)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert outcome.result == {"error": "The action exceeded its time limits of 200 milliseconds."}
    assert outcome.timed_out and outcome.size is None
    assert 200 <= outcome.end_ms - outcome.start_ms - outcome.init_ms < 1000
    eventually(lambda: invoker.stats()["containersRemoved"] == 1)


def test_endless_output_does_not_outlive_the_time_limit(make_invoker, invocation) -> None:
    invoker = make_invoker(stem_cells=0)
    code = "import subprocess\n\ndef main(args):\n    subprocess.run(['yes'])\n"
    outcome = invoker.submit(invocation(code, timeout=300, logs=0)).result(20)
    assert outcome.result["error"].startswith("The action exceeded its time limits")
    assert invoker.submit(invocation()).result(20).status is Status.SUCCESS


def test_a_start_without_descriptors_leaks_none(make_invoker, invocation, monkeypatch: pytest.MonkeyPatch) -> None:
    invoker = make_invoker(stem_cells=0)
    before = len(os.listdir("/proc/self/fd"))
    pipe, made = os.pipe, itertools.count(1)

    def scarce() -> tuple[int, int]:
        if next(made) % 3 == 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return pipe()

    with monkeypatch.context() as patched:
        patched.setattr("deploy.standalone.invoker.process.os.pipe", scarce)
        outcome = invoker.submit(invocation()).result(20)
    assert "Too many open files" in outcome.result["error"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_time_is_up_while_loading(make_invoker, invocation) -> None:
    code = "import time\nprint('here')\ntime.sleep(60)\n\ndef main(args):\n    return {}\n"
    outcome = make_invoker().submit(invocation(code, timeout=300)).result(20)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert outcome.result["error"].startswith("The action exceeded its time limits of 300 milliseconds")
    assert outcome.init_ms >= 300


def test_a_killed_container_ends_its_call_and_nothing_else(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0)
    call = invoker.submit(invocation(SLEEP))
    eventually(lambda: list(run_dir.glob("wsk0_*/proxy.sock")))
    time.sleep(0.2)
    os.kill(pid_of(run_dir), signal.SIGKILL)
    outcome = call.result(5)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert "exited unexpectedly" in outcome.result["error"]
    assert invoker.submit(invocation(SLEEP, {"s": 0})).result(20).result == {"slept": True}


def test_a_container_that_dies_while_it_starts_is_replaced(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0)
    call = invoker.submit(invocation(COUNT))
    eventually(lambda: list(run_dir.glob("wsk0_1_*/pid")))
    os.kill(pid_of(run_dir), signal.SIGKILL)
    outcome = call.result(20)
    assert outcome.result == {"n": 1}
    assert invoker.stats()["containersStarted"] == 2


def test_a_runtime_that_cannot_start_is_told(make_invoker, invocation) -> None:
    invoker = make_invoker(stem_cells=0, container_env={"PYTHONHOME": "/nowhere"})
    outcome = invoker.submit(invocation(COUNT)).result(20)
    assert outcome.status is Status.INTERNAL_ERROR
    assert outcome.result["error"].startswith("The action's container did not start: ")
    assert invoker.stats()["containersStarted"] == 3


def test_a_container_that_dies_idle_is_replaced(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0)
    invoker.submit(invocation(COUNT)).result(20)
    os.kill(pid_of(run_dir), signal.SIGKILL)
    eventually(lambda: invoker.stats()["containerPool_idlesCount"] == 0)
    assert invoker.submit(invocation(COUNT)).result(20).result == {"n": 1}
    eventually(lambda: invoker.stats()["containersRemoved"] == 1)


def test_a_call_waits_until_the_container_that_runs_it_has_it(
    make_invoker, invocation, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoker = make_invoker()
    gate = run_dir / "gate"
    calls = [invoker.submit(invocation(GATE, {"gate": str(gate)})) for _ in range(2)]
    gate.touch()
    for call in calls:
        call.result(20)
    send, attempts = Conversation.send, itertools.count()

    def the_first_is_dead(conversation: Conversation, *request: Any) -> None:
        if next(attempts) == 0:
            time.sleep(0.2)
            raise BrokenPipeError
        send(conversation, *request)

    monkeypatch.setattr(Conversation, "send", the_first_is_dead)
    outcome = invoker.submit(invocation(GATE, {"gate": str(gate)})).result(20)
    assert (outcome.status, outcome.init_ms) == (Status.SUCCESS, None)
    assert outcome.wait_ms >= 200


def test_a_dead_stem_cell_is_replaced(make_invoker, run_dir: Path, eventually) -> None:
    make_invoker()
    eventually(lambda: list(run_dir.glob("wsk0_1_prewarm_python311/proxy.sock")))
    os.kill(pid_of(run_dir), signal.SIGKILL)
    eventually(lambda: list(run_dir.glob("wsk0_2_prewarm_python311/proxy.sock")))
    eventually(lambda: not (run_dir / "wsk0_1_prewarm_python311").exists())


def test_names_are_those_of_openwhisk(make_invoker, invocation, run_dir: Path) -> None:
    code = "import os\n\ndef main(args):\n    return {'name': os.environ['OWL_CONTAINER']}\n"
    invoker = make_invoker()
    assert invoker.submit(invocation(code)).result(20).result == {"name": "wsk0_1_prewarm_python311"}
    invoker.close()
    invoker = make_invoker(stem_cells=0)
    assert invoker.submit(invocation(code, name="pkg/my-act")).result(20).result == {"name": "wsk0_1_guest_myact"}


def test_idle_containers_are_paused_then_removed(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0, pause_grace_s=0.1, idle_s=0.6)
    invoker.submit(invocation(COUNT)).result(20)
    eventually(lambda: invoker.stats()["containerPool_pausedCount"] == 1)
    outcome = invoker.submit(invocation(COUNT)).result(20)
    assert (outcome.result, outcome.init_ms) == ({"n": 2}, None)
    eventually(lambda: invoker.stats()["containersRemoved"] == 1)
    assert list(run_dir.glob("wsk0_*")) == []


def test_a_container_that_cannot_be_paused_makes_room_for_a_stem_cell(
    make_invoker, invocation, run_dir: Path, eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(container: ProcessContainer) -> None:
        raise CgroupError("it does not freeze")

    monkeypatch.setattr(ProcessContainer, "pause", refuse)
    invoker = make_invoker(user_memory_mib=256, pause_grace_s=0.1)
    assert invoker.submit(invocation()).result(20).status is Status.SUCCESS
    eventually(lambda: [folder.name for folder in run_dir.glob("wsk0_*")] == ["wsk0_2_prewarm_python311"])


def test_without_control_groups_pausing_still_works(make_invoker, invocation, run_dir: Path, eventually) -> None:
    invoker = make_invoker(stem_cells=0, pause_grace_s=0.05, cgroup=None)
    assert "not enforced" in invoker.notice
    invoker.submit(invocation(COUNT)).result(20)
    stat = Path(f"/proc/{pid_of(run_dir)}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    assert invoker.submit(invocation(COUNT)).result(20).result == {"n": 2}


def test_idle_containers_make_room(make_invoker, invocation) -> None:
    invoker = make_invoker(stem_cells=0, user_memory_mib=512)
    for name in ("a", "b", "c"):
        assert invoker.submit(invocation(COUNT, name=name)).result(20).result == {"n": 1}
    assert invoker.stats()["evictions"] == 1
    assert invoker.submit(invocation(COUNT, name="b")).result(20).result == {"n": 2}
    assert invoker.submit(invocation(COUNT, name="a")).result(20).result == {"n": 1}


def test_calls_wait_for_memory_in_their_order(make_invoker, invocation, run_dir: Path) -> None:
    invoker = make_invoker(stem_cells=0, user_memory_mib=512)
    gate = run_dir / "gate"
    small = [invoker.submit(invocation(GATE, {"gate": str(gate)}, name=name)) for name in "ab"]
    large = invoker.submit(invocation(COUNT, name="large", memory=512))
    late = invoker.submit(invocation(COUNT, name="late"))
    assert invoker.stats()["containerPool_runBufferCount"] == 2
    gate.touch()
    assert large.result(20).status is Status.SUCCESS
    assert late.result(20).start_ms >= large.result().start_ms
    assert all(call.result().status is Status.SUCCESS for call in small)


def test_a_large_action_is_not_starved_by_small_ones(make_invoker, invocation) -> None:
    invoker = make_invoker(stem_cells=0, user_memory_mib=512)
    stop = threading.Event()

    def hammer(name: str) -> None:
        while not stop.is_set():
            invoker.submit(invocation(SLEEP, {"s": 0.02}, name=name)).result(20)

    callers = [threading.Thread(target=hammer, args=(name,)) for name in ("a", "a", "b", "b")]
    for caller in callers:
        caller.start()
    try:
        time.sleep(0.3)
        outcome = invoker.submit(invocation(COUNT, name="large", memory=512)).result(10)
        assert outcome.status is Status.SUCCESS
        assert outcome.wait_ms < 3000
    finally:
        stop.set()
        for caller in callers:
            caller.join()


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({"image": "owner/image:1", "kind": "blackbox"}, Status.DEVELOPER_ERROR, "Failed to pull container image"),
        ({"kind": "go:1.20"}, Status.INTERNAL_ERROR, "no runtime for the kind 'go:1.20'"),
        ({"memory": 4096}, Status.INTERNAL_ERROR, "needs 4096 MiB"),
    ],
)
def test_what_cannot_run_here_is_told_at_once(
    make_invoker, invocation, more, status, error, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///there/is/none")
    outcome = make_invoker(stem_cells=0).submit(invocation(**more)).result(5)
    assert outcome.status is status
    assert error in outcome.result["error"]


@pytest.mark.root
def test_an_action_gets_the_resources_it_asked_for(make_invoker, invocation, run_dir: Path) -> None:
    invoker = make_invoker()
    name = "import os\n\ndef main(args):\n    return {'name': os.environ['OWL_CONTAINER']}\n"
    outcome = invoker.submit(invocation(name, memory=128, cpu_millis=250)).result(20)
    group = detect().open(f"{invoker.settings.cgroup}/{outcome.result['name']}")
    assert (group.get_cpu(), group.get_memory()) == (250, 128)
    group.set_cpu(1500)  # what somebody else moves stays moved
    group.set_memory(300)
    assert invoker.submit(invocation(name, memory=128, cpu_millis=250)).result(20).result == outcome.result
    assert (group.get_cpu(), group.get_memory()) == (1500, 300)
    outcome = invoker.submit(invocation(name, name="default")).result(20)
    group = detect().open(f"{invoker.settings.cgroup}/{outcome.result['name']}")
    assert (group.get_cpu(), group.get_memory()) == (1000, 256)


@pytest.mark.root
def test_more_memory_than_the_limit(make_invoker, invocation) -> None:
    invoker = make_invoker()
    code = "def main(args):\n    b = bytearray(args['mib'] << 20)\n    for i in range(0, len(b), 4096):\n        b[i] = 1\n    return {}\n"
    outcome = invoker.submit(invocation(code, {"mib": 400}, memory=128)).result(20)
    assert outcome.status is Status.DEVELOPER_ERROR
    assert outcome.result["error"] in ("command exited", "The action exhausted its memory and was aborted.")
    assert invoker.submit(invocation(code, {"mib": 20}, memory=128)).result(20).status is Status.SUCCESS


def test_closing_leaves_nothing(make_invoker, invocation, run_dir: Path) -> None:
    invoker = make_invoker(stem_cells=2)
    before = threading.active_count()
    assert before >= 2
    running = invoker.submit(invocation(SLEEP, {"s": 0.3}))
    endless = invoker.submit(invocation(SLEEP, name="endless"))
    pids = [int(file.read_text()) for file in run_dir.glob("wsk0_*/pid")]
    invoker.close(1.5)
    assert running.result(0).status is Status.SUCCESS
    with pytest.raises(InvokerClosed):
        endless.result(0)
    with pytest.raises(InvokerClosed):
        invoker.submit(invocation()).result(0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not run_dir.exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("invoker")]
    if invoker.settings.cgroup:
        assert detect().children(invoker.settings.cgroup) == []
    invoker.close()


CRASH = """
import os, psutil, sys, time
from pathlib import Path
from deploy.standalone.invoker import InvokerSettings, ProcessInvoker
run_dir, group, temporary, warden = sys.argv[1:]
settings = InvokerSettings(1024, "http://localhost:3233", Path(run_dir), cgroup=group or None, temporary=Path(temporary))
ProcessInvoker(settings)
while len(list(Path(run_dir).glob("wsk0_*/proxy.sock"))) < 2: time.sleep(0.01)
if warden == "killed":
    [child.kill() for child in psutil.Process().children() if "deploy.standalone.warden" in child.cmdline()]
os.kill(os.getpid(), 9)
"""


def crash(run_dir: Path, group: str | None, temporary: Path, warden: str) -> None:
    arguments = [str(run_dir), group or "", str(temporary), warden]
    subprocess.run([sys.executable, "-c", CRASH, *arguments], check=False, timeout=30)


WITH_GROUPS = pytest.mark.parametrize("with_groups", [pytest.param(True, marks=pytest.mark.root), False])


@WITH_GROUPS
def test_the_containers_of_a_killed_server_go_with_it(tmp_path, run_dir: Path, with_groups: bool, eventually) -> None:
    group = f"owltest-orphans-{os.getpid()}" if with_groups else None
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    crash(run_dir, group, temporary, "alive")
    eventually(lambda: not run_dir.exists() and not temporary.exists(), 10)
    eventually(lambda: not commands(str(run_dir)), 5)
    if with_groups:
        assert detect().children(group) == [] and not any(Path("/sys/fs/cgroup").glob(f"*/{group}"))


@WITH_GROUPS
def test_what_a_killed_server_left_is_cleared_away(
    make_invoker, invocation, run_dir: Path, with_groups: bool, tmp_path
) -> None:
    group = f"owltest-crash-{os.getpid()}" if with_groups else None
    crash(run_dir, group, tmp_path / "none", "killed")
    pids = [int(file.read_text()) for file in run_dir.glob("wsk0_*/pid")]
    assert len(pids) == 2 and all(Path(f"/proc/{pid}").exists() for pid in pids)
    invoker = make_invoker(stem_cells=0, cgroup=group)
    assert invoker.leftovers == 2
    assert list(run_dir.glob("wsk0_*")) == []
    assert not any(alive(pid) for pid in pids)
    assert invoker.submit(invocation(COUNT)).result(20).status is Status.SUCCESS


def test_two_servers_do_not_share_a_folder(make_invoker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.standalone.invoker.fleet.WARDEN_S", 0.1)
    make_invoker(stem_cells=0)
    with pytest.raises(InUse, match="another server"):
        make_invoker(stem_cells=0, cgroup=None)


@pytest.mark.root
def test_two_servers_do_not_share_a_control_group(make_invoker, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.standalone.invoker.fleet.WARDEN_S", 0.1)
    make_invoker(stem_cells=0)
    with pytest.raises(InUse, match="another server"):
        make_invoker(stem_cells=0, run_dir=run_dir / "other")


def test_a_folder_too_deep_for_sockets_is_refused(make_invoker, run_dir: Path) -> None:
    with pytest.raises(ValueError, match="too long for Unix sockets"):
        make_invoker(run_dir=run_dir / ("x" * 80))
