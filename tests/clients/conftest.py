"""The packages of the clients, installed once per machine, and servers for them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.server import Server
from deploy.standalone.settings import Settings

HERE = Path(__file__).parent
INSTALL_S, SCRIPT_S = 400, 150
# What npm says when nobody answers, as opposed to when a package is wrong.
_UNREACHABLE = re.compile(r"EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder of the installed packages of package-lock.json; skips where they cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm to install the clients")
    installed = HERE / "node_modules"
    stamp = installed / ".lock-hash"
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    folder = os.open(HERE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # another run of the tests may be installing
        if not stamp.is_file() or stamp.read_text() != wanted:
            # Their install scripts only print, or fetch what no registry has.
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode and _UNREACHABLE.search(done.stderr):
                pytest.skip("needs the npm registry to install the clients: it cannot be reached")
            assert done.returncode == 0, done.stderr
            stamp.write_text(wanted)
    finally:
        os.close(folder)
    return installed


@pytest.fixture
def server() -> Iterator[Server]:
    settings = Settings(
        port=0,
        invocations_per_minute=60_000,
        fires_per_minute=60_000,
        user_memory_mib=4096,
        max_action_concurrency=4,
        stem_cells=1,
        drain_s=5.0,
    )
    with Server(settings) as running:
        yield running


@pytest.fixture
def run(server: Server, packages: Path, tmp_path: Path) -> Run:
    """``run(program, *arguments, cwd=, timeout=)`` in an environment that names the server and nothing of the user's."""

    def run(*command: str | Path, cwd: Path = HERE, timeout: float = SCRIPT_S) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "OW_APIHOST": server.url,
            "OW_AUTH": WELL_KNOWN_USERS[0].api_key,
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_NOTIFICATIONS_MODE": "off",
            "CI": "1",
        }
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)

    return run
