"""`owl serve` as a process: how it starts, refuses to start and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-c", "from deploy.cli import main; main()", "serve", "--stem-cells", "0")


@contextmanager
def started(*options: str, home: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running server, its URL, and the lines it wrote when it started."""
    process = subprocess.Popen(
        [*COMMAND, *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OWL_HOME": str(home)},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://localhost:\d+", line)
        assert found, line
        yield process, found.group(), [line]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def refused(*options: str, home: Path) -> str:
    """What a server that cannot start says; it must be one line."""
    done = subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OWL_HOME": str(home)},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_start_line_is_the_command_for_wsk(tmp_path: Path) -> None:
    with started("--port", "0", "--ephemeral", home=tmp_path) as (_, url, lines):
        assert f"wsk property set --apihost {url} --auth " in lines[0]


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--port", str(port), "--ephemeral", home=tmp_path)
    assert str(port) in line
    assert "--port" in line


def test_address_of_another_machine(tmp_path: Path) -> None:
    assert "192.0.2.1" in refused("--port", "0", "--host", "192.0.2.1", "--ephemeral", home=tmp_path)


def test_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--data" in refused("--port", "0", "--data", str(tmp_path / "file"), home=tmp_path)


def test_entities_survive_and_a_second_server_is_refused(tmp_path: Path, client: Any) -> None:
    with started("--port", "0", home=tmp_path) as (first, url, _):
        client(url).put_action("kept")
        assert "Another server" in refused("--port", "0", home=tmp_path)
        first.kill()
        first.wait(10)
    with started("--port", "0", home=tmp_path) as (_, url, _):
        assert client(url).ns("GET", "actions/kept").json()["version"] == "0.0.1"
    assert (tmp_path / "server" / "owl.db").exists()


def test_sigterm_lets_what_runs_finish(tmp_path: Path, client: Any) -> None:
    nap = "import time\n\ndef main(args):\n    time.sleep(1)\n    return {'slept': True}\n"
    with started("--port", "0", home=tmp_path) as (process, url, _):
        guest = client(url)
        guest.put_action("nap", nap)
        guest.invoke("nap")
        guest.session.close()
        activation = guest.ns("POST", "actions/nap", {}).json()["activationId"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with started("--port", "0", home=tmp_path) as (_, url, _):
        assert client(url).ns("GET", f"activations/{activation}/result").json()["result"] == {"slept": True}


def test_ephemeral_leaves_nothing(tmp_path: Path) -> None:
    with started("--port", "0", "--ephemeral", home=tmp_path) as (process, _, _):
        pass
    assert process.returncode == 0
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("user", ["bob", "bob=uuid:short"])
def test_users_that_are_none(tmp_path: Path, user: str) -> None:
    done = subprocess.run(
        [*COMMAND, "--user", user], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 2
    assert "user" in done.stderr


def test_more_users_and_other_keys(tmp_path: Path, client: Any) -> None:
    from deploy.standalone.auth import User

    bob = User("bob", "0b0b0b0b-71f6-4ed5-8c54-816aa4f8c502", "b" * 64)
    with started("--port", "0", "--ephemeral", "--user", f"bob={bob.api_key}", home=tmp_path) as (_, url, _):
        assert client(url, bob)("GET", "/api/v1/namespaces").json() == ["bob"]
