"""Docker as the invoker sees it: there or not, and able to make containers."""

from __future__ import annotations

import logging
import threading
import time
from urllib.parse import urlsplit

from deploy.standalone.invoker import leftovers
from deploy.standalone.invoker.container import ImageUnavailable
from deploy.standalone.invoker.docker_container import LOOPBACK, DockerContainer
from deploy.standalone.invoker.docker_engine import DockerEngine, EngineError
from deploy.standalone.invoker.docker_gate import Gate
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.settings import InvokerSettings
from rm_agent.cgroup import CgroupDriver

log = logging.getLogger(__name__)


class Docker:
    """Looks for the engine when it is first needed. Thread-safe.

    Whoever makes one has locked the folder and the group of ``settings``: containers that a previous server left there
    are removed when the engine is found.
    """

    def __init__(self, settings: InvokerSettings, driver: CgroupDriver | None) -> None:
        self._settings = settings
        self._driver = driver
        self._lock = threading.Lock()
        self._engine: DockerEngine | None = None
        self._not_before = 0.0  # when it is looked for again
        self._gate: Gate | None = None

    def make(self, name: str, flavour: Flavour, memory_mib: int) -> DockerContainer:
        """Raises :class:`~deploy.standalone.invoker.container.StartFailed` as the container does.

        Without an engine that is :class:`~deploy.standalone.invoker.container.ImageUnavailable`.
        """
        engine = self.engine()
        if engine is None:
            raise ImageUnavailable(f"Failed to pull container image '{flavour.image}'.")
        return DockerContainer(name, self._settings, engine, self._driver, flavour, memory_mib)

    def engine(self) -> DockerEngine | None:
        """The engine, if there is one by now. Takes a few seconds at most, and some milliseconds later on."""
        with self._lock:
            began = time.monotonic()
            if self._engine is None and began >= self._not_before:
                self._engine = self._find()
                now = time.monotonic()
                self._not_before = now + (now - began)  # a hanging engine is not waited for by each call in turn
            return self._engine

    def _find(self) -> DockerEngine | None:
        if (engine := DockerEngine.connect()) is None:
            return None
        try:
            self._take_possession(engine)
        except EngineError as error:
            engine.close()
            log.warning("Docker cannot be used: %s", error)
            return None
        return engine

    def abandon_pulls(self) -> None:
        """Nobody waits for images any more: makers that do soon fail."""
        if (engine := self._engine) is not None:
            engine.abandon_pulls()

    def close(self) -> None:
        """The containers are destroyed before."""
        with self._lock:
            if self._gate is not None:
                self._gate.close()
                self._gate = None
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _take_possession(self, engine: DockerEngine) -> None:
        settings = self._settings
        left = leftovers.clear_docker(engine, settings.run_dir, settings.cgroup if self._driver is not None else None)
        if left:
            log.warning("removed %d Docker containers of a previous server", left)
        api = urlsplit(settings.api_host)
        if api.hostname in LOOPBACK and api.port is not None:
            try:
                self._gate = Gate(engine.listen(api.port), (api.hostname, api.port))
            except EngineError as error:
                log.warning("%s", error)
