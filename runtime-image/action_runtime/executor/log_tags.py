"""How the log lines of concurrent activations are told apart, and where the logs of one end.

With ``OWL_LOG_TAGS=true`` in the container's environment a line of an activation is ``\\x01<activation id> <text>\\n``,
on both streams, and so is its sentinel. Without, nothing is tagged.
"""

from __future__ import annotations

import os
import re
import select

SENTINEL = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"

_ID = re.compile(r"[0-9a-f]{32}")


def tags_wanted() -> bool:
    """Whether this container is to tag its logs."""
    return os.environ.get("OWL_LOG_TAGS") == "true"


def tag_of(activation: object) -> bytes:
    """What its lines begin with; empty for what is no activation id."""
    return f"\x01{activation} ".encode() if isinstance(activation, str) and _ID.fullmatch(activation) else b""


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, at once where the kernel takes it at once. Raises OSError."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            # A program that the action has started (Node.js does) may have made the pipe so, for all that hold it.
            select.select([], [descriptor], [])
