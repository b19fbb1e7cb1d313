"""The owl command."""

from deploy.cli.commands import main

__all__ = ["main"]
