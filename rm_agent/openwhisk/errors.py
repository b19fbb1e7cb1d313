"""What can go wrong between a client and OpenWhisk."""

from __future__ import annotations


class OpenWhiskError(Exception):
    """OpenWhisk refused a request. ``str()`` is one line fit for a user.

    Attributes:
        status: HTTP status, or 0 where no answer came.
        message: the server's own reason.
        code: transaction id to look for in the server's log, where it sent one.
    """

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    @property
    def exit_code(self) -> int:
        """Exit code that ``wsk`` uses for this failure: 404 -> 148, 502 -> 246."""
        return (self.status - 256) & 255 if self.status else 1


class Unreachable(OpenWhiskError):
    """No answer: nothing listens there, or it did not reply in time."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


class StillRunning(OpenWhiskError):
    """An activation has not ended within the time that the caller gave it."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


class ConfigurationError(OpenWhiskError):
    """Which OpenWhisk to use, as whom, or what to ask it for is not known or makes no sense."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)

    @property
    def exit_code(self) -> int:
        return 2
