"""A Docker Engine for the tests: the one that is there, or one of their own, which leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.docker.base_image import base_image

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
RUNTIME = "owlbb/py:1"  # the recordings call it so
_NOWHERE = "http://127.0.0.1:9"  # as a proxy: no image comes from outside, and the attempt fails at once


@dataclass(frozen=True)
class Engine:
    """``host`` is for ``DOCKER_HOST``; ``image`` has the action runtime without the packages for models."""

    host: str
    image: str


@cache
def reachable() -> bool:
    from deploy.standalone.invoker.docker_engine import DockerEngine

    engine = DockerEngine.connect()
    if engine is not None:
        engine.close()
    return engine is not None


@cache
def startable() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, ("dockerd", "containerd", "runc", "ip", "setpriv")))


def obtainable() -> bool:
    return reachable() or startable()


@contextlib.contextmanager
def engine(repository: Path) -> Iterator[Engine]:
    with contextlib.ExitStack() as undo:
        if reachable():
            from deploy.standalone.invoker.docker_engine import DEFAULT_HOST

            host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        else:
            host = undo.enter_context(_own_engine())
        yield Engine(host, undo.enter_context(_images(host, repository)))


@contextlib.contextmanager
def _images(host: str, repository: Path) -> Iterator[str]:
    """Name of an image of the action runtime; there is one called :data:`RUNTIME`, too."""
    import docker

    base, built = (f"owl-test-{what}:{uuid.uuid4().hex[:8]}" for what in ("base", "runtime"))
    ours = [built, base]
    client = docker.DockerClient(base_url=host, timeout=120)
    try:
        client.api.import_image_from_data(base_image(), *base.split(":"))
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder) / "context"
            unwanted = shutil.ignore_patterns("__pycache__", "wheels")
            shutil.copytree(repository / "runtime-image", context, ignore=unwanted)
            client.images.build(path=str(context), tag=built, rm=True, buildargs={"BASE": base, "PACKAGES": ""})
        if not client.images.list(RUNTIME):  # somebody's own engine may have it
            client.images.get(built).tag(*RUNTIME.split(":"))
            ours.append(RUNTIME)
        yield built
    finally:
        for image in ours:
            with contextlib.suppress(docker.errors.APIError):
                client.images.remove(image, force=True)
        client.close()


@contextlib.contextmanager
def _own_engine() -> Iterator[str]:
    """An engine with a bridge and a folder of its own, that touches neither packet filters nor routing."""
    folder, number = Path(tempfile.mkdtemp(prefix="owl-dockerd-")), os.getpid()
    host, group, bridge = f"unix://{folder}/docker.sock", f"owl-dockerd-{number}", f"owl{number}"
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_unmount_below, folder)
        undo.callback(_remove_group, group)
        _ip("link", "add", bridge, "type", "bridge")
        undo.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"10.213.{number % 256}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        # setpriv: it ends with the tests even when these are killed.
        command = ["setpriv", "--pdeathsig", "TERM", "dockerd", "--host", host, "--pidfile", str(folder / "pid"),
                   "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
                   "--cgroup-parent", f"/{group}", "--bridge", bridge,
                   "--iptables=false", "--ip-forward=false", "--ip-masq=false"]  # fmt: skip
        environment = os.environ | {"HTTP_PROXY": _NOWHERE, "HTTPS_PROXY": _NOWHERE}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        undo.callback(_stop, process)
        _wait_until_it_answers(process, host, folder / "log")
        yield host


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _remove_group(group: str) -> None:
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        with contextlib.suppress(OSError):
            (hierarchy / group).rmdir()


def _unmount_below(folder: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (mounted := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mounted], capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _wait_until_it_answers(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    import docker

    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(docker.errors.DockerException):
            docker.APIClient(base_url=host, timeout=5).close()  # asks for the version
            return
        time.sleep(0.1)
    raise RuntimeError(f"dockerd did not start: {log.read_text()[-2000:]}")
