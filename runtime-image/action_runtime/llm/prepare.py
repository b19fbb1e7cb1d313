"""``python -m action_runtime.llm.prepare [MODEL]``: make a model ready to be served, once per machine."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from action_runtime.llm.errors import ModelError
from action_runtime.llm.model_store import CHECKSUMS, DEFAULT_MODEL, prepare


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
def main(model: str) -> None:
    """Convert MODEL (a name, or a path to a Hugging Face folder) into the cache, or verify it is there."""
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"Preparing {model}", total=None)

        def convert(source: Path, target: Path) -> None:
            from action_runtime.llm.gguf_import import convert as gguf

            gguf(source, target, lambda done, total: progress.update(task, completed=done, total=total))

        def waiting() -> None:
            progress.update(task, description=f"Waiting for another process that prepares {model}")

        try:
            folder = prepare(model, convert=convert, waiting=waiting)
        except ModelError as error:
            raise click.ClickException(str(error)) from None
    state = "ready, checksums match" if (folder / CHECKSUMS).exists() else "ready"
    console.print(f"Model {model}: {state} ({folder})", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main(prog_name="python -m action_runtime.llm.prepare")
