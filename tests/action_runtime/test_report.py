"""What the node's resource manager hears of a container."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from tests.action_runtime.container import Container

ACTION = "def main(args):\n    print(args)\n    return args\n"
ENV = {"__OW_ACTION_NAME": "/guest/act", "__OW_ACTION_VERSION": "0.0.3", "__OW_ACTIVATION_ID": "a" * 32}


def hear(node: socket.socket, count: int) -> list[dict]:
    return [json.loads(node.recv(4096)) for _ in range(count)]


def test_starts_and_ends(start: Callable[..., Container], node: socket.socket) -> None:
    container = start(OWL_NODE_SOCKET=node.getsockname(), OWL_CONTAINER="wsk0_3_guest_act")
    container.init(ACTION, env=ENV)
    common = {"v": 1, "container": "wsk0_3_guest_act", "action": "/guest/act", "version": "0.0.3"}
    started, ended = hear(node, 2)
    size = started.pop("input_bytes")
    assert started == {**common, "event": "start", "phase": "init", "activation": "a" * 32, "inflight": 1}
    assert ended == {**common, "event": "end", "phase": "init", "activation": "a" * 32, "inflight": 0, "input_bytes": size}

    context = {"action_name": "/guest/act", "action_version": "0.0.3", "activation_id": "b" * 32}
    container.run({"secret": "x" * 5000}, **context)
    started, ended = hear(node, 2)
    assert started["input_bytes"] > 5000
    assert "secret" not in json.dumps(started)
    assert [(m["event"], m["phase"], m["activation"], m["inflight"]) for m in (started, ended)] == [
        ("start", "run", "b" * 32, 1),
        ("end", "run", "b" * 32, 0),
    ]


def test_the_end_of_an_executor_is_an_end(start: Callable[..., Container], node: socket.socket) -> None:
    container = start(OWL_NODE_SOCKET=node.getsockname())
    container.init("import os\ndef main(args): os._exit(1)\n", env=ENV)
    container.client.exchange("POST", "/run", b"{bad")
    assert [(m["event"], m["phase"], m["activation"]) for m in hear(node, 4)][2:] == [("start", "run", None), ("end", "run", None)]


def test_a_manager_that_is_not_there_or_does_not_listen_is_not_felt(start: Callable[..., Container], node: socket.socket) -> None:
    for path in ("/no/such/socket", node.getsockname()):
        container = start(OWL_NODE_SOCKET=path)
        assert container.init(ACTION)[0] == 200
        # More than the socket's queue holds.
        assert all(container.run({"n": n}) == (200, {"n": n}) for n in range(50))
