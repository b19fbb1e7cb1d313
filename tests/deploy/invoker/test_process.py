"""Containers that are processes, as the invoker handles them."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import pytest

from deploy.standalone.invoker import InvokerSettings
from deploy.standalone.invoker.flavour import Flavour
from deploy.standalone.invoker.process import SOCKET, ProcessContainer


def test_a_runtime_that_accepts_no_more_is_not_waited_for(run_dir: Path) -> None:
    settings = InvokerSettings(512, "http://localhost:3233", run_dir)
    container = ProcessContainer("wsk0_1_guest_act", settings, None, Flavour("python:3.11", None), 128)
    try:
        assert select.select([container.ready], [], [], 10)[0] and os.read(container.ready, 1) == b"1"
        (path := run_dir / container.name / SOCKET).unlink()
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(str(path))
            full.listen(0)
            with container.connect(), pytest.raises(BlockingIOError):
                container.connect()
    finally:
        container.destroy()
