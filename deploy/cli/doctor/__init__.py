"""`owl doctor`: what this machine has, and what would not work on it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
from rich.table import Table

from deploy.cli.doctor.checks import examine
from deploy.cli.doctor.finding import Finding, State
from deploy.cli.output import console, notices, plain, print_json

__all__ = ["doctor"]
STYLES = {State.OK: "green", State.NOTE: "dim", State.WARNING: "yellow", State.FAILS: "bold red"}


@click.command(short_help="Check what works on this machine.")
@click.option("--quick", is_flag=True, help="Without the self test, which starts a server for a moment.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(quick: bool, as_json: bool) -> None:
    """Check what works on this machine, and say how to get the rest.

    A server of its own is started on a free port for the self test and removed again; nothing else is changed. Exits
    with 1 where the platform could not work; notes and warnings do not count.
    """
    with notices().status("looking around"):
        findings = list(examine(quick))
    fit = all(finding.state is not State.FAILS for finding in findings)
    if as_json:
        print_json({"ok": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        console().print(_table(findings))
    if not fit:
        sys.exit(1)


def _table(findings: list[Finding]) -> Table:
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for finding in findings:
        text = plain(finding.text)
        if finding.fix:
            text.append("\n-> ").append_text(plain(finding.fix))
        made.add_row(f"[{STYLES[finding.state]}]{finding.state}", finding.check, text)
    return made
