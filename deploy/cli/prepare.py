"""`owl model prepare`, `owl inputs prepare`: what is made once per machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deploy.cli.failures import Failure
from deploy.cli.lazy import LazyGroup
from deploy.cli.output import notices

MODEL_COMMANDS = {"prepare": ("action_runtime.llm.prepare", "main", "Make a model ready to be served.")}


def cache() -> Path:
    """``$OWL_CACHE``, ``~/.cache/owl`` by default."""
    return Path(os.environ.get("OWL_CACHE") or Path.home() / ".cache" / "owl")


@click.group(cls=LazyGroup, lazy=MODEL_COMMANDS, short_help="Models of the LLM functions.")
def model() -> None:
    """Models that the LLM functions serve, in OWL_CACHE (~/.cache/owl)."""


@click.group(short_help="Input files of the classic functions.")
def inputs() -> None:
    """Photos, clips, pages and sequences that the ten classic functions work on."""


@inputs.command("prepare", short_help="Make the input files.")
def prepare_inputs() -> None:
    """Make the input files in OWL_CACHE (~/.cache/owl) if they are not there yet."""
    from workloads.inputs import InputsError, prepare

    with notices().status("making the input files") as status:

        def progress(done: int, total: int, what: str) -> None:
            status.update(f"making the input files: {done + 1} of {total}, {what}")

        try:
            folder = prepare(cache(), progress)
        except InputsError as error:
            raise Failure(str(error)) from None
    click.echo(f"inputs are in {folder}")
