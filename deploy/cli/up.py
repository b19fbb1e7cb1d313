"""`owl up`, `owl down`, `owl status`: the platform in the background."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from deploy.cli.connection import guest_key
from deploy.cli.deploying import deploy_all, load
from deploy.cli.failures import Failure
from deploy.cli.home import Home
from deploy.cli.output import console, notices, plain, table
from deploy.cli.processes import Service, remembered, running, start, wait_until_ready
from rm_agent.openwhisk import OpenWhisk, Properties, base_url
from rm_agent.openwhisk.properties import STANDALONE_PORT, format_wskprops, parse_wskprops, wskprops_path

MANAGER_PORT = 7411
START_TIMEOUT_S = 60
MANAGER_STOP_TIMEOUT_S = 15
SERVER_STOP_TIMEOUT_S = 40
# The LLM functions need more than the 512 MB that OpenWhisk allows by default.
SERVER_OPTIONS = ("--max-action-memory", "2048")
NOT_RUNNING = 3  # exit code of `status` for a service that does not run, as of systemctl
PLATFORM_IS_UP = "the platform itself is up: try again, or stop it with `owl down`"
TITLES = {"server": "platform", "manager": "resource manager"}


@click.command(short_help="Start the platform and its resource manager in the background.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of the API.  [default: {STANDALONE_PORT}]")
@click.option("--manager-port", type=click.IntRange(1, 65535), help=f"Of the manager.  [default: {MANAGER_PORT}]")
@click.option("--no-manager", is_flag=True, help="Without the resource manager.")
@click.option("--deploy", "deploying", is_flag=True, help="Deploy actions/manifest.yaml too.")
@click.option("--wskprops", is_flag=True, help="Let `wsk` use it from now on: writes ~/.wskprops.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF owl serve]")
def up(
    port: int | None,
    manager_port: int | None,
    no_manager: bool,
    deploying: bool,
    wskprops: bool,
    options: tuple[str, ...],
) -> None:
    """Start `owl serve` and `rm-agent serve` in the background and wait until they answer.

    Their state is kept in OWL_HOME (~/.owl). What follows `--` goes to `owl serve`, which lists its options with
    `owl serve --help`; for example:

    \b
      owl up -- --invocations-per-minute 6000 --action-concurrency 8
      owl up -- --containers docker
    """
    manifests = load(()) if deploying else []
    home = Home()
    home.prepare()
    with home.locked():
        server = running(home.pid_file("server"))
        if server:
            _same_port("platform", server, port)
            notices().print(f"the platform is already up at {server.url} (since {_since(server)})")
        else:
            _stop(home, "manager", MANAGER_STOP_TIMEOUT_S)  # one that outlived its platform looks after another group
            server = _start_server(home, port or STANDALONE_PORT, options)
        if not no_manager:
            _ensure_manager(home, server, manager_port)
    if deploying:
        deploy_all(OpenWhisk(server.url, guest_key()), manifests)
    if wskprops:
        path = _write_wskprops(server.url)
        notices().print(f"wrote {path}")
    _warn_of_another(server)
    click.echo(f"wsk property set --apihost {server.url} --auth {guest_key()}")


@click.command(short_help="Stop what `owl up` started.")
def down() -> None:
    """Stop the resource manager, which gives back what it lent, then the platform and all its containers."""
    home = Home()
    home.prepare()
    with home.locked():
        stopped = [
            _stop(home, "manager", MANAGER_STOP_TIMEOUT_S),
            _stop(home, "server", SERVER_STOP_TIMEOUT_S),
        ]
    if not any(stopped):
        click.echo("nothing is running")


@click.command(short_help="Show what runs.")
def status() -> None:
    """Show what `owl up` started. Exits with 3 where the platform does not run or does not answer."""
    home = Home()
    rows = table("service", "state", "url", "pid", "since", "log")
    healthy = True
    for name, title in TITLES.items():
        service = running(home.pid_file(name)) if home.path.is_dir() else None
        if service is None:
            ended = remembered(home.pid_file(name))
            log = plain(home.log(name)) if ended else "-"
            rows.add_row(title, "has died" if ended else "not running", ended.url if ended else "-", "-", "-", log)
            healthy = healthy and name != "server"
            continue
        answers = _answers(name, service)
        healthy = healthy and answers
        state = "up" if answers else "does not answer"
        rows.add_row(title, state, service.url, str(service.pid), _since(service), plain(home.log(name)))
    console().print(rows)
    if manager := running(home.pid_file("manager")):
        _print_loans(manager)
    if not healthy:
        sys.exit(NOT_RUNNING)


def _stop(home: Home, name: str, timeout_s: float) -> bool:
    """Whether there was something to stop."""
    service = running(home.pid_file(name))
    if service is None:
        home.pid_file(name).unlink(missing_ok=True)  # of one that died
        return False
    with notices().status(f"stopping the {TITLES[name]}"):
        clean = service.stop(timeout_s)
    home.pid_file(name).unlink(missing_ok=True)
    outcome = "stopped" if clean else f"killed (it did not end within {timeout_s:g} s)"
    click.echo(f"{outcome} the {TITLES[name]} at {service.url}")
    return True


def _start_server(home: Home, port: int, options: tuple[str, ...]) -> Service:
    url = f"http://localhost:{port}"
    ow = OpenWhisk(url, guest_key())
    if ow.ping():
        raise Failure(f"another OpenWhisk already answers at {url}; use it, stop it, or choose another --port")
    command = [program("owl"), "serve", "--port", str(port), "--data", str(home.data)]
    command += ["--node-socket", str(home.node_socket), "--cgroup", f"owl-{port}", *SERVER_OPTIONS, *options]
    with notices().status("starting the platform"):
        service = start(command, url, home.pid_file("server"), home.log("server"), {})
        _await(home, "server", service, ow.ping)
    notices().print(f"the platform is up at {url}, for browsers too")
    return service


def _same_port(title: str, service: Service, port: int | None) -> None:
    if port is not None and not service.url.endswith(f":{port}"):
        raise Failure(f"the {title} is already up at {service.url}; stop it with `owl down` to start it on port {port}")


def _ensure_manager(home: Home, server: Service, port: int | None) -> None:
    if manager := running(home.pid_file("manager")):
        _same_port("resource manager", manager, port)
        notices().print(f"the resource manager is already up at {manager.url} (since {_since(manager)})")
        return
    from rm_agent.cgroup import detect

    if detect() is None:
        notices().print("without root or writable cgroups nothing can be lent: the resource manager is not started")
        return
    port = port or MANAGER_PORT
    url = f"http://127.0.0.1:{port}"
    if _get(f"{url}/health") is not None:  # its answer would pass for that of the one started here
        raise Failure(
            f"another resource manager already answers at {url}; stop it, or choose another --manager-port\n{PLATFORM_IS_UP}"
        )
    command = [program("rm-agent"), "serve", "--port", str(port), "--cgroup-root", f"owl-{server.url.rpartition(':')[2]}"]
    command += ["--node-socket", str(home.node_socket), "--journal", str(home.journal)]
    # By the environment, since arguments can be read by every user of the machine.
    environment = {"OW_APIHOST": server.url, "OW_AUTH": guest_key()}
    with notices().status("starting the resource manager"):
        service = start(command, url, home.pid_file("manager"), home.log("manager"), environment)
        try:
            _await(home, "manager", service, lambda: _get(f"{url}/health") is not None)
        except Failure as failure:
            raise Failure(f"{failure.message}\n{PLATFORM_IS_UP}") from None
    notices().print(f"the resource manager is up at {url}")


def _await(home: Home, name: str, service: Service, ready: Any) -> None:
    """Wait for the first answer; a service that gives none is not left behind."""
    try:
        wait_until_ready(service, ready, home.log(name), TITLES[name], START_TIMEOUT_S)
    except BaseException:
        service.stop(SERVER_STOP_TIMEOUT_S)
        home.pid_file(name).unlink(missing_ok=True)
        raise


def _answers(name: str, service: Service) -> bool:
    return _get(service.url + ("/ping" if name == "server" else "/health")) is not None


def _print_loans(manager: Service) -> None:
    answer = _get(f"{manager.url}/state")
    if answer is None:
        return
    state = answer.json()
    running_now = sum(1 for container in state["containers"] if container["running"])
    lent = {resource: total["lent"] for resource, total in state["totals"].items()}
    console().print(
        f"\n{len(state['containers'])} containers, {running_now} running; lent are {lent.get('cpu_millis', 0)} millicores"
        f" and {lent.get('memory_mib', 0)} MiB (details: rm-agent status --port {manager.url.rpartition(':')[2]})",
        soft_wrap=True,
    )


def _get(url: str) -> Any:
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=2)
            return answer if answer.ok else None
    except requests.RequestException:
        return None


def _since(service: Service) -> str:
    return datetime.fromtimestamp(service.started).strftime("%Y-%m-%d %H:%M:%S")


def _warn_of_another(server: Service) -> None:
    """Commands follow the user's configuration, which may lead them away from what was just started."""
    configured = Properties.read().apihost
    if configured and base_url(configured) not in (server.url, server.url.replace("localhost", "127.0.0.1")):
        notices().print(f"OW_APIHOST or {wskprops_path()} names {configured}: commands use that one, unless you change it:")


def _write_wskprops(url: str) -> Path:
    """Sets host and key and leaves the rest as it is. Only this user can read it."""
    path = wskprops_path()
    try:
        values = parse_wskprops(path.read_text()) if path.exists() else {}
        written = path.with_name(path.name + ".new")
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(format_wskprops(values | {"APIHOST": url, "AUTH": guest_key()}))
        written.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot write {path}: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    return path


def program(name: str) -> str:
    """The command of this installation, else of the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise Failure(f"the command {name} is not installed; `make setup` installs it")
    return found
