"""What a container is made of: the one thing that decides which actions it could ever serve."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deploy.standalone import runtimes
from deploy.standalone.invoker.settings import InvokerSettings
from deploy.standalone.model import Runnable

_IMAGES = {runtime["kind"]: runtime["image"] for family in runtimes.RUNTIMES.values() for runtime in family}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


class UnknownKind(Exception):
    """This server has no runtime for the kind; the message says so."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """A managed kind, made of a process or of an image, or the image of a blackbox action.

    Two containers that no action has claimed yet are interchangeable only for equal flavours.
    """

    kind: str | None  # "python:3.11"; None: a blackbox action's own image
    image: str | None  # what Docker starts; None: a process of this machine

    @property
    def managed(self) -> bool:
        """Whether it may have stem cells: an image of a user's own never does, as in OpenWhisk."""
        return self.kind is not None

    @property
    def stem_label(self) -> str:
        """``prewarm_python311``, for names of containers. Managed flavours only."""
        assert self.kind is not None
        return f"prewarm_{_NOT_IN_A_NAME.sub('', self.kind)}"


def of_kind(kind: str, settings: InvokerSettings) -> Flavour:
    """Raises :class:`UnknownKind`."""
    if kind not in runtimes.KINDS:
        raise UnknownKind(f"This server has no runtime for the kind '{kind}'.")
    if settings.containers == "docker":
        return Flavour(kind, settings.images.get(kind) or _IMAGES[kind])
    return Flavour(kind, None)


def of_action(action: Runnable, settings: InvokerSettings) -> Flavour:
    """Raises :class:`UnknownKind`."""
    if action.image is not None:
        return Flavour(None, action.image)
    return of_kind(action.kind, settings)


def default(settings: InvokerSettings) -> Flavour:
    """The flavour that has stem cells from the start."""
    kind = runtimes.resolve("python:default")
    assert kind is not None
    return of_kind(kind, settings)
