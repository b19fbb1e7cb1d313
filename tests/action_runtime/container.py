"""One action container as a process, driven over its socket."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"

_FRAMES = re.compile(r"Traceback \(most recent call last\):\n(?:  .*\n)+")
_TAG = re.compile(r"\x01([0-9a-f]{32}) ")
_TIME = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", re.MULTILINE)


class Client(http.client.HTTPConnection):
    """HTTP over the container's Unix socket."""

    def __init__(self, path: Path, timeout: float = 20) -> None:
        super().__init__("container", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def post(self, path: str, value: Any) -> tuple[int, Any]:
        status, _, body = self.exchange("POST", path, json.dumps(value).encode())
        return status, json.loads(body)

    def exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, path, body, headers)
        response = self.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


class Container:
    """``python -m action_runtime`` in a folder of its own; ends with everything it started."""

    def __init__(self, folder: Path, kind: str | None = None, **env: str) -> None:
        self.folder = folder
        self.work = folder / "action"
        self.socket = folder / "s"
        self._logs = [folder / "stdout", folder / "stderr"]
        home = {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
        base = {"PATH": os.environ["PATH"], **home, "__OW_API_HOST": "http://localhost:3233"}
        options = ["--kind", kind] if kind else []
        options += ["--listen", f"unix:{self.socket}", "--work", str(self.work)]
        ready, told = os.pipe()
        with open(self._logs[0], "wb") as stdout, open(self._logs[1], "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "action_runtime", *options, "--ready-fd", str(told)],
                env={**base, **env},
                pass_fds=[told],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                cwd=folder,
            )
        os.close(told)
        with os.fdopen(ready, "rb") as pipe:
            self.ready = pipe.read()  # until the last copy of the descriptor is closed
        self.client = Client(self.socket)

    @property
    def stdout(self) -> str:
        return self._logs[0].read_text()

    @property
    def stderr(self) -> str:
        """Tracebacks' frames and times of day are replaced as in the recordings."""
        text = self._logs[1].read_text().replace(f"{self.work}/", "/action/")
        return _TIME.sub("<time>", _FRAMES.sub("<frames>\n", text))

    def init(self, code: str | bytes, **value: Any) -> tuple[int, Any]:
        """Source text, or the bytes of a binary."""
        text = code if isinstance(code, str) else base64.b64encode(code).decode()
        action = {"name": "act", "main": "main", "code": text, "binary": isinstance(code, bytes)}
        return self.client.post("/init", {"value": {**action, **value}})

    def run(self, value: Any = None, **context: Any) -> tuple[int, Any]:
        return self.client.post("/run", {"value": {} if value is None else value, **context})

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.client.close()
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def by_activation(log: str) -> dict[str, list[str]]:
    """The lines of each activation by its id, without their tags; those without a tag under the empty id."""
    found: dict[str, list[str]] = {}
    for line in log.splitlines(keepends=True):
        tag = _TAG.match(line)
        found.setdefault(tag[1] if tag else "", []).append(line[tag.end() :] if tag else line)
    return found


def zip_of(files: dict[str, str | bytes]) -> bytes:
    """A zip archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
