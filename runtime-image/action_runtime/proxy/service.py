"""Listens, serves, and ends with everything the container has started."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import NoReturn

from action_runtime.executor.zygote import Zygote, ZygoteEnded
from action_runtime.proxy.action import ActionProxy, NotReady
from action_runtime.proxy.http import Connection
from action_runtime.proxy.report import NodeReport

_BACKLOG = 1024
_MAX_CLIENTS = 800  # OpenWhisk gives a container 1,024 descriptors


class Unavailable(Exception):
    """It cannot listen or work where it was told to; the text says why."""


def serve(
    address: str, work: Path, zygote: Zygote, ready_fd: int | None = None, ahead: socket.socket | None = None
) -> NoReturn:
    """Serve the action interface on ``address`` ("unix:PATH" or "tcp:HOST:PORT"), unpacking actions in ``work``.

    One byte goes to ``ready_fd``, which is then closed, once an init can be served without delay. ``ahead`` is as in
    ActionProxy. Does not return; raises Unavailable. SIGTERM and SIGINT end it and every process of its process group.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the work folder {work} cannot be made: {error.strerror}") from error
    listener = _listen(address)
    selector = DefaultSelector()
    concurrent = os.environ.get("__OW_ALLOW_CONCURRENT") == "true"
    proxy = ActionProxy(zygote, selector, work, concurrent, NodeReport.from_environment(), ahead)
    listener.setblocking(False)
    tcp = listener.family != socket.AF_UNIX

    def accept(_: int) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it has given up, or there is no descriptor left
        if len(selector.get_map()) > _MAX_CLIENTS:
            client.close()
            return
        if tcp:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection(client, selector, proxy.handle)

    selector.register(listener, EVENT_READ, accept)
    _end_on_signals(address, zygote)
    _wake_on_signals(selector)

    def tell() -> None:
        if ready_fd is not None:
            os.write(ready_fd, b"1")
            os.close(ready_fd)

    try:
        proxy.prepare(tell)
        while True:
            for key, mask in selector.select():
                key.data(mask)
    except NotReady as error:
        raise Unavailable(str(error)) from error
    except ZygoteEnded as error:
        raise Unavailable("the process that runs the action was ended from outside") from error


def _listen(address: str) -> socket.socket:
    scheme, _, rest = address.partition(":")
    try:
        if scheme == "unix" and rest:
            return _listen_unix(rest)
        host, _, port = rest.rpartition(":")
        if scheme == "tcp" and host and port.isdecimal():
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise Unavailable(f"cannot listen on {address}: {getattr(error, 'strerror', None) or error}") from error
    raise Unavailable(f"cannot listen on {address}: give unix:PATH or tcp:HOST:PORT")


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # for its owner only
    try:
        if os.path.exists(path):
            _remove_stale(path)
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(_BACKLOG)
    return listener


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _wake_on_signals(selector: DefaultSelector) -> None:
    # A signal just before the selector waits would else be served at its next event, which may never come.
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    selector.register(wake, EVENT_READ, lambda _: os.read(wake, 4096))


def _end_on_signals(address: str, zygote: Zygote) -> None:
    def end(*_: object) -> NoReturn:
        if address.startswith("unix:"):
            try:
                os.unlink(address.removeprefix("unix:"))
            except OSError:
                pass
        os.kill(zygote.pid, signal.SIGKILL)  # executors follow it
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # what the action has started, and this process too unless it is process 1
        os._exit(0)

    def reap(*_: object) -> None:
        # As process 1 of a container it inherits what the action leaves behind.
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGCHLD, reap)
