"""Processes of a container for Node.js: the executor, which is a program of its own, and the unpacker of its zips."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import NoReturn

from action_runtime import kernel
from action_runtime.executor.action import ActionError, not_written
from action_runtime.executor.archive import ArchiveError, unpack
from action_runtime.executor.frames import Kind, receive_frame, send_frame
from action_runtime.executor.log_tags import tag_of, tags_wanted, write_all

_PROGRAM = Path(__file__).parent.parent / "nodejs" / "executor.js"
_FREE = 10  # descriptors from here on are not those the program is given


def run_node(channel: socket.socket, zygote: int, node: str) -> NoReturn:
    """Become Node.js with the channel as descriptor 3, and copies of both log streams as 4 and 5."""
    kernel.die_with(zygote)  # holds for the program too
    kernel.be_killed_first()
    for source, target in [(channel.fileno(), 3), (1, 4), (2, 5)]:
        os.dup2(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE), target)
    try:
        os.execv(node, [node, str(_PROGRAM)])
    except OSError as error:
        reason = f"Node.js ({node}) cannot be started: {error.strerror}"
        send_frame(socket.socket(fileno=3), Kind.UNFIT, 0, reason.encode())
        os._exit(2)


def run_unpacker(channel: socket.socket, zygote: int) -> NoReturn:
    """Unpack one zip. In a process of its own: the proxy must go on serving, and outlive what a zip does to memory."""
    kernel.name_process("owl-unpacker")
    kernel.die_with(zygote)
    kernel.be_killed_first()
    _, _, setup = receive_frame(channel)
    _, _, content = receive_frame(channel)
    order = json.loads(setup)
    try:
        _unpack(content, Path(order["folder"]))
        send_frame(channel, Kind.UNPACKED, 0)
    except ActionError as error:
        tag = tag_of(order["env"].get("__OW_ACTIVATION_ID")) if tags_wanted() else b""
        write_all(2, tag + f"Error during initialization: {error}\n".encode(errors="backslashreplace"))
        send_frame(channel, Kind.REFUSED, 0, error.refusal())
    os._exit(0)


def _unpack(content: bytes, folder: Path) -> None:
    if content[:2] != b"PK":
        raise ActionError("There was an error uncompressing the action archive: it is not a zip file.")
    try:
        unpack(content, folder)
    except ArchiveError as error:
        raise ActionError(f"There was an error uncompressing the action archive. {error}") from error
    except OSError as error:
        raise not_written(error) from error
