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


def docker() -> Finding:
    lost = "blackbox actions and containers of images are not available, all else is"
    if importlib.util.find_spec("docker") is None:
        return note("Docker", f"its Python package is not installed: {lost}", "`pip install docker`, if you need them")
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient.from_env(timeout=ANSWER_S)
        try:
            version = client.version()["Version"]
        finally:
            client.close()
    except (DockerException, OSError) as error:
        reason = "no permission" if "permission denied" in str(error).lower() else "no engine answers"
        fix = "add yourself to the group docker" if reason == "no permission" else "start Docker Engine"
        return note("Docker", f"{reason}: {lost}", f"{fix}, or set DOCKER_HOST, if you need them")
    return ok("Docker", f"Engine {version}")


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
