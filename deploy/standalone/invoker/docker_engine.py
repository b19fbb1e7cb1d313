"""The Docker Engine of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy.standalone.invoker.container import ImageUnavailable

if TYPE_CHECKING:
    from deploy.standalone.invoker.docker_client import Client

log = logging.getLogger(__name__)

DEFAULT_HOST = "unix:///var/run/docker.sock"
CONNECT_TIMEOUT_S = 2.0
TIMEOUT_S = 30.0  # for one request, and between two signs of life of a pull
PULL_TIMEOUT_S = 600.0
REMOVAL_TIMEOUT_S = 10.0
MOST_CONNECTIONS = 64
_POLL_S = 0.05
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class EngineError(OSError):
    """The engine refused a request, or does not answer; the message is one line."""


class Conflict(EngineError):
    """The state of things does not allow it: the name is taken, the container does not run."""


class NotThere(EngineError):
    """The engine knows no such container or image."""


class DockerEngine:
    """Thread-safe. Every method but :meth:`connect` raises :class:`EngineError`.

    Each request takes at most :data:`TIMEOUT_S`, if nothing else is said.
    """

    def __init__(self, client: Client) -> None:
        """Raises :class:`EngineError`."""
        self._client = client
        self._abandoned = threading.Event()
        with _translated():
            about, bridge = client.info(), client.inspect_network("bridge")
        self.cpus: int = about["NCPU"]
        self.cgroupfs = about.get("CgroupDriver") == "cgroupfs"
        self.gateway = _gateway(bridge["IPAM"]["Config"])
        self._device: str = bridge["Options"].get("com.docker.network.bridge.name", "docker0")

    @classmethod
    def connect(cls) -> DockerEngine | None:
        """The engine named by ``DOCKER_HOST``, else the one at the default socket; ``None`` when there is none.

        Never raises, and takes a few seconds at most; why there is no engine is logged when one was named.
        """
        host = os.environ.get("DOCKER_HOST")
        if host is None and not os.path.exists(urlsplit(DEFAULT_HOST).path):
            return None
        try:
            return cls(_client(host or DEFAULT_HOST))
        except EngineError as error:
            log.warning("Docker cannot be used: %s", error)
            return None

    def listen(self, port: int) -> socket.socket:
        """A socket on which containers, but no other machines, reach this one; :attr:`gateway` is its address."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The address alone would also take what other machines send to it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
            listening.bind((self.gateway, port))
            listening.listen(1024)
        except OSError as error:
            listening.close()
            raise EngineError(
                f"actions in Docker containers cannot reach the API at {self.gateway}:{port} ({error.strerror})"
            ) from None
        return listening

    def provide(self, image: str, *, managed: bool) -> None:
        """See to it that there is the image.

        As in OpenWhisk an image of a user's own without a tag or tagged ``latest`` is pulled each time, and must be.
        Any other is pulled when it is not there. Takes at most :data:`PULL_TIMEOUT_S`.
        Raises :class:`~deploy.standalone.invoker.container.ImageUnavailable`.
        """
        moving = not managed and _tag(image) in (None, "latest")
        try:
            if moving or not self._has(image):
                self._pull(image)
        except EngineError as error:
            log.warning("image %r: %s", image, error)
            raise ImageUnavailable(f"Failed to pull container image '{image}'.") from None

    def create(self, name: str, **options: Any) -> str:
        """Identifier of a new container; ``options`` are those of the Engine API."""
        with _translated():
            return self._client.create_container_from_config(options, name)["Id"]

    def attach(self, container: str) -> socket.socket:
        """The multiplexed output of a container that has not been started yet."""
        with _translated():
            attached = self._client.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
            stream = socket.socket(fileno=os.dup(attached.fileno()))
            attached.close()
        stream.settimeout(None)
        return stream

    def start(self, container: str) -> None:
        with _translated():
            self._client.start(container)

    def inspect(self, container: str) -> dict[str, Any]:
        with _translated():
            return self._client.inspect_container(container)

    def wait(self, container: str, seconds: float) -> None:
        """Until the container has ended."""
        with _translated():
            self._client.wait(container, timeout=seconds)

    def resize(self, container: str, cpu_millis: int, memory_mib: int, shares: int) -> None:
        memory = memory_mib << 20
        nano_cpus = min(cpu_millis, 1000 * self.cpus) * 1_000_000  # an engine refuses more than there are
        with _translated():
            self._client.resize(container, NanoCpus=nano_cpus, Memory=memory, MemorySwap=memory, CpuShares=shares)

    def pause(self, container: str) -> None:
        with _translated():
            self._client.pause(container)

    def resume(self, container: str) -> None:
        with _translated():
            self._client.unpause(container)

    def remove(self, container: str) -> None:
        """Kill the container and wait until it is gone; nothing happens when it is gone already."""
        until = time.monotonic() + REMOVAL_TIMEOUT_S
        with contextlib.suppress(NotThere):
            while True:
                try:
                    with _translated():
                        self._client.remove_container(container, v=True, force=True)
                    return
                except NotThere:
                    raise
                except EngineError:  # somebody else is removing it, or it would not die at once
                    if time.monotonic() > until:
                        raise
                time.sleep(_POLL_S)

    def labelled(self, label: str) -> list[str]:
        """Identifiers of the containers with this ``key=value``, ended ones too."""
        with _translated():
            return [found["Id"] for found in self._client.containers(all=True, filters={"label": label})]

    def abandon_pulls(self) -> None:
        """What is being pulled fails at its next sign of life."""
        self._abandoned.set()

    def close(self) -> None:
        self._client.close()

    def _has(self, image: str) -> bool:
        try:
            with _translated():
                self._client.inspect_image(image)
        except NotThere:
            return False
        return True

    def _pull(self, image: str) -> None:
        until = time.monotonic() + PULL_TIMEOUT_S
        with _translated():
            for event in self._client.pull(image, stream=True, decode=True):
                if "error" in event:
                    raise EngineError(event["error"])
                if self._abandoned.is_set():
                    raise EngineError("the server is shutting down")
                if time.monotonic() > until:
                    raise EngineError(f"the pull took more than {PULL_TIMEOUT_S:.0f} s")


