"""Programs that are used where they are there: Docker, Node.js, wsk."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess

from deploy.cli.doctor.finding import Finding, note, ok, warning

ANSWER_S = 3.0
OLDEST_NODE = 18


class NoEngine(Exception):
    """Docker cannot be used. ``reason`` and ``fix`` are half a sentence each."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def engine_version() -> str:
    """Version of the Docker Engine.

    Raises:
        NoEngine: none can be used.
    """
    if importlib.util.find_spec("docker") is None:
        raise NoEngine("its Python package is not installed", "`pip install docker`")
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient.from_env(timeout=ANSWER_S)
        try:
            return client.version()["Version"]
        finally:
            client.close()
    except (DockerException, OSError) as error:
        if "permission denied" in str(error).lower():
            raise NoEngine("no permission", "add yourself to the group docker or set DOCKER_HOST") from None
        raise NoEngine("no engine answers", "start Docker Engine or set DOCKER_HOST") from None


def docker() -> Finding:
    try:
        return ok("Docker", f"Engine {engine_version()}")
    except NoEngine as missing:
        lost = "blackbox actions and containers of images are not available, all else is"
        return note("Docker", f"{missing.reason}: {lost}", f"{missing.fix}, if you need them")


def node() -> Finding:
    named = os.environ.get("OWL_NODE")
    path = shutil.which(named or "node")
    if path is None:
        what = f"OWL_NODE names {named}, which is no program" if named else "not installed"
        fix = "unset OWL_NODE or name Node.js" if named else "install Node.js 18 or newer, if you need them"
        return (warning if named else note)("Node.js", f"{what}: functions of the kinds nodejs:* fail", fix)
    version = _first_line(path, "--version")
    match = re.fullmatch(r"v(\d+)\..*", version)
    if not match or int(match[1]) < OLDEST_NODE:
        text = f"{path} is {version or 'not Node.js'}: functions of the kinds nodejs:* need {OLDEST_NODE} or newer"
        return warning("Node.js", text, "install a newer one, or name it in OWL_NODE")
    return ok("Node.js", f"{version[1:]} ({path})")


def wsk() -> Finding:
    path = shutil.which("wsk")
    if path is None:
        return note("wsk", "not on PATH; the commands `owl invoke`, `owl logs` and so on need none")
    return ok("wsk", path)


def _first_line(program: str, argument: str) -> str:
    try:
        done = subprocess.run([program, argument], capture_output=True, text=True, timeout=ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0]
