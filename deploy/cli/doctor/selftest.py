"""A function's whole life on a server of its own: put, invoked cold and warm, deleted."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import IO

from deploy.cli.connection import guest_key
from deploy.cli.doctor.finding import Finding, fails, ok
from rm_agent.openwhisk import OpenWhisk, OpenWhiskError

START_S = 6.0
STOP_S = 5.0
ANSWER_S = 5.0
WARM_CALLS = 10
NAME = "owl-doctor"
CODE = "def main(args):\n    print('from the doctor')\n    return {'sum': args['a'] + args['b']}\n"
FIX = "see what `owl serve --ephemeral --verbose` prints"


def selftest() -> Finding:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    command = [sys.executable, "-m", "deploy.cli", "serve", "--ephemeral", "--port", str(port), "--stem-cells", "1"]
    with tempfile.TemporaryFile() as printed:
        try:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
            )
        except OSError as error:
            return fails("self test", f"{sys.executable} cannot be run: {error.strerror}", "`make setup` as this user")
        try:
            return _life(OpenWhisk(f"http://127.0.0.1:{port}", guest_key(), timeout=ANSWER_S), server, printed)
        except OpenWhiskError as error:
            return fails("self test", f"a call failed: {error.message}", FIX)
        finally:
            _stop(server)


def _life(ow: OpenWhisk, server: subprocess.Popen[bytes], printed: IO[bytes]) -> Finding:
    began = time.monotonic()
    while not ow.ping():
        if server.poll() is not None:
            return fails("self test", f"the server did not start: {_last_line(printed)}", FIX)
        if time.monotonic() > began + START_S:
            return fails("self test", f"the server did not start within {START_S:g} s", FIX)
        time.sleep(0.05)
    started_s = time.monotonic() - began
    ow.put_action(NAME, {"exec": {"kind": "python:3.11", "code": CODE}})
    times_ms = []
    for number in range(1 + WARM_CALLS):
        before = time.perf_counter()
        record = ow.invoke(NAME, {"a": 40, "b": 2 + number})
        times_ms.append((time.perf_counter() - before) * 1000)
        if record.result != {"sum": 42 + number}:
            return fails("self test", f"a function gave a wrong answer: {record.status}, {record.result}", FIX)
    ow.delete_action(NAME)
    cold, *warm = times_ms
    times = f"first call {cold:.0f} ms, warm {statistics.median(warm):.1f} ms"
    return ok("self test", f"server up in {started_s:.1f} s; {times}; all removed")


def _last_line(printed: IO[bytes]) -> str:
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
