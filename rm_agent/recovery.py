"""Gives every container on record its own allocation back, after an agent that did not end in good order."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rm_agent.actuators import Actuator, ActuatorError, ContainerGone
from rm_agent.harvest import Allocation
from rm_agent.journal import Journal, Known

log = logging.getLogger(__name__)


class Recovered(NamedTuple):
    containers: int  # on record and still there
    resized: int  # writes that were needed
    refused: int  # writes that the kernel refused


def recover(journal: Journal, actuator: Actuator, reason: str, patience_s: float = 1.0) -> Recovered:
    """Restore what differs from its own, borrowers first, and forget the containers that are gone.

    A shrink that is refused (memory in use) is tried again until ``patience_s`` is over; owners do not wait for it
    longer than that. A journal that can only be read is no reason to leave anything undone.
    """
    present: list[tuple[Known, Allocation]] = []
    gone: list[Known] = []
    for known in journal.in_charge():
        try:
            if actuator.identity(known.path) != known.identity:
                raise ContainerGone(known.path)
            present.append((known, actuator.read(known.path)))
        except ContainerGone:
            gone.append(known)
        except ActuatorError as error:
            # What cannot be read is written: its own allocation is right whatever it has now.
            log.warning("%s", error)
            present.append((known, Allocation()))
    resized = refused = 0
    deadline = time.monotonic() + patience_s
    for grows in (False, True):
        if grows:
            # Only now, since what was lent to a container that is gone would seem to be owned by nobody.
            for known in gone:
                _try_to_record(partial(journal.forget, known))
        for known, has in present:
            for resource in actuator.resources:
                own, now = getattr(known.own, resource), getattr(has, resource)
                unlimited = now == 0
                if own == 0 or own == now or grows == (now > own or unlimited):
                    continue
                _try_to_record(partial(journal.restored, known, resource, now, reason))
                while True:
                    try:
                        actuator.apply(known.path, resource, own)
                        resized += 1
                        break
                    except ContainerGone:
                        break
                    except ActuatorError as error:
                        if grows or time.monotonic() >= deadline:
                            refused += 1
                            log.warning("%s of %s stays at %d: %s", resource, known.path, now, error)
                            break
                        time.sleep(0.02)
    return Recovered(len(present), resized, refused)


def _try_to_record(write: Callable[[], None]) -> None:
    try:
        write()
    except sqlite3.Error as error:
        log.error("the journal cannot be written: %s", error)
