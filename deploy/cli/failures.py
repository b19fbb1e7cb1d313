"""Turns what can go wrong into one line and an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rm_agent.openwhisk import OpenWhiskError

HINTS = {
    401: "check the key: --auth, OW_AUTH or `wsk property set --auth`",
    404: "`owl actions` and `owl activations` list what there is",
    429: "wait for the next minute, or start the server with higher limits (`owl serve --help`)",
}


class Failure(click.ClickException):
    """An expected failure: one line that says what is wrong and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Failures(click.Command):
    """Mixin of the outermost command: no expected error shows a stack trace. Exit codes are those of ``wsk``."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Imported only now: the client is slow to load, and most commands end well.
            from rm_agent.openwhisk import OpenWhiskError

            if not isinstance(error, OpenWhiskError):
                raise
            raise Failure(describe(error), error.exit_code) from error


def describe(error: OpenWhiskError) -> str:
    text = " ".join(error.message.split())
    if hint := HINTS.get(error.status):
        text = f"{text.rstrip('.')}; {hint}"
    return f"{text} (transaction {error.code})" if error.code else text
