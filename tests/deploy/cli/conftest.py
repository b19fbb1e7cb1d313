"""A platform that `owl up` started, for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ANSWER_S = 60


class Platform:
    """Runs the command as a user does, with an OWL_HOME of its own and no configuration from outside."""

    def __init__(self) -> None:
        # Not in pytest's folders: the path of a socket in it must be short.
        self.home = Path(tempfile.mkdtemp(prefix="owl-test-"))
        with socket.socket() as api, socket.socket() as manager:
            api.bind(("127.0.0.1", 0))
            manager.bind(("127.0.0.1", 0))
            self.port, self.manager_port = api.getsockname()[1], manager.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        outside = {k: v for k, v in os.environ.items() if k not in ("OW_APIHOST", "OW_AUTH")}
        self.environment = outside | {"OWL_HOME": str(self.home), "WSK_CONFIG_FILE": str(self.home / "wskprops")}

    def owl(self, *arguments: str, expect: int = 0, **options) -> str:
        """Output of ``owl ARGUMENTS`` (both streams); its exit code must be ``expect``."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=ANSWER_S, **options
        )
        assert done.returncode == expect, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "deploy.cli", *arguments]

    def up(self, *arguments: str) -> str:
        ports = ("--port", str(self.port), "--manager-port", str(self.manager_port))
        return self.owl("up", *ports, *arguments, "--", "--invocations-per-minute", "100000")

    def close(self) -> None:
        self.owl("down")
        shutil.rmtree(self.home)


@pytest.fixture(scope="session")
def platform():
    platform = Platform()
    try:
        platform.up("--no-manager")
        yield platform
    finally:
        platform.close()


@pytest.fixture
def own_platform():
    """Nothing started yet."""
    platform = Platform()
    yield platform
    platform.close()
