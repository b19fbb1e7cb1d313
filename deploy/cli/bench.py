"""`owl bench NAME`: a subcommand per benchmark, with the options of its ``run``."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import click

from deploy.cli.failures import Failure
from deploy.cli.output import console

COMMON = frozenset({"quick", "json", "report", "console"})


class Benches(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        from workloads.bench import BENCHES

        return sorted(BENCHES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from workloads.bench import BENCHES

        return _command(name, BENCHES[name]) if name in BENCHES else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            available = ", ".join(self.list_commands(ctx))
            raise Failure(f"there is no benchmark '{args[0]}'; available: {available}", 2) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from workloads.bench import BENCHES

        with formatter.section("Benchmarks"):
            formatter.write_dl(sorted(BENCHES.items()))


def _command(name: str, summary: str) -> click.Command:
    from workloads.bench import BenchError

    try:
        run = importlib.import_module(f"workloads.bench.{name}").run
    except ModuleNotFoundError as error:
        raise Failure(f"the benchmark '{name}' needs the package {error.name}: `make setup` installs it") from None

    def callback(**options: Any) -> None:
        try:
            run(console=console(), **options)
        except BenchError as error:
            raise Failure(str(error)) from None

    options: list[click.Parameter] = [
        click.Option(["--quick"], is_flag=True, help="Fewer and shorter runs, the same figures."),
        click.Option(["--json"], type=click.Path(path_type=Path, dir_okay=False), help="Write figures and samples here."),
        click.Option(["--report"], type=click.Path(path_type=Path, file_okay=False), help="Folder for report.html."),
    ]
    helps = _explained(inspect.getdoc(run) or "")
    for parameter in inspect.signature(run, eval_str=True).parameters.values():
        if parameter.name not in COMMON and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            options.append(_option(parameter, helps.get(parameter.name)))
    return click.Command(name, callback=callback, params=options, help=f"{summary[:1].upper()}{summary[1:]}.")


def _explained(docstring: str) -> dict[str, str]:
    """What the section ``Args:`` says of each keyword, as a sentence."""
    section = re.search(r"^Args:\n((?: +.*\n?)+)", docstring, re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE) if section else []
    texts = {name: " ".join(text.replace("``", "").split()) for name, text in found}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


def _option(parameter: inspect.Parameter, explained: str | None) -> click.Option:
    """The command-line form of a keyword of ``run``: ``pairs: int | None = None`` is ``--pairs INTEGER``."""
    flag = "--" + parameter.name.replace("_", "-")
    kind = parameter.annotation
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if kind is bool:
        return click.Option([flag], is_flag=True, default=parameter.default, help=explained)
    default = parameter.default
    if typing.get_origin(kind) is typing.Literal:
        accepted: object = click.Choice(typing.get_args(kind))
    else:
        accepted = click.Path(path_type=Path) if kind is Path else kind
    return click.Option([flag], type=accepted, default=default, show_default=default is not None, help=explained)


@click.group(cls=Benches, short_help="Measure and compare.")
def bench() -> None:
    """Run a benchmark: peers, baselines and ours in the same run.

    With --json the figures and all samples are written, with --report a page with plots. `owl bench NAME --help`
    lists the settings of one.
    """
