"""Tells the node's resource manager what this container is about to do and has done."""

from __future__ import annotations

import json
import os
import socket

_MAX_BYTES = 4095


class NodeReport:
    """Datagrams to the socket named by ``OWL_NODE_SOCKET``: one try each, never waiting, all errors dropped.

    A manager that is slow, restarting or not there must not be felt by a run.
    """

    def __init__(self, path: str | None, container: str) -> None:
        self._path = path
        self._container = container
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path else None

    @classmethod
    def from_environment(cls) -> NodeReport:
        """Reads ``OWL_NODE_SOCKET`` and ``OWL_CONTAINER``."""
        return cls(os.environ.get("OWL_NODE_SOCKET"), os.environ.get("OWL_CONTAINER", ""))

    @property
    def enabled(self) -> bool:
        return self._socket is not None

    def send(
        self, event: str, phase: str, action: str, version: str, activation: str | None, inflight: int, input_bytes: int
    ) -> None:
        """Report ``event`` ("start" or "end") of ``phase`` ("init" or "run").

        ``inflight`` counts what the executor is at work on: with this one at its start, without it at its end.
        """
        if self._socket is None:
            return
        message = {
            "v": 1,
            "event": event,
            "phase": phase,
            "container": self._container,
            "action": action,
            "version": version,
            "activation": activation,
            "inflight": inflight,
            "input_bytes": input_bytes,
        }
        try:
            data = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
            if len(data) <= _MAX_BYTES:
                self._socket.sendto(data, socket.MSG_DONTWAIT, self._path)
        except (OSError, ValueError):
            pass
