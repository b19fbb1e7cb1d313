"""The proxy's hold on the zygote, a warm process of one thread from which executors are forked."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from enum import IntEnum

NUMBER_BYTES = 4
ORDER_BYTES = NUMBER_BYTES + 1


class Program(IntEnum):
    """What a new process is to be."""

    EXECUTOR = 0
    UNPACKER = 1


class ZygoteEnded(Exception):
    """The zygote is gone, and with it every executor."""


@dataclass(frozen=True, slots=True)
class Zygote:
    """The proxy's end. Its methods raise ZygoteEnded when the zygote is gone.

    ``control`` becomes readable when an executor, or the zygote itself, has ended.
    """

    control: socket.socket
    pid: int

    def spawn(self, number: int, program: Program = Program.EXECUTOR) -> socket.socket:
        """Start process ``number``; returns the channel to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.control, [encode_number(number) + bytes([program])], [theirs.fileno()])
            except OSError as error:
                raise ZygoteEnded from error
        return ours

    def kill(self, number: int) -> None:
        """End process ``number`` if it still runs."""
        try:
            self.control.send(encode_number(number))
        except OSError as error:
            raise ZygoteEnded from error

    def ended(self) -> int:
        """Wait for a process to end; returns its number."""
        message = self.control.recv(NUMBER_BYTES)
        if not message:
            raise ZygoteEnded
        return int.from_bytes(message)


def encode_number(number: int) -> bytes:
    """What stands for process ``number``, in both directions."""
    return number.to_bytes(NUMBER_BYTES)


def start_zygote(not_inherited: int | None = None, node: str | None = None) -> Zygote:
    """Fork the zygote. Call it while the process has one thread. With ``node``, executors are that program.

    ``OWL_ZYGOTE_IMPORTS`` (comma separated) names modules it imports, so that executors start with them.
    ``not_inherited`` is a descriptor that only the caller may hold.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Zygote(ours, pid)
    ours.close()
    if not_inherited is not None:
        os.close(not_inherited)
    try:
        # Imported by the zygote alone: the proxy needs none of it.
        from action_runtime.executor.nursery import run_zygote

        run_zygote(theirs, parent, node)
    except Exception as error:
        print(f"action runtime: the process that runs the action failed: {error!r}", file=sys.stderr)
    finally:
        os._exit(1)
