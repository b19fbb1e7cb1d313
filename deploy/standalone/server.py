"""A whole server: storage, invoker and API, from start to drain."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import socket
import stat
import tempfile
import threading
import time
from pathlib import Path

import psutil

from deploy.standalone.app import create_app
from deploy.standalone.auth import Users
from deploy.standalone.core import Platform
from deploy.standalone.errors import StartError
from deploy.standalone.http_server import HttpServer, Limits, room_for_connections
from deploy.standalone.invoker import InvokerSettings, ProcessInvoker
from deploy.standalone.later import Waiting
from deploy.standalone.metrics import Metrics
from deploy.standalone.settings import MIB, Settings
from deploy.standalone.store import Store
from rm_agent.cgroup import CgroupError

__all__ = ["Server", "create_app"]

# A body over the API's own limit is read this many times as far, so that the client gets to see the 413.
_READ_FACTOR = 4
_FLUSH_S = 2.0
_LOOK_S = 0.02


class Server:
    """``start`` serves in the background, ``stop`` drains; each is called once.

    Port 0 takes a free one, ``url`` says which. ``start`` raises StartError, one line for the user, when it cannot.
    ``notice`` says what the invoker cannot enforce on this machine, None when it can everything.
    """

    platform: Platform

    def __init__(self, settings: Settings) -> None:
        Users(settings.users)
        self.settings = settings
        self.notice: str | None = None
        self.url = ""
        self._hurry = threading.Event()
        self._stopping = contextlib.ExitStack()

    def start(self) -> None:
        with contextlib.ExitStack() as undo:
            listening = undo.enter_context(_listen(self.settings.host, self.settings.port))
            port = listening.getsockname()[1]
            self.url = f"http://{_shown(self.settings.host)}:{port}"
            folder = _folder(self.settings.data, undo)
            store = Store(folder, self.settings.activation_days)
            undo.callback(store.close)
            metrics, waiting = Metrics(), Waiting()
            undo.callback(waiting.close)
            invoker = self._invoker(folder, port, metrics, undo)
            self.notice = invoker.notice
            self.platform = Platform(self.settings, store, invoker, metrics, waiting)
            limits = Limits(
                max_body_bytes=_READ_FACTOR * self.settings.max_body_bytes,
                request_s=self.settings.request_timeout_s,
                idle_s=self.settings.keep_alive_s,
                connections=room_for_connections(),
            )
            http = HttpServer(create_app(self.platform), listening, limits)
            undo.callback(http.close)
            undo.callback(self._drain, http, invoker)
            self._stopping = undo.pop_all()

    def stop(self) -> None:
        """Answer 503 to what is new and let what runs finish, for ``settings.drain_s`` or until :meth:`hurry`.

        What did not finish is recorded as failed; then all containers are removed and the store is closed.
        """
        self._stopping.close()

    @property
    def running(self) -> int:
        """How many activations run now."""
        return self.platform.invocations.in_flight

    def hurry(self) -> None:
        """Have :meth:`stop` wait for nothing that runs. From any thread or signal handler."""
        self._hurry.set()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _invoker(self, folder: Path, port: int, metrics: Metrics, undo: contextlib.ExitStack) -> ProcessInvoker:
        settings = InvokerSettings(
            user_memory_mib=self.settings.user_memory_mib or _memory_for_actions(),
            api_host=self.url,
            run_dir=folder / "run",
            default_cpu_millis=self.settings.default_cpu_millis,
            stem_cells=self.settings.stem_cells,
            container_env=dict(self.settings.container_env),
            containers=self.settings.containers,
            images=dict(self.settings.images),
            concurrency=self.settings.max_action_concurrency,
            node_socket=self.settings.node_socket,
            cgroup=self.settings.cgroup or f"owl-{port}",
            temporary=folder if self.settings.data is None else None,
        )
        try:
            try:
                invoker = ProcessInvoker(settings, metrics)
            except ValueError:
                # The names of Unix sockets are short: below a long data folder there is no room for them.
                short = _short_folder(folder)
                undo.callback(shutil.rmtree, short, ignore_errors=True)
                invoker = ProcessInvoker(dataclasses.replace(settings, run_dir=short), metrics)
        except (ValueError, CgroupError, OSError) as error:
            raise StartError(f"The containers cannot be prepared: {error}") from None
        undo.callback(invoker.close, 0.0)
        return invoker

    def _drain(self, http: HttpServer, invoker: ProcessInvoker) -> None:
        self.platform.draining.set()
        deadline = time.monotonic() + self.settings.drain_s
        while self.running and time.monotonic() < deadline and not self._hurry.is_set():
            time.sleep(_LOOK_S)
        invoker.close(0.0)
        self.platform.invocations.close()
        deadline = time.monotonic() + _FLUSH_S
        while http.busy and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"'{host}' is no address of this machine ({error.strerror}); try --host 127.0.0.1.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise StartError(f"'{host}' is no address of this machine; try --host 127.0.0.1.") from None
        advice = "choose one above 1023" if error.errno == errno.EACCES else "stop what uses it, or choose another"
        raise StartError(
            f"Port {port} on {host} cannot be used ({os.strerror(error.errno or 0)}); {advice} with --port."
        ) from None
    return listening


def _shown(host: str) -> str:
    if host in ("127.0.0.1", "0.0.0.0", "::1", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _folder(data: Path | None, undo: contextlib.ExitStack) -> Path:
    if data is not None:
        return data.absolute()
    folder = Path(tempfile.mkdtemp(prefix="owl-"))
    undo.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _short_folder(data: Path) -> Path:
    """A folder with a short path that is the same at every start, so that what a killed server left is found."""
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"owl-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StartError(f"{folder} belongs to somebody else; remove it, or name a shorter data folder with --data.")
    return folder


def _memory_for_actions() -> int:
    """Three quarters of what is free now: the rest is the server's, the manager's and the user's."""
    return max(512, int(psutil.virtual_memory().available * 0.75 / MIB))
