"""`owl serve`: the embedded OpenWhisk in the foreground."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import click

from deploy.cli.signals import ending_signals
from deploy.standalone import logs, runtimes
from deploy.standalone.auth import WELL_KNOWN_USERS, User
from deploy.standalone.errors import StartError
from deploy.standalone.settings import Settings, default_data

_POSITIVE = click.IntRange(min=1)


class _Parsed(click.ParamType):
    """An option's value that ``parse`` reads; its ValueError is what the user is told."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError("a variable is NAME=VALUE")
    return key, value


def _image(text: str) -> tuple[str, str]:
    kind, _, image = text.partition("=")
    if kind not in runtimes.KINDS:
        raise ValueError(f"'{kind}' is none of the kinds {', '.join(runtimes.KINDS)}")
    if not image or not image.isprintable() or " " in image:
        raise ValueError("an image is KIND=IMAGE, for example python:3.11=openwhisk/action-python-v3.11")
    return kind, image


def _no_engine() -> str | None:
    from deploy.cli.doctor.programs import NoEngine, engine_version

    try:
        engine_version()
    except NoEngine as missing:
        return f"Docker: {missing.reason}, so no action can run; {missing.fix}"
    return None


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=3233, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, readable=False),
    help="Folder of the database.  [default: $OWL_HOME/server]",
)
@click.option("--ephemeral", is_flag=True, help="Keep everything in a temporary folder that is removed at the end.")
@click.option(
    "--user",
    "users",
    type=_Parsed("NAME=UUID:KEY", User.parse),
    multiple=True,
    help="One more user, or another key for one.",
)
@click.option("--invocations-per-minute", type=_POSITIVE, default=60, show_default=True, help="Per user.")
@click.option("--fires-per-minute", type=_POSITIVE, default=60, show_default=True, help="Per user.")
@click.option("--concurrent-invocations", type=_POSITIVE, default=30, show_default=True, help="Per user.")
@click.option(
    "--user-memory",
    "user_memory_mib",
    type=_POSITIVE,
    help="MiB for all containers together.  [default: three quarters of what is free]",
)
@click.option(
    "--max-action-memory",
    "max_action_memory_mib",
    type=click.IntRange(min=128),
    default=512,
    show_default=True,
    help="MiB that an action may ask for.",
)
@click.option(
    "--max-action-timeout-ms",
    type=click.IntRange(min=100),
    default=300_000,
    show_default=True,
    help="Longest time limit that an action may ask for.",
)
@click.option(
    "--max-action-logs",
    "max_action_logs_mib",
    type=click.IntRange(min=10),
    default=10,
    show_default=True,
    help="MiB of logs that an action may keep of one activation.",
)
@click.option(
    "--action-concurrency",
    "max_action_concurrency",
    type=click.IntRange(1, 500),
    default=1,
    show_default=True,
    help="How many calls at once an action may ask for in one container (limits.concurrency).",
)
@click.option(
    "--containers",
    type=click.Choice(["process", "docker"]),
    default="process",
    show_default=True,
    help="What runs actions: processes of this machine, or containers of the Docker Engine.",
)
@click.option(
    "--image",
    "images",
    type=_Parsed("KIND=IMAGE", _image),
    multiple=True,
    help="Image of a kind, for --containers docker.",
)
@click.option(
    "--default-cpu",
    "default_cpu_millis",
    type=_POSITIVE,
    default=1000,
    show_default=True,
    help="Millicores of an action that names none.",
)
@click.option(
    "--stem-cells",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Containers kept started for actions yet unknown.",
)
@click.option(
    "--container-env", type=_Parsed("K=V", _variable), multiple=True, help="Variable that every container gets."
)
@click.option("--node-socket", help="Socket to which containers report their activations.")
@click.option("--cgroup", help="Parent control group of the containers.  [default: owl-PORT]")
@click.option(
    "--keep-activations",
    "activation_days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Days after which records of activations are deleted; 0 keeps them for ever.",
)
@click.option(
    "--drain",
    "drain_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds that what runs has to finish once the server is told to end.",
)
@click.option("--verbose", is_flag=True, help="Log each request and activation, not only what goes wrong.")
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    help="Of what is written to stderr; json writes one object a line.",
)
def serve(
    ephemeral: bool,
    data: Path | None,
    users: tuple[User, ...],
    container_env: tuple[tuple[str, str], ...],
    images: tuple[tuple[str, str], ...],
    **options,
) -> None:
    """Run the embedded OpenWhisk in the foreground.

    SIGTERM or Ctrl-C ends it: what runs has some seconds to finish (--drain). A second one ends it at once.

    The users guest and whisk.system exist with the public keys of OpenWhisk standalone.
    """
    if ephemeral and data:
        raise click.UsageError("--ephemeral and --data exclude each other.")
    named = {user.name: user for user in (*WELL_KNOWN_USERS, *users)}
    settings = Settings(
        data=None if ephemeral else data or default_data(),
        users=tuple(named.values()),
        container_env=dict(container_env),
        images=dict(images),
        **options,
    )
    tell = functools.partial(logs.tell, format_=settings.log_format)
    logs.configure(settings.log_format, verbose=settings.verbose)
    # Imported here: the rest of the command line does not need to wait for it.
    from deploy.standalone.server import Server

    try:
        server = Server(settings)
    except StartError as error:
        raise click.UsageError(str(error)) from None

    with ending_signals(again=server.hurry) as ended:
        try:
            server.start()
        except StartError as error:
            click.echo(f"owl serve: {error}", err=True)
            raise SystemExit(1) from None
        try:
            guest = named["guest"]
            tell(
                f"OpenWhisk at {server.url}, use it with: wsk property set --apihost {server.url} "
                + ("--auth ..." if guest not in WELL_KNOWN_USERS else f"--auth {guest.api_key}")
            )
            if server.notice:
                tell(f"note: {server.notice}")
            if settings.containers == "docker" and (missing := _no_engine()):
                tell(f"note: {missing}")
            ended()
            if running := server.running:
                tell(
                    f"ending: {running} {'activation' if running == 1 else 'activations'} still running,"
                    f" {settings.drain_s:g} s to finish; a second Ctrl-C or SIGTERM ends at once"
                )
        finally:
            server.stop()
