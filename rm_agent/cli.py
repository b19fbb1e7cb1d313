"""The ``rm-agent`` command."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import click

from rm_agent.journal import JournalError, audit, history

DEFAULT_PORT = 7411
RESOURCES = {
    "cpu_millis": "millicores",
    "memory_mib": "MiB",
    "gpu_percent": "% of the GPU",
    "gpu_memory_mib": "MiB of GPU memory",
}


def home() -> Path:
    return Path(os.environ.get("OWL_HOME") or Path.home() / ".owl")


def _port() -> int:
    """The port of the agent that `owl up` started with this OWL_HOME, else the usual one."""
    try:
        url = json.loads((home() / "manager.pid").read_text())["url"]
        return urlsplit(url).port or DEFAULT_PORT
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return DEFAULT_PORT


_port_option = click.option(
    "--port", type=click.IntRange(1, 65535), default=_port, help="Of the agent.  [default: that of `owl up`, else 7411]"
)


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Harvests idle CPU and memory of OpenWhisk actions on this node and lends them to starved ones."""


@main.command()
@click.option("--cgroup-root", default="owl-3233", show_default=True, help="Group whose children are the containers.")
@click.option(
    "--node-socket", type=click.Path(path_type=Path), help="Where runtimes report.  [default: OWL_HOME/node/node.sock]"
)
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), help="[default: OWL_HOME/journal.db]")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="On 127.0.0.1; 0 takes any."
)
@click.option("--policy", default="harvest", show_default=True, type=click.Choice(["harvest", "fixed"]))
@click.option(
    "--interval-ms",
    default=100,
    show_default=True,
    type=click.IntRange(20, 60_000),
    help="Between rounds of the policy.",
)
@click.option("--dry-run", is_flag=True, help="Decide and journal, but change nothing.")
@click.option("--apihost", help="OpenWhisk API, for the activation records.  [default: OW_APIHOST or wsk properties]")
@click.option("--auth", help="Key uuid:key.  [default: OW_AUTH or wsk properties]")
@click.option("--verbose", is_flag=True)
def serve(
    cgroup_root: str,
    node_socket: Path | None,
    journal: Path | None,
    port: int,
    policy: str,
    interval_ms: int,
    dry_run: bool,
    apihost: str | None,
    auth: str | None,
    verbose: bool,
) -> None:
    """Manage the containers of this node until SIGTERM; then each has its own allocation."""
    # The other commands answer at once because they do not import the service.
    from rm_agent.http import PortInUse
    from rm_agent.openwhisk import ConfigurationError, OpenWhisk
    from rm_agent.service import CannotServe, Service, Settings
    from rm_agent.telemetry.reports import SocketInUse

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("urllib3", "waitress.queue"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        api = OpenWhisk.from_environment(apihost, auth, timeout=10)
    except ConfigurationError:
        api = None  # control groups and reports are enough
    settings = Settings(
        cgroup_root=cgroup_root,
        journal=journal or home() / "journal.db",
        node_socket=node_socket or home() / "node" / "node.sock",
        port=port,
        policy=policy,
        interval_s=interval_ms / 1000,
        dry=dry_run,
        api=api,
    )
    try:
        service = Service(settings)
    except (CannotServe, JournalError, SocketInUse, PortInUse, ValueError) as error:
        _fail(str(error))
    service.run()


@main.command()
@_port_option
@click.option("--json", "as_json", is_flag=True)
def status(port: int, as_json: bool) -> None:
    """Containers of the running agent: own and current allocation, use, loans."""
    state = _get(port, "/state")
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    # A pipe has no width, and a name that is cut cannot be asked for.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"policy {state['policy']}{' (dry run)' if state['dry'] else ''}, group {state['root']}")
    table = Table(box=None)
    for title in ("container", "action", "", "CPU own", "now", "used", "MiB own", "now", "used"):
        right = title in ("CPU own", "MiB own", "now", "used")
        table.add_column(title, justify="right" if right else "left", no_wrap=title == "container")
    for container in state["containers"]:
        row = [container["name"], container["action"], "running" if container["running"] else "idle"]
        for resource in ("cpu_millis", "memory_mib"):
            row += [str(container[part][resource]) for part in ("own", "alloc", "usage")]
        table.add_row(*row)
    console.print(table)
    for loan in state["loans"]:
        unit = RESOURCES[loan["resource"]]
        console.print(f"{loan['donor']} lends {loan['borrower']} {loan['amount']} {unit}", highlight=False)


@main.command()
@click.argument("name", metavar="CONTAINER|ACTION")
@_port_option
@click.option("--journal", type=click.Path(path_type=Path), help="Ask this journal and not the running agent.")
def explain(name: str, port: int, journal: Path | None) -> None:
    """Why a container has what it has."""
    if journal is not None:
        try:
            moves = [asdict(move) for move in history(journal, name)]
        except JournalError as error:
            _fail(str(error))
        if not moves:
            _fail(f"{journal} knows nothing of {name}")
        _echo_history(moves)
        return
    for container in _get(port, f"/explain?container={quote(name, safe='')}"):
        doing = "running" if container["running"] else "idle"
        click.echo(f"{container['name']} ({container['action'] or 'unknown action'}), {doing}")
        for resource, unit in RESOURCES.items():
            own, has = container["own"][resource], container["alloc"][resource]
            if own:
                click.echo(
                    f"  has {has} of its own {own} {unit}" if has <= own else f"  has {has} {unit}, its own are {own}"
                )
        click.echo(f"  {container['reason'] or 'no decision yet'}")
        _echo_history(container["history"])


@main.command(name="audit")
@click.option("--journal", type=click.Path(path_type=Path), help="[default: OWL_HOME/journal.db]")
@click.option("--json", "as_json", is_flag=True)
def audit_command(journal: Path | None, as_json: bool) -> None:
    """Replay the journal and check that never more was given out than owned. Exit code 1 when it was."""
    path = journal or home() / "journal.db"
    try:
        result = audit(path)
    except JournalError as error:
        _fail(str(error))
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        click.echo(f"{result.transitions} transitions of {result.containers} containers in {result.sessions} sessions")
        lent_cpu, lent_memory = result.lent_cpu_millis_s / 1000, result.lent_memory_mib_s / 1024
        click.echo(f"lent: {lent_cpu:.1f} core-seconds, {lent_memory:.1f} GiB-seconds")
        click.echo(f"calls: {result.activations}, of which {result.harvested} lent and {result.accelerated} borrowed")
        click.echo(f"violations of conservation: {result.violations}")
        for finding in result.findings:
            click.echo(f"  {finding}")
    sys.exit(1 if result.violations else 0)


def _echo_history(moves: list[dict[str, Any]]) -> None:
    for move in moves:
        when = time.strftime("%H:%M:%S", time.localtime(move["time_s"])) + f".{int(move['time_s'] % 1 * 1000):03d}"
        change = f"{move['before']} -> {move['after']}" if move["before"] != move["after"] else str(move["after"])
        click.echo(f"  {when} {move['kind']:8} {move['resource']} {change}: {move['reason']}")


def _get(port: int, path: str) -> Any:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)
    except HTTPError as error:
        _fail(str(json.load(error).get("error", error)))
    except (URLError, OSError, ValueError):
        _fail(f"no agent answers on port {port}: start one with `rm-agent serve` or use --port")


if __name__ == "__main__":
    main()
