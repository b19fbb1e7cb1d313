"""Ids of requests: in every answer, log line and error."""

from __future__ import annotations

import re
import secrets

# What OpenWhisk keeps to its own requests.
_SYSTEM = "sid_"
_FIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+=@-]{0,127}", re.ASCII)


def new_transaction_id() -> str:
    """32 characters that nobody can guess."""
    return secrets.token_hex(16)


def transaction_id_of(given: str | None) -> str:
    """The id a client (or a proxy before the server) gave its request in ``X-Request-ID``, or a new one.

    As in OpenWhisk; it ends up in logs, so only short ones of harmless characters are taken.
    """
    if given and _FIT.fullmatch(given) and not given.startswith(_SYSTEM):
        return given
    return new_transaction_id()
