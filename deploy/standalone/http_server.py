"""An HTTP/1.1 server for a WSGI application: a few threads that share one epoll.

The thread that hears of a request reads, serves and answers it itself: nothing is handed over. Connections cost nothing
while they are idle, and answers that are waited for (:mod:`deploy.standalone.later`) hold no thread.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import logging
import os
import resource
import select
import socket
import threading
import time
from dataclasses import dataclass

from deploy.standalone import http_parser
from deploy.standalone.http_connection import Application, Connection

log = logging.getLogger(__name__)

# What they do besides waiting for the disk runs one at a time: more of them only delay the invoker's thread.
_THREADS = 6
_ACCEPT_AT_ONCE = 64
_EVICT_AT_ONCE = 32
_LOOK_S = 0.5  # how often connections are looked over for what takes too long
_MOST_CONNECTIONS = 16_384
_OWN_DESCRIPTORS = 2_048  # that the rest of the server may need: containers take some each
_LISTEN = select.EPOLLIN | select.EPOLLONESHOT


@dataclass(frozen=True, slots=True)
class Limits:
    """``request_s``: for the head of a request, its body (100 kB more a second), and each step of sending an answer.
    ``idle_s``: for the next request of a connection. ``connections``: the longest idle one goes for one too many."""

    max_body_bytes: int
    max_head_bytes: int = 65_536
    request_s: float = 30.0
    idle_s: float = 120.0
    connections: int = _MOST_CONNECTIONS


class HttpServer:
    """Serves ``listening`` from construction on, until :meth:`close`."""

    def __init__(self, application: Application, listening: socket.socket, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        host, port = listening.getsockname()[:2]
        self.environ = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self._parsing = http_parser.limits(max_body_bytes=limits.max_body_bytes, max_head_bytes=limits.max_head_bytes)
        self._connections: dict[int, Connection] = {}
        self._listening = listening
        self._accepts_on = listening.fileno()
        self._listening.setblocking(False)
        self._closing = threading.Event()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(listening, _LISTEN)
        self._threads = [
            threading.Thread(target=self._work, name=f"http-{number}", daemon=True) for number in range(_THREADS)
        ]
        self._threads.append(threading.Thread(target=self._look_after, name="http-deadlines", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Some request is being answered."""
        return any(connection.busy for connection in list(self._connections.values()))

    def close(self) -> None:
        """Close all connections, whatever they do, and end the threads. The listening socket is the caller's."""
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join(1.0)
        for connection in list(self._connections.values()):
            connection.close()
        if not any(thread.is_alive() for thread in self._threads):
            self._epoll.close()
            os.close(self._wake)

    # for connections

    def new_parser(self) -> http_parser.RequestParser:
        return http_parser.RequestParser(self._parsing)

    def watch(self, descriptor: int, events: int) -> None:
        self._epoll.register(descriptor, events)

    def rearm(self, descriptor: int, events: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed in between
            self._epoll.modify(descriptor, events)

    def forget(self, connection: Connection) -> None:
        if self._connections.get(connection.descriptor) is connection:
            del self._connections[connection.descriptor]

    # the threads

    def _work(self) -> None:
        while not self._closing.is_set():
            for descriptor, _ in self._epoll.poll(-1, 1):
                connection = self._connections.get(descriptor)
                try:
                    if connection:
                        connection.ready()
                    elif descriptor == self._accepts_on:
                        self._accept()
                except Exception:  # one client's trouble must not be another's
                    log.exception("a connection failed")
                    if connection:
                        connection.close()

    def _accept(self) -> None:
        try:
            for _ in range(_ACCEPT_AT_ONCE):
                connected, address = self._listening.accept()
                self._welcome(connected, address)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
        finally:
            self.rearm(self._accepts_on, _LISTEN)

    def _welcome(self, connected: socket.socket, address: tuple) -> None:
        if len(self._connections) >= self.limits.connections:
            self._make_room()
        connected.setblocking(False)
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, connected, str(address[0]))
        self._connections[connection.descriptor] = connection
        try:
            connection.open()
        except OSError:
            connection.close()
            raise

    def _make_room(self) -> None:
        """Close what has been idle for longest."""
        idle = [connection for connection in list(self._connections.values()) if connection.idle]
        for connection in heapq.nsmallest(_EVICT_AT_ONCE, idle, key=lambda connection: connection.deadline):
            connection.evict()
        if not idle:
            log.warning("%d connections are open and none is idle: new ones have to wait", len(self._connections))
            time.sleep(_LOOK_S)

    def _look_after(self) -> None:
        while not self._closing.wait(_LOOK_S):
            now = time.monotonic()
            for connection in list(self._connections.values()):
                if connection.deadline < now:
                    connection.expire(now)


def room_for_connections() -> int:
    """How many connections the limit of open files leaves room for; the limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OWN_DESCRIPTORS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    # Where the limit is low the rest of the server gets half of it.
    return min(_MOST_CONNECTIONS, max(soft - _OWN_DESCRIPTORS, soft // 2))
