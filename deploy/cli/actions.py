"""`owl invoke`, `owl actions`, `owl delete`."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click

from deploy.cli.connection import connection
from deploy.cli.failures import Failure
from deploy.cli.output import console, local_time, plain, print_json, table
from rm_agent.openwhisk import EntityName, OpenWhisk

STILL_RUNNING = 202  # exit code of wsk for a blocking call that outlasted the wait
ACTION_FAILED = 246  # and for a 502
PAGE = 200


def parse_value(text: str) -> Any:
    """JSON if it parses, else the text itself, as ``wsk`` does."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def read_parameters(file: str | None, pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Those of the file, then those given one by one.

    Raises:
        Failure: the file is missing or holds no JSON object.
    """
    parameters: dict[str, Any] = {}
    if file is not None:
        try:
            with click.open_file(file, encoding="utf-8") as source:
                parameters = json.load(source, parse_constant=_refuse)
        except OSError as error:
            raise Failure(f"cannot read {file}: {error.strerror}", 2) from None
        except ValueError as error:
            raise Failure(f"{file} is not JSON: {error}", 2) from None
        if not isinstance(parameters, dict):
            raise Failure(f'{file} must hold a JSON object, such as {{"name": "Owl"}}', 2)
    return parameters | {key: parse_value(value) for key, value in pairs}


@click.command(short_help="Run an action.")
@click.argument("name")
@click.option("-p", "--param", "pairs", nargs=2, multiple=True, metavar="KEY VALUE", help="Parameter; JSON or text.")
@click.option("-P", "--param-file", "file", metavar="FILE", help="JSON file of parameters; - for standard input.")
@click.option("-b/-n", "--blocking/--no-blocking", default=True, help="Wait for the result, which is the default.")
@click.option("-r", "--result", is_flag=True, help="Print only the result.")
@connection
def invoke(ow: OpenWhisk, name: str, pairs: tuple[tuple[str, str], ...], file: str | None, blocking: bool, result: bool) -> None:
    """Run the action NAME: `name`, `package/name` or `/namespace/package/name`.

    Exits with 0 when it succeeded, 246 when it failed, 202 when it still runs after a minute, as `wsk` does.
    """
    parameters = read_parameters(file, pairs)
    activation = ow.invoke(name, parameters, blocking=blocking or result)
    title = EntityName.parse(name, ow.namespace)
    if activation.pending:
        if not (blocking or result):
            click.echo(f"ok: invoked {title} with id {activation.id}")
            return
        click.echo(f"ok: invoked {title}, but it has not finished within a minute; see: owl activation {activation.id}")
        sys.exit(STILL_RUNNING)
    if result:
        print_json(activation.result)
    else:
        word = "ok" if activation.success else "error"
        click.echo(f"{word}: invoked {title} with id {activation.id}", err=not activation.success)
        print_json(activation)
    if not activation.success:
        sys.exit(ACTION_FAILED)


@click.command(short_help="List actions.")
@click.argument("package", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the API's list.")
@connection
def actions(ow: OpenWhisk, package: str | None, as_json: bool) -> None:
    """List all actions, or those of PACKAGE, newest first."""
    found: list[dict[str, Any]] = []
    while page := ow.list_actions(limit=PAGE, skip=len(found), package=package):
        found += page
        if len(page) < PAGE:
            break
    if as_json:
        print_json(found)
        return
    rows = table("action", "kind", "cpu", "memory", "timeout", "version", "updated", right=("cpu", "memory", "timeout"))
    for action in found:
        annotations = {pair["key"]: pair.get("value") for pair in action.get("annotations", ())}
        resources = annotations.get("resources")
        cpu = resources.get("cpu") if isinstance(resources, dict) else None
        limits = action.get("limits", {})
        rows.add_row(
            plain(f"/{action['namespace']}/{action['name']}"),
            plain(annotations.get("exec", "-")),
            "-" if cpu is None else f"{cpu}m",
            f"{limits.get('memory', '-')} MB",
            f"{limits.get('timeout', 0) / 1000:g} s",
            plain(action.get("version", "-")),
            local_time(action.get("updated")),
        )
    console().print(rows)


@click.command(short_help="Delete an action.")
@click.argument("name")
@connection
def delete(ow: OpenWhisk, name: str) -> None:
    """Delete the action NAME."""
    ow.delete_action(name)
    click.echo(f"ok: deleted {EntityName.parse(name, ow.namespace)}")