def _client(host: str) -> Client:
    import docker
    from docker.errors import DockerException

    from deploy.standalone.invoker.docker_client import Client

    place = urlsplit(host)
    if place.scheme != "unix" and not (place.scheme in ("tcp", "http") and place.hostname in _LOOPBACK):
        raise EngineError(f"the engine at {host} is not on this machine, and its bridge network cannot be reached")
    try:
        options = docker.utils.kwargs_from_env() | {"base_url": host}
        client = Client(**options, version="auto", timeout=CONNECT_TIMEOUT_S, max_pool_size=MOST_CONNECTIONS)
    except (DockerException, OSError, ValueError) as error:
        raise EngineError(f"no engine answers at {host} ({error})") from None
    client.timeout = TIMEOUT_S
    return client


def _tag(image: str) -> str | None:
    """Tag or digest of an image's name, without which it means ``latest``."""
    from docker.utils import parse_repository_tag

    return parse_repository_tag(image)[1]


def _gateway(configs: list[dict[str, str]]) -> str:
    """This machine's address in the bridge network; a new engine does not spell out that it is the first one."""
    for config in configs:
        network = ipaddress.ip_network(config["Subnet"])
        if network.version == 4:
            return config.get("Gateway") or str(next(network.hosts()))
    raise EngineError("the engine's bridge network has no IPv4 addresses")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of the SDK as :class:`EngineError`."""
    from docker.errors import APIError, DockerException, NotFound
    from requests.exceptions import RequestException

    try:
        yield
    except NotFound as error:
        raise NotThere(error.explanation or str(error)) from None
    except APIError as error:
        kind = Conflict if error.status_code == 409 else EngineError
        raise kind(error.explanation or str(error)) from None
    except (DockerException, RequestException) as error:
        raise EngineError(f"the Docker Engine does not answer ({error})") from None
    except ValueError as error:  # a name that cannot be put into a request, or an answer that is none
        raise EngineError(str(error)) from None
