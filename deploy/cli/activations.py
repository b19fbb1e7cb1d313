"""`owl activations`, `owl activation`, `owl logs`."""

from __future__ import annotations

import re
import time

import click

from deploy.cli.connection import connection
from deploy.cli.failures import Failure
from deploy.cli.output import console, in_ms, local_time, plain, print_json, table
from rm_agent.openwhisk import Activation, EntityName, OpenWhisk

POLL_S = 1.0
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
@click.argument("name", required=False)
@click.option("-l", "--limit", type=click.IntRange(0, 200), default=30, show_default=True, help="How many; 0 for 200.")
@click.option("-s", "--skip", type=click.IntRange(0), default=0, help="Pass over the newest.")
@click.option("--since", type=Since(), metavar="WHEN", help="Not before: ms since 1970, or 10m, 2h, 1d ago.")
@click.option("--json", "as_json", is_flag=True, help="Print whole records.")
@connection
def activations(ow: OpenWhisk, name: str | None, limit: int, skip: int, since: int | None, as_json: bool) -> None:
    """List activations, of the action NAME or of all."""
    path = EntityName.parse(name, ow.namespace).path if name else None
    found = ow.activations(path, since=since, limit=limit, skip=skip, docs=as_json)
    if as_json:
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
@click.argument("activation_id", metavar="[ID]", required=False)
@click.option("-l", "--last", is_flag=True, help="The newest one.")
@connection
def activation(ow: OpenWhisk, activation_id: str | None, last: bool) -> None:
    """Show the record of the activation ID."""
    print_json(ow.activation(_chosen(ow, activation_id, last)))


@click.command(short_help="Show what an activation printed.")
@click.argument("activation_id", metavar="[ID]", required=False)
@click.option("-l", "--last", is_flag=True, help="Of the newest one.")
@click.option("-f", "--follow", is_flag=True, help="Of each new one as it ends, until Ctrl-C.")
@click.option("--strip", is_flag=True, help="Without times and streams.")
@connection
def logs(ow: OpenWhisk, activation_id: str | None, last: bool, follow: bool, strip: bool) -> None:
    """Show the logs of the activation ID."""
    if follow:
        if activation_id or last:
            raise click.UsageError("--follow shows new activations: it takes neither an ID nor --last")
        _follow(ow, strip)
        return
    _print(ow.logs(_chosen(ow, activation_id, last)), strip)


def _chosen(ow: OpenWhisk, activation_id: str | None, last: bool) -> str:
    if bool(activation_id) == last:
        raise click.UsageError("give either an activation ID or --last")
    if activation_id:
        return activation_id
    newest = ow.activations(limit=1)
    if not newest:
        raise Failure("there are no activations yet; run an action: owl invoke NAME")
    return newest[0].id


def _print(lines: list[str], strip: bool) -> None:
    for line in lines:
        click.echo(LOG_PREFIX.sub("", line) if strip else line)


def _follow(ow: OpenWhisk, strip: bool) -> None:
    shown = {record.id for record in _recent(ow)}
    click.echo("waiting for activations; Ctrl-C ends", err=True)
    try:
        while True:
            for record in reversed(_recent(ow)):
                if record.id not in shown:
                    shown.add(record.id)
                    click.secho(f"{record.path} {record.id} {record.status} {in_ms(record.get('duration'))}", bold=True)
                    _print(ow.logs(record.id), strip)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        click.echo(err=True)


def _recent(ow: OpenWhisk) -> list[Activation]:
    """What began in the last minutes: a long activation is recorded after shorter ones that began later."""
    return ow.activations(since=int(time.time() * 1000) - LONGEST_ACTIVATION_MS, limit=0)
