"""Chooses the donors of a loan, after Libra's harvest pool (Yu et al., HPDC 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Offer(NamedTuple):
    """What one container can spare now."""

    donor: str
    amount: int
    until: float  # predicted time at which the donor needs or returns it; ``inf`` for an idle container
    stamp: int = 0  # the donor's state to which the offer applies


def draw(offers: Iterable[Offer], amount: int) -> list[tuple[str, int]]:
    """Split ``amount`` over donors, the latest predicted end first, the larger offer first among equals.

    Few large loans are preferred over many: each loan is a cgroup to shrink when its owner comes back. Returns
    ``(donor, amount)`` pairs whose sum is at most ``amount``.
    """
    taken = []
    for offer in sorted(offers, key=lambda offer: (-offer.until, -offer.amount, offer.donor)):
        if amount <= 0:
            break
        part = min(offer.amount, amount)
        if part > 0:
            taken.append((offer.donor, part))
            amount -= part
    return taken
