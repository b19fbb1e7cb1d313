"""The command's tree. A subcommand's module is imported when it is used, so that ``owl --help`` is quick."""

from __future__ import annotations

import importlib
from importlib import metadata

import click

from deploy.cli.failures import Failures

# name: (module, attribute, what the list of commands says)
COMMANDS = {
    "up": ("deploy.cli.up", "up", "Start the platform and its resource manager in the background."),
    "down": ("deploy.cli.up", "down", "Stop what `owl up` started."),
    "status": ("deploy.cli.up", "status", "Show what runs."),
    "serve": ("deploy.cli.serve", "serve", "Run the embedded OpenWhisk in the foreground."),
    "deploy": ("deploy.cli.deploying", "deploy", "Deploy the packages of a manifest."),
    "undeploy": ("deploy.cli.deploying", "undeploy", "Remove what a manifest describes."),
    "invoke": ("deploy.cli.actions", "invoke", "Run an action."),
    "actions": ("deploy.cli.actions", "actions", "List actions."),
    "delete": ("deploy.cli.actions", "delete", "Delete an action."),
    "activations": ("deploy.cli.activations", "activations", "List what ran, newest first."),
    "activation": ("deploy.cli.activations", "activation", "Show the record of one activation."),
    "logs": ("deploy.cli.activations", "logs", "Show what an activation printed."),
    "model": ("deploy.cli.prepare", "model", "Models of the LLM functions."),
    "inputs": ("deploy.cli.prepare", "inputs", "Input files of the classic functions."),
    "bench": ("deploy.cli.bench", "bench", "Measure and compare."),
}


class LazyGroup(Failures, click.Group):
    """Knows its commands by name and summary only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"owl {metadata.version('owl-serverless')}")
        ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def main() -> None:
    """Large language models as functions on Apache OpenWhisk.

    Start with `owl up --deploy`, then `owl invoke owl/generate -p prompt "Hello"`.
    """
