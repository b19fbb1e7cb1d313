"""Start, concurrency, clients that go away, and ends of all kinds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.action_runtime.container import SENTINEL, Client, Container
from tests.action_runtime.processes import gone, processes, wait_until

ECHO = "def main(args):\n    return args\n"
MARK = "print('run', args['n'])"


def test_ready_is_told_once_by_one_byte(container: Container) -> None:
    assert container.ready == b"1"


def test_only_the_owner_may_connect(container: Container) -> None:
    assert container.socket.stat().st_mode & 0o777 == 0o600


def test_tcp(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ready, told = os.pipe()
    command = [sys.executable, "-m", "action_runtime", "--listen", f"tcp:127.0.0.1:{port}", "--ready-fd", str(told)]
    with subprocess.Popen(command, pass_fds=[told], start_new_session=True, cwd=tmp_path) as process:
        os.close(told)
        assert os.read(ready, 9) == b"1"
        os.close(ready)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert client.recv(4096).startswith(b"HTTP/1.1 500")
        process.terminate()


@pytest.mark.parametrize("address", ["unix:", "tcp:localhost", "tcp:127.0.0.1:99999", "8080", "unix:/nowhere/at/all"])
def test_an_address_it_cannot_listen_on(address: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "action_runtime", "--listen", address, "--work", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"action runtime: cannot listen on {address}: ")
    assert ended.stderr.count("\n") == 1


def test_a_socket_in_use_is_left_alone_and_a_stale_one_replaced(container: Container, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "action_runtime", "--listen", f"unix:{container.socket}", "--work", str(tmp_path / "w")]
    assert subprocess.run(command, capture_output=True, timeout=10).returncode == 2
    assert container.run()[0] == 500
    container.process.kill()
    container.process.wait()
    with subprocess.Popen(command, start_new_session=True) as second:
        wait_until(lambda: _answers(container.socket))
        second.terminate()


def _answers(path: Path) -> bool:
    try:
        return Client(path).exchange("GET", "/")[0] == 200
    except OSError:
        return False


def test_modules_named_ahead_are_there(start: Callable[..., Container]) -> None:
    container = start(OWL_ZYGOTE_IMPORTS="colorsys, no.such.module")
    container.init("import sys\nTHERE = 'colorsys' in sys.modules\ndef main(args):\n    return {'there': THERE}\n")
    assert container.run() == (200, {"there": True})
    assert "OWL_ZYGOTE_IMPORTS names no.such.module, which cannot be imported" in container.stderr


def test_files_of_the_callers_folder_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "selectors.py").write_text("raise SystemExit('the wrong file')\n")
    container = Container(tmp_path)
    try:
        assert container.init(ECHO)[0] == 200
    finally:
        container.close()


def test_runs_are_served_one_at_a_time_by_default(container: Container) -> None:
    container.init(f"import time\ndef main(args):\n    {MARK}\n    time.sleep(0.02)\n    {MARK}\n    return args\n")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: Client(container.socket).post("/run", {"value": {"n": n}}), range(8)))
    assert answers == [(200, {"n": n}) for n in range(8)]
    blocks = container.stdout.split(SENTINEL)
    assert sorted(blocks) == ["", *(f"run {n}\nrun {n}\n" for n in range(8))]


def test_concurrent_runs_meet_in_one_process(start: Callable[..., Container]) -> None:
    container = start(__OW_ALLOW_CONCURRENT="true")
    container.init(f"import threading\nall_here = threading.Barrier(8)\ndef main(args):\n    {MARK}\n    all_here.wait(10)\n    return args\n")
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: Client(container.socket).post("/run", {"value": {"n": n}}), range(8)))
        assert answers == [(200, {"n": n}) for n in range(8)]
    lines = container.stdout.splitlines(keepends=True)
    once = [*(f"run {n}\n" for n in range(8))]
    assert [sorted(lines[:8]), lines[8:16]] == [once, [SENTINEL] * 8]
    assert [sorted(lines[16:24]), lines[24:]] == [once, [SENTINEL] * 8]
    assert container.stderr == SENTINEL * 16


def test_the_end_of_the_executor_answers_all_concurrent_runs(start: Callable[..., Container]) -> None:
    container = start(__OW_ALLOW_CONCURRENT="true")
    container.init("import sys, threading\nhere = threading.Barrier(4)\ndef main(args):\n    here.wait(10)\n    sys.exit(1)\n")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: Client(container.socket).post("/run", {"value": {}}), range(4)))
    assert answers == [(400, {"error": "command exited"})] * 4
    assert container.stdout == SENTINEL * 4


def test_a_client_that_goes_away_does_not_disturb_the_next_run(container: Container) -> None:
    container.init("import time\ndef main(args):\n    print('run', args['n'])\n    time.sleep(args['s'])\n    return {'n': args['n'], 'x': 'x' * 300_000}\n")
    container.client.close()
    leaving = Client(container.socket)
    leaving.request("POST", "/run", json.dumps({"value": {"n": 1, "s": 0.1}}))
    leaving.close()
    status, answer = container.run({"n": 2, "s": 0})
    assert (status, answer["n"]) == (200, 2)
    assert container.stdout == f"run 1\n{SENTINEL}run 2\n{SENTINEL}"


def raw(container: Container, data: bytes, half_close: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(container.socket))
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_a_client_that_closes_its_half_gets_its_answer(container: Container) -> None:
    container.init(ECHO)
    request = b'POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"value": {"a":1}}'
    assert raw(container, request, half_close=True).endswith(b'\r\n\r\n{"a": 1}\n')
    assert raw(container, request * 2, half_close=True).count(b'{"a": 1}\n') == 1


def test_requests_in_one_packet_are_answered_in_order(container: Container) -> None:
    container.init(ECHO)
    requests = b"".join(b'POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"value": {"a":%d}}' % n for n in range(5))
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(container, requests + last)
    assert [answer.find(b'{"a": %d}' % n) for n in range(5)] == sorted(answer.find(b'{"a": %d}' % n) for n in range(5))
    assert answer.count(b"HTTP/1.1 200") == 6


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000, b"431"),
    ],
)
def test_what_is_not_http_is_refused(container: Container, request_bytes: bytes, status: bytes) -> None:
    assert raw(container, request_bytes).startswith(b"HTTP/1.1 " + status)
    assert container.init(ECHO)[0] == 200


def test_a_request_in_pieces_and_without_a_length(container: Container) -> None:
    container.init(ECHO)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(container.socket))
        for piece in (b"POST /run HTTP/1.1\r\nHo", b"st: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"):
            client.sendall(piece)
            time.sleep(0.01)
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(b'a\r\n{"value": \r\n8\r\n{"b":1}}\r\n0\r\n\r\n')
        assert client.recv(4096).endswith(b'\r\n\r\n{"b": 1}\n')


def test_many_idle_clients(container: Container) -> None:
    container.init(ECHO)
    clients = [Client(container.socket) for _ in range(200)]
    for client in clients:
        client.connect()
    assert container.run({"a": 1}) == (200, {"a": 1})
    for client in clients:
        client.close()


BUSY = "import subprocess\ndef main(args):\n    subprocess.Popen(['sleep', '60'])\n    open('busy', 'w').close()\n    while True: pass\n"


@pytest.fixture
def busy(container: Container) -> Iterator[Container]:
    container.init(BUSY)
    thread = threading.Thread(target=lambda: pytest.raises(Exception, container.run))
    thread.start()
    wait_until((container.work / "1/bin/busy").exists)
    yield container
    container.close()
    thread.join()


def test_sigterm_ends_everything_at_once(busy: Container) -> None:
    found = processes(busy)
    assert len(found) == 4
    busy.process.send_signal(signal.SIGTERM)
    busy.process.wait(2)
    wait_until(lambda: gone(found), 2)
    assert not busy.socket.exists()


@pytest.mark.parametrize("victims", [[0], [1], [0, 1]], ids=["proxy", "zygote", "both"])
def test_no_part_outlives_another(busy: Container, victims: list[int]) -> None:
    proxy, zygote, executor, _ = found = processes(busy)
    for index in victims:
        found[index].kill()
    wait_until(lambda: gone([proxy, zygote, executor]))


def test_a_zygote_ended_from_outside_is_explained(container: Container) -> None:
    processes(container)[1].kill()
    assert container.process.wait(5) == 2
    assert container.stderr == "action runtime: the process that runs the action was ended from outside\n"


def test_zombies_are_not_left(container: Container) -> None:
    for _ in range(3):
        container.init("import os\nos._exit(1)\n")
    wait_until(lambda: len(processes(container)) == 2)


def test_the_action_is_what_the_kernel_kills_when_memory_runs_out(container: Container) -> None:
    container.init("def main(args):\n    return {'own': open('/proc/self/oom_score_adj').read().strip()}\n")
    assert container.run() == (200, {"own": "1000"})
    assert Path(f"/proc/{container.process.pid}/oom_score_adj").read_text().strip() != "1000"
