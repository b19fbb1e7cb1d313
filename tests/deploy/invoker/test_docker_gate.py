"""The way from a container to the API."""

from __future__ import annotations

import socket
import threading

import pytest

from deploy.standalone.invoker.docker_gate import Gate


def test_bytes_pass_both_ways_and_the_end_of_one_side_reaches_the_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        outside = socket.create_server(("127.0.0.1", 0))
        address = outside.getsockname()
        gate = Gate(outside, target.getsockname())

        def answer() -> None:
            served, _ = target.accept()
            with served:
                asked = b"".join(iter(lambda: served.recv(65536), b""))
                served.sendall(asked[::-1])

        threading.Thread(target=answer).start()
        with socket.create_connection(address, 5) as client:
            client.sendall(b"abc" * 100_000)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(65536), b"")) == b"cba" * 100_000
        gate.close()


def test_a_target_that_is_not_there_ends_the_connection_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    outside = socket.create_server(("127.0.0.1", 0))
    address = outside.getsockname()
    gate = Gate(outside, target)
    for _ in range(2):
        with socket.create_connection(address, 5) as client:
            assert client.recv(1) == b""
    gate.close()
    with pytest.raises(OSError):
        socket.create_connection(address, 1)


def test_closing_cuts_what_is_under_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        outside = socket.create_server(("127.0.0.1", 0))
        address = outside.getsockname()
        gate = Gate(outside, target.getsockname())
        with socket.create_connection(address, 5) as client:
            client.sendall(b"x")
            served, _ = target.accept()
            gate.close()
            assert client.recv(1) == b""
            served.close()
