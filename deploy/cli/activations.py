"""`owl activations`, `owl activation`, `owl logs`."""

from __future__ import annotations

import math
import re
import time

import click

from deploy.cli.connection import connection
from deploy.cli.failures import Failure
from deploy.cli.output import console, in_ms, local_time, plain, print_json, table
from rm_agent.openwhisk import Activation, EntityName, OpenWhisk

POLL = "poll"
POLL_S = 1.0
ID = re.compile(r"[0-9a-fA-F]{32}")
LONGEST_ACTIVATION_MS = 300_000
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\dT\S+\s+(?:stdout|stderr): ?")


class Since(click.ParamType):
    """A moment in ms since 1970, or how long ago: ``90s``, ``10m``, ``2h``, ``1d``."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isdecimal():
            return int(text)
        match = re.fullmatch(r"(\d{1,9})([smhd])", text)
        if not match:
            self.fail(f"'{text}' is neither milliseconds since 1970 nor a time span such as 10m, 2h, 1d", param, ctx)
        return max(0, int(time.time() * 1000) - int(match[1]) * UNITS_MS[match[2]])


@click.command(short_help="List what ran, newest first.")
@click.argument("names", nargs=-1, metavar="[poll] [NAME]")
@click.option("-l", "--limit", type=click.IntRange(0, 200), default=30, show_default=True, help="How many; 0 for 200.")
@click.option("-s", "--skip", type=click.IntRange(0), default=0, help="Pass over the newest.")
@click.option("--since", type=Since(), metavar="WHEN", help="Not before: ms since 1970, or 10m, 2h, 1d ago.")
@click.option("--upto", type=Since(), metavar="WHEN", help="Not after; as --since.")
@click.option("-f", "--full", is_flag=True, help="Print whole records, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="The same as --full.")
@click.option("-e", "--exit", "exit_s", type=click.FloatRange(0), metavar="SECONDS", help="End `poll` after this time.")
@connection
def activations(
    ow: OpenWhisk,
    names: tuple[str, ...],
    limit: int,
    skip: int,
    since: int | None,
    upto: int | None,
    full: bool,
    as_json: bool,
    exit_s: float | None,
) -> None:
    """List activations, of the action NAME or of all.

    `owl activations poll` shows each new one with its logs as it ends, until Ctrl-C. (An action that is itself called
    poll is `/_/poll`.)
    """
    polling = names[:1] == (POLL,)
    chosen = names[1:] if polling else names
    if len(chosen) > 1:
        raise click.UsageError(f"one NAME at most, not {' '.join(chosen)}")
    path = EntityName.parse(chosen[0], ow.namespace).path if chosen else None
    if polling:
        follow(ow, path, since=since, exit_s=exit_s)
        return
    if exit_s is not None:
        raise click.UsageError("--exit is for `owl activations poll`")
    found = ow.activations(path, since=since, upto=upto, limit=limit, skip=skip, docs=full or as_json)
    if full or as_json:
        print_json(found)
        return
    right = ("wait", "init", "duration")
    rows = table("time", "activation", "kind", "start", "wait", "init", "duration", "status", "action", right=right)
    for record in found:
        kind = record.annotation("kind")  # triggers and rules have none: nothing was started for them
        rows.add_row(
            local_time(record.get("start")),
            plain(record.id),
            plain(kind or "-"),
            "-" if kind is None else "cold" if record.cold else "warm",
            in_ms(record.wait_ms),
            in_ms(record.init_ms),
            in_ms(record.get("duration")),
            plain(record.status),
            plain(f"{record.path}:{record.get('version', '?')}"),
        )
    console().print(rows)


@click.command(short_help="Show the record of one activation.")
@click.argument("which", metavar="[ID|NAME]", required=False)
@click.option("-l", "--last", is_flag=True, help="The newest one.")
@click.option("-r", "--result", is_flag=True, help="Print only the result.")
@connection
def activation(ow: OpenWhisk, which: str | None, last: bool, result: bool) -> None:
    """Show the record of the activation ID, or of the newest one of the action NAME."""
    record = ow.activation(_chosen(ow, which, last))
    print_json(record.result if result else record)


@click.command(short_help="Show what an activation printed.")
@click.argument("which", metavar="[ID|NAME]", required=False)
@click.option("-l", "--last", is_flag=True, help="Of the newest one.")
@click.option("-f", "--follow", "following", is_flag=True, help="Of each new one as it ends, until Ctrl-C.")
@click.option("--strip", is_flag=True, help="Without times and streams.")
@connection
def logs(ow: OpenWhisk, which: str | None, last: bool, following: bool, strip: bool) -> None:
    """Show the logs of the activation ID, or of the newest one of the action NAME.

    With --follow those of each new one, of the action NAME or of all.
    """
    if not following:
        _print(ow.logs(_chosen(ow, which, last)), strip)
        return
    if last or (which and ID.fullmatch(which)):
        raise click.UsageError("--follow shows new activations: it takes neither an ID nor --last")
    follow(ow, EntityName.parse(which, ow.namespace).path if which else None, strip=strip)


def follow(
    ow: OpenWhisk, name: str | None, *, strip: bool = False, since: int | None = None, exit_s: float | None = None
) -> None:
    """Print each activation of ``name`` (None: of all) that ends from now on, or began ``since`` (ms since 1970)."""
    shown = set() if since is not None else {record.id for record in _recent(ow, name, None)}
    ending = math.inf if exit_s is None else time.monotonic() + exit_s
    click.echo("waiting for activations; Ctrl-C ends", err=True)
    try:
        while True:
            for record in reversed(_recent(ow, name, since)):
                if record.id not in shown:
                    shown.add(record.id)
                    click.secho(f"{record.path} {record.id} {record.status} {in_ms(record.get('duration'))}", bold=True)
                    _print(ow.logs(record.id), strip)
            left = ending - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(POLL_S, left))
    except KeyboardInterrupt:
        click.echo(err=True)


def _chosen(ow: OpenWhisk, which: str | None, last: bool) -> str:
    """The id of the activation that is meant."""
    if bool(which) == last:
        raise click.UsageError("give an activation ID, the NAME of an action, or --last")
    if which and ID.fullmatch(which):
        return which
    path = EntityName.parse(which, ow.namespace).path if which else None
    newest = ow.activations(path, limit=1)
    if not newest:
        what = f"nothing ran that is called {which}" if which else "there are no activations yet"
        raise Failure(f"{what}; run an action: owl invoke {which or 'NAME'}")
    return newest[0].id


def _print(lines: list[str], strip: bool) -> None:
    for line in lines:
        click.echo(LOG_PREFIX.sub("", line) if strip else line)


def _recent(ow: OpenWhisk, name: str | None, since: int | None) -> list[Activation]:
    """What began in the last minutes: a long activation is recorded after shorter ones that began later."""
    began = int(time.time() * 1000) - LONGEST_ACTIVATION_MS
    return ow.activations(name, since=began if since is None else since, limit=0)
