"""`owl deploy`, `owl undeploy`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy import manifest as manifests
from deploy.cli.connection import connection
from deploy.cli.failures import Failure
from rm_agent.openwhisk import OpenWhisk

MANIFEST = "manifest.yaml"


def default_manifest() -> Path:
    """``actions/manifest.yaml`` of the checkout.

    Raises:
        Failure: this is an installation without one.
    """
    path = Path(__file__).resolve().parents[2] / "actions" / MANIFEST
    if not path.is_file():
        raise Failure(f"there is no {path}: name a manifest with -m FILE", 2)
    return path


def load(paths: tuple[Path, ...]) -> list[manifests.Manifest]:
    try:
        return [manifests.load(path / MANIFEST if path.is_dir() else path) for path in paths or (default_manifest(),)]
    except manifests.ManifestError as error:
        raise Failure(str(error), 2) from None


def deploy_all(ow: OpenWhisk, loaded: list[manifests.Manifest]) -> None:
    for manifest in loaded:
        manifests.apply(manifest, ow, _progress)


def _progress(entity: manifests.Entity, outcome: str) -> None:
    click.echo(f"{outcome:<8} {entity}")


_manifest_option = click.option(
    "-m",
    "--manifest",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Manifest, or the folder of one; several are taken in order. [default: actions/manifest.yaml]",
)


@click.command(short_help="Deploy the packages of a manifest.")
@_manifest_option
@connection
def deploy(ow: OpenWhisk, paths: tuple[Path, ...]) -> None:
    """Create or update the packages, actions, sequences, triggers and rules of a manifest in wskdeploy's format.

    All manifests are read and checked before anything is sent. What only the server knows (its kinds, its limits), it
    judges when it is asked; what was sent before then stays.
    """
    deploy_all(ow, load(paths))


@click.command(short_help="Remove what a manifest describes.")
@_manifest_option
@connection
def undeploy(ow: OpenWhisk, paths: tuple[Path, ...]) -> None:
    """Delete what the manifest describes, last first. What is not there is passed over."""
    for manifest in reversed(load(paths)):
        manifests.remove(manifest, ow, _progress)
