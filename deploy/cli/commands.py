"""The tree of commands."""

from __future__ import annotations

import click

from deploy.cli.failures import Failures
from deploy.cli.lazy import LazyGroup

# name: (module, attribute, what the list of commands says)
COMMANDS = {
    "up": ("deploy.cli.up", "up", "Start the platform and its resource manager in the background."),
    "down": ("deploy.cli.up", "down", "Stop what `owl up` started."),
    "status": ("deploy.cli.up", "status", "Show what runs."),
    "doctor": ("deploy.cli.doctor", "doctor", "Check what works on this machine."),
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


class Owl(Failures, LazyGroup):
    """The outermost command."""


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"owl {metadata.version('owl-serverless')}")
        ctx.exit()


@click.command("owl", cls=Owl, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def main() -> None:
    """Large language models as functions on Apache OpenWhisk.

    Start with `owl up --deploy`, then `owl invoke owl/generate -p prompt "The capital of France is"`.
    """
