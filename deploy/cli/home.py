"""Where `owl up` keeps what it started."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.cli.failures import Failure

LONGEST_SOCKET_PATH = 107  # sun_path of AF_UNIX on Linux, less its final zero


class Home:
    """The folder ``$OWL_HOME`` (``~/.owl``): database, logs, pid files, journal, node socket."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(os.environ.get("OWL_HOME") or Path.home() / ".owl").absolute()

    @property
    def data(self) -> Path:
        return self.path / "server"

    @property
    def journal(self) -> Path:
        return self.path / "journal.db"

    @property
    def node_socket(self) -> Path:
        """In a folder of its own, which containers see whole: what a new manager binds there is theirs too."""
        return self.path / "node" / "node.sock"

    def log(self, service: str) -> Path:
        return self.path / "logs" / f"{service}.log"

    def pid_file(self, service: str) -> Path:
        return self.path / f"{service}.pid"

    def prepare(self) -> None:
        """Make the folder, for this user only.

        Raises:
            Failure: it cannot be written, or its path is too long for a socket.
        """
        if len(os.fsencode(self.node_socket)) > LONGEST_SOCKET_PATH:
            raise Failure(f"{self.path} is too long a path for a socket in it: set OWL_HOME to a shorter one")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log("server").parent.mkdir(exist_ok=True)
            self.node_socket.parent.mkdir(mode=0o711, exist_ok=True)  # a container's user may be anyone
        except OSError as error:
            raise Failure(f"cannot write in {self.path}: {error.strerror}; set OWL_HOME to another folder") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `owl up` or `owl down` works at a time; another one waits."""
        with open(self.path / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def apihost(self) -> str | None:
        """URL of the platform that `owl up` started here last, unless `owl down` ended it; it may have died since."""
        try:
            return json.loads(self.pid_file("server").read_text())["url"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
