"""All checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from deploy.cli.doctor.configuration import configuration
from deploy.cli.doctor.enforcement import cgroups
from deploy.cli.doctor.finding import Finding, warning
from deploy.cli.doctor.models import model, torch
from deploy.cli.doctor.port import port
from deploy.cli.doctor.programs import docker, node, wsk
from deploy.cli.doctor.selftest import selftest
from deploy.cli.doctor.storage import folder, memory
from deploy.cli.doctor.system import clock, descriptors, python

Check = Callable[[], Finding | Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    python, memory, folder, descriptors, clock, cgroups, port, configuration, docker, node, wsk, torch, model,
)  # fmt: skip


def examine(quick: bool) -> Iterator[Finding]:
    """The findings as they come; the self test is the last, so that its times are its own."""
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        for findings in threads.map(_guarded, CHECKS):
            yield from findings
    if not quick:
        yield from _guarded(selftest)


def _guarded(check: Check) -> list[Finding]:
    """A check that fails itself says so and stops no other."""
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # noqa: BLE001 - whatever this machine is like
        text = f"could not be found out: {type(error).__name__}: {error}"
        return [warning(check.__name__, text, "look at what it needs by hand")]
