"""Low-rank updates (LoRA) of a decoder's linear layers, applied beside the shared weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """``y += B (A x)`` for one linear layer.

    ``a`` is (rank, inputs), ``b`` is (outputs, rank) with the adapter's scale multiplied in.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True)
class Adapter:
    """Updates of one adapter: per layer, from the layer's linear name (``q_proj``) to its update."""

    name: str
    layers: tuple[Mapping[str, LowRank], ...]

    @property
    def nbytes(self) -> int:
        """Memory of the adapter's matrices."""
        return sum(update.a.nbytes + update.b.nbytes for layer in self.layers for update in layer.values())
