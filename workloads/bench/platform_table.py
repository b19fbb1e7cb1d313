"""What `owl bench platform` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workloads.bench.platform_figures import FIGURES, met
from workloads.bench.table import number

SIGNS = {"==": "", "<=": "\N{LESS-THAN OR EQUAL TO} ", ">=": "\N{GREATER-THAN OR EQUAL TO} "}


def shown(value: float | None) -> str:
    return number(math.nan if value is None else value)


def target(key: str) -> str:
    wanted = FIGURES[key].target
    return f"{SIGNS[wanted[0]]}{number(wanted[1])}" if wanted else ""


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know: what was left out, and what was found."""
    samples = document["samples"]
    found = []
    if document["settings"]["parts"] != "all":
        found.append(f"Only `{document['settings']['parts']}` was measured.")
    if "replay" in samples and samples["replay"] is None:
        found.append(
            "There are no recordings (OWL_SHARED names the folder that holds transcripts/): nothing was replayed."
        )
    elif "replay" in samples:
        if samples["replay"]["skipped"]:
            found.append(
                "No Docker Engine with the image of the recordings: the exchanges that invoke it were left out."
            )
        found += [f"{name}: {one['differences']} of {one['exchanges']} exchanges differ" for name, one in
                  samples["replay"]["files"].items() if one["differences"]]  # fmt: skip
    if "soak" in samples:
        soak = samples["soak"]
        found += [f"lost: {activation} has no record" for activation in soak["missing"][:5]]
        found += [f"lost: {activation}: {reason}" for activation, reason in soak["wrong"][:5]]
        found += [f"twice: {what}" for what in soak["twice"][:5]]
        found += [f"not started at once after a kill: {why}" for why in soak["refused_starts"][:5]]
        found += [f"the server's log: {line.splitlines()[0]}" for line in soak["defects"][:5]]
    if "fuzz" in samples:
        fuzz = samples["fuzz"]
        found += [f"{fault['answer'][:200]} to {fault['sent'][:200]}" for fault in fuzz["faults"][:5]]
        found += [f"the server's log: {line.splitlines()[0]}" for line in fuzz["defects"][:5]]
        if not fuzz["alive"]:
            found.append("After the fuzzing the server did not work as before.")
    return found


def summary(console: Console, document: Mapping[str, Any]) -> None:
    """Print a line per figure with its target, and everything that the figures leave out."""
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="OpenWhisk: measured once on such a machine (standalone, Docker invoker), not in this run",
        caption_justify="left",
    )
    table.add_column("figure")
    for title in ("value", "asked", "OpenWhisk"):
        table.add_column(title, justify="right", no_wrap=True)
    for key, value in document["figures"].items():
        if value is None and document["settings"]["parts"] != "all":
            continue
        reached = met(key, value)
        colour = "default" if reached is None else "green" if reached else "red"
        reference = FIGURES[key].openwhisk
        table.add_row(key, f"[{colour}]{shown(value)}[/]", target(key), number(reference) if reference else "")
    console.print(table)
    for note in notes(document):
        console.print(escape(note), highlight=False, soft_wrap=True)
