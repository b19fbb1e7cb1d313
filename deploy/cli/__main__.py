"""``python -m deploy.cli``, the same as ``owl``."""

from deploy.cli import main

main(prog_name="owl")
