"""Chooses the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose: ``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 keep all tokens.

    The same ``seed`` gives the same choices; None gives others each time.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None


class Sampler:
    """Choices of one sequence, with a random generator of its own."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def choose(self, logits: Tensor) -> int:
        """A token id from logits (vocabulary,)."""
        params = self._params
        if params.temperature == 0:
            return int(logits.argmax())
        logits = logits.float()
        # shifted first, so that a tiny temperature cannot overflow
        scores = (logits - logits.max()) / params.temperature
        ids: Tensor | None = None
        if params.top_k:
            scores, ids = scores.topk(min(params.top_k, scores.numel()))
        weights = scores.softmax(-1)
        if params.top_p < 1:
            weights, order = weights.sort(descending=True, stable=True)
            ids = order if ids is None else ids[order]
            # the token that reaches top_p is still in, so at least one remains
            weights[weights.cumsum(-1) - weights >= params.top_p] = 0
        choice = int(torch.multinomial(weights, 1, generator=self._generator))
        return choice if ids is None else int(ids[choice])
