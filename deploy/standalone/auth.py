"""Users, their keys and HTTP basic authentication."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field

from deploy.standalone import names
from deploy.standalone.errors import Rejection, StartError

_KEY_LENGTH = 64
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="OpenWhisk secure realm",charset=UTF-8'}


@dataclass(frozen=True, slots=True)
class User:
    """A subject that owns the namespace of the same name."""

    name: str
    uuid: str
    key: str = field(repr=False)

    @property
    def api_key(self) -> str:
        return f"{self.uuid}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> User:
        """``NAME=UUID:KEY`` -> User; ValueError says what is wrong without repeating the key."""
        name, equals, pair = text.partition("=")
        uuid, colon, key = pair.partition(":")
        if not (equals and colon and uuid):
            raise ValueError("a user is NAME=UUID:KEY")
        if not names.valid(name) or name == "_":
            raise ValueError(f"'{name}' is not a name for a user")
        if len(key) != _KEY_LENGTH:
            raise ValueError(f"the key of user '{name}' has {len(key)} characters, it must have {_KEY_LENGTH}")
        return cls(name, uuid, key)


# The public keys of OpenWhisk standalone: its documentation prints them, every client example uses them.
WELL_KNOWN_USERS = (
    User(
        "guest",
        "23bc46b1-71f6-4ed5-8c54-816aa4f8c502",
        "123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP",
    ),
    User(
        "whisk.system",
        "789c46b1-71f6-4ed5-8c54-816aa4f8c502",
        "abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP",
    ),
)


class Users:
    """Finds users by their ``Authorization`` header; keys are compared in constant time."""

    def __init__(self, users: tuple[User, ...]) -> None:
        self._by_uuid = {user.uuid: user for user in users}
        self._by_name = {user.name: user for user in users}
        if len(self._by_uuid) != len(users) or len(self._by_name) != len(users):
            raise StartError("Two users have the same name or the same uuid; give each its own (--user NAME=UUID:KEY).")

    def named(self, name: str) -> User | None:
        return self._by_name.get(name)

    def find(self, authorization: str | None) -> User | None:
        """The user of a valid header, None for an absent or wrong one."""
        pair = _credentials(authorization)
        if pair is None:
            return None
        uuid, key = pair
        user = self._by_uuid.get(uuid)
        expected = user.key if user else "\0" * _KEY_LENGTH
        matches = hmac.compare_digest(key.encode(), expected.encode())
        return user if user and matches else None

    def require(self, authorization: str | None) -> User:
        """The user of a valid header; a 401 that says whether the key was missing or wrong."""
        if _credentials(authorization) is None:
            raise Rejection(
                401, "The resource requires authentication, which was not supplied with the request", _CHALLENGE
            )
        user = self.find(authorization)
        if user is None:
            raise Rejection(401, "The supplied authentication is invalid", _CHALLENGE)
        return user


def _credentials(authorization: str | None) -> tuple[str, str] | None:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        uuid, colon, key = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (uuid, key) if colon else None
