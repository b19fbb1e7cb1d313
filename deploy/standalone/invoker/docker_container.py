"""Containers that are made by the Docker Engine of this machine."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.standalone.invoker.container import StartFailed
from deploy.standalone.invoker.docker_engine import Conflict, DockerEngine, EngineError
from deploy.standalone.invoker.docker_streams import Attendant
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.settings import InvokerSettings
from rm_agent.cgroup import Cgroup, CgroupDriver, CgroupError

log = logging.getLogger(__name__)

PORT = 8080  # where the action interface listens, in every image
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PIDS_LIMIT = 1024
NOFILE = 1024
END_TIMEOUT_S = 5.0  # from the end of a container's output to its own

FOLDER_LABEL, GROUP_LABEL = "owl.run-dir", "owl.cgroup"  # whose it is, for those who clear up


class DockerContainer:
    """Starts in the constructor, which blocks for some 100 ms, and for minutes where an image must be pulled.

    Raises :class:`~deploy.standalone.invoker.container.StartFailed`, for an image that cannot be had
    :class:`~deploy.standalone.invoker.container.ImageUnavailable`. Source: what OpenWhisk's invoker gives to
    ``docker run``, save for the log driver: output is streamed, and kept nowhere.
    """

    slow = True

    def __init__(
        self,
        name: str,
        settings: InvokerSettings,
        engine: DockerEngine,
        driver: CgroupDriver | None,
        flavour: Flavour,
        memory_mib: int,
    ) -> None:
        assert flavour.image is not None
        self.name = name
        self._engine = engine
        self._settings = settings
        self._group: Cgroup | None = None
        self._attendant: Attendant | None = None
        self._ended = threading.Event()
        self._out_of_memory = False
        self._id = ""
        engine.provide(flavour.image, managed=flavour.managed)
        try:
            self._id = self._create(self._options(flavour.image, driver, memory_mib))
            stream = engine.attach(self._id)
            with contextlib.ExitStack() as undo:
                undo.enter_context(stream)
                self._address = self._start(driver)
                self._attendant = Attendant(name, stream, self._address, self._on_end)
                undo.pop_all()
        except OSError as error:
            self.destroy()
            raise StartFailed(f"The container {name} could not be started: {error}") from None
        except Exception:
            self.destroy()
            raise
        self.ready, self.exited, self.streams = self._attendant.ready, self._attendant.exited, self._attendant.streams

    def connect(self) -> socket.socket:
        if self._address is None:
            raise ConnectionRefusedError(f"the container {self.name} has ended")
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.suppress(BlockingIOError):
                connection.connect(self._address)
        except OSError:
            connection.close()
            raise
        return connection

    def claim(self, cpu_millis: int, memory_mib: int) -> None:
        """Raises :class:`~deploy.standalone.invoker.docker_engine.EngineError`, as ``pause`` and ``resume`` do.

        Under contention it weighs as much as a process with this CPU does.
        """
        self._engine.resize(self._id, cpu_millis, memory_mib, shares=max(2, cpu_millis * 1024 // 1000))

    def hurry(self) -> None:
        """It starts as fast as it can anyway."""

    def pause(self) -> None:
        self._engine.pause(self._id)

    def resume(self) -> None:
        self._engine.resume(self._id)

    def out_of_memory(self) -> bool:
        if self._group is not None:
            with contextlib.suppress(CgroupError):
                return self._group.usage().oom_kills > 0
        # The group goes with the container: the engine will say in a moment why that ended.
        self._ended.wait(END_TIMEOUT_S)
        return self._out_of_memory

    def destroy(self) -> None:
        if self._id:
            try:
                self._engine.remove(self._id)
            except EngineError as error:
                log.warning("container %s: %s", self.name, error)
        if self._attendant is not None:
            self._attendant.close()
            self._attendant = None

    def _create(self, options: dict[str, Any]) -> str:
        try:
            return self._engine.create(self.name, **options)
        except Conflict:
            # Another server on this engine numbers its containers, too: OpenWhisk tells invokers apart like this.
            prefix, rest = self.name.split("_", 1)
            return self._engine.create(f"{prefix}{uuid.uuid4().hex[:8]}_{rest}", **options)

    def _start(self, driver: CgroupDriver | None) -> tuple[str, int] | None:
        """The address at which it will listen; none when it has ended at once."""
        self._engine.start(self._id)
        about = self._engine.inspect(self._id)
        if driver is not None:
            path = driver.of_pid(about["State"]["Pid"])
            if path is not None and self._id in path:  # else the engine counts processes differently
                with contextlib.suppress(CgroupError, ValueError):
                    self._group = driver.open(path)
        address = about["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        return (address, PORT) if address else None

    def _options(self, image: str, driver: CgroupDriver | None, memory_mib: int) -> dict[str, Any]:
        settings, environment = self._settings, self._settings.environment
        binds = []
        environment["OWL_CONTAINER"] = self.name
        if environment["__OW_API_HOST"] == settings.api_host:
            environment["__OW_API_HOST"] = self._reachable(settings.api_host)
        if settings.node_socket and (shown := _to_be_shown(Path(settings.node_socket))):
            environment["OWL_NODE_SOCKET"] = settings.node_socket
            binds.append(f"{shown}:{shown}:ro")  # reports can be sent all the same
        labels = {FOLDER_LABEL: str(settings.run_dir)}
        host = {
            "NetworkMode": "bridge",
            # CPU follows memory until an action claims the container.
            "CpuShares": max(2, 1024 // max(1, settings.user_memory_mib // memory_mib)),
            "Memory": memory_mib << 20,
            "MemorySwap": memory_mib << 20,
            "PidsLimit": PIDS_LIMIT,
            "CapDrop": ["NET_RAW", "NET_ADMIN"],
            "Ulimits": [{"Name": "nofile", "Soft": NOFILE, "Hard": NOFILE}],
            "LogConfig": {"Type": "none"},
            "Binds": binds,
        }
        if driver is not None and settings.cgroup is not None:
            labels[GROUP_LABEL] = settings.cgroup
            if self._engine.cgroupfs:  # systemd has other names
                host["CgroupParent"] = f"/{settings.cgroup}"
        return {
            "Image": image,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Labels": labels,
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": host,
        }

    def _reachable(self, api_host: str) -> str:
        """The API's URL as a container sees it, to which this machine's loopback is its own."""
        url = urlsplit(api_host)
        if url.hostname not in LOOPBACK:
            return api_host
        port = "" if url.port is None else f":{url.port}"
        return url._replace(netloc=f"{self._engine.gateway}{port}").geturl()

    def _on_end(self) -> None:
        """On the attendant's thread: nothing more will be written."""
        with contextlib.suppress(EngineError):  # it is gone, or the engine is
            self._engine.wait(self._id, END_TIMEOUT_S)
            self._out_of_memory = bool(self._engine.inspect(self._id)["State"]["OOMKilled"])
        self._ended.set()


def _to_be_shown(node_socket: Path) -> Path | None:
    """What of it a container is to see: the folder, so that the socket of the next manager is seen too.

    Where there is anything but sockets in it (databases, keys), the socket alone; nothing while that is not there.
    """
    with contextlib.suppress(OSError):
        if all(path.is_socket() for path in node_socket.parent.iterdir()):
            return node_socket.parent
        if node_socket.is_socket():
            return node_socket
    return None
