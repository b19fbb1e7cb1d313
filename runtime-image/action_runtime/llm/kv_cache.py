"""Keys and values of the tokens a sequence has seen so far."""

from __future__ import annotations

import torch
from torch import Tensor

from action_runtime.llm.config import ModelConfig


class KVCache:
    """Room for ``capacity`` tokens of one sequence, allocated once; pages are touched as tokens arrive.

    Per layer, keys and values are (kv_heads, capacity, head_size).
    """

    def __init__(self, config: ModelConfig, capacity: int, dtype: torch.dtype) -> None:
        shape = (config.layers, config.kv_heads, capacity, config.head_size)
        self._keys = torch.empty(shape, dtype=dtype).unbind()
        self._values = torch.empty(shape, dtype=dtype).unbind()
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (count, kv_heads, head_size) after the ``length`` tokens held.

        Returns all keys and values of the layer, (kv_heads, length + count, head_size), as views.
        """
        start, end = self.length, self.length + keys.shape[0]
        all_keys, all_values = self._keys[layer], self._values[layer]
        all_keys[:, start:end] = keys.transpose(0, 1)
        all_values[:, start:end] = values.transpose(0, 1)
        return all_keys[:, :end], all_values[:, :end]

    def advance(self, count: int) -> None:
        """Count ``count`` tokens as held, once every layer has appended them."""
        self.length += count
