"""Safetensors files, mapped read-only, and a writer that keeps the order of its tensors.

The loader of the safetensors package hands out each tensor as a storage of its own in a
writable mapping. A decoder wants more: memory that no code of this process can change, and
neighbours in the file (query, key and value) seen as one matrix without a copy. Format:
8 bytes little-endian header length, a JSON header, the data.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT = 64
LARGEST_HEADER = 100 * 2**20


class SafetensorsError(ValueError):
    """The file is truncated, malformed or holds a data type that is not a float."""


class MappedTensors:
    """Tensors of one file, views of one read-only mapping: a write to them ends the process that tries.

    ``tensors`` maps names to tensors in file order. Pages are shared by all processes that map the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            entries, self._start = _header(path, file)
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._spans = {name: (begin, end) for name, (_, _, begin, end) in entries.items()}
        self.tensors = {
            name: self._view(begin, end, dtype).view(shape) for name, (dtype, shape, begin, end) in entries.items()
        }

    def stacked(self, names: Iterable[str]) -> Tensor | None:
        """Matrices stored one after the other as a single one, rows stacked, without a copy; None if they are apart."""
        names = list(names)
        parts = [self.tensors[name] for name in names]
        spans = [self._spans[name] for name in names]
        apart = any(left[1] != right[0] for left, right in zip(spans, spans[1:]))
        if apart or len({(part.dtype, part.shape[1:]) for part in parts}) != 1:
            return None
        rows = sum(part.shape[0] for part in parts)
        return self._view(spans[0][0], spans[-1][1], parts[0].dtype).view(rows, *parts[0].shape[1:])

    def _view(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        with warnings.catch_warnings():
            # torch warns that it cannot mark a tensor read-only; the mapping itself enforces it
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            count = (end - begin) // dtype.itemsize
            if count == 0:
                return torch.empty(0, dtype=dtype)
            return torch.frombuffer(self._map, dtype=dtype, count=count, offset=self._start + begin)


def write(path: Path, tensors: Iterable[tuple[str, Tensor]], metadata: dict[str, str] | None = None) -> None:
    """Write float tensors to ``path`` in the given order, data aligned to 64 bytes."""
    tensors = [(name, tensor.detach().contiguous()) for name, tensor in tensors]
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    position = 0
    for name, tensor in tensors:
        end = position + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors:
            file.write(memoryview(tensor.view(torch.uint8).view(-1).numpy()))


Entry = tuple[torch.dtype, tuple[int, ...], int, int]


def _header(path: Path, file: BinaryIO) -> tuple[dict[str, Entry], int]:
    size = path.stat().st_size
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(size - 8, LARGEST_HEADER):
        raise SafetensorsError(f"{path} is not a safetensors file or is truncated ({size} bytes)")
    try:
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        entries = {name: _entry(value) for name, value in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SafetensorsError(f"{path} has a damaged header: {error}") from None
    expected = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != expected:
            raise SafetensorsError(f"{path}: the data of {name!r} starts at {begin}, expected {expected}")
        expected = end
    if 8 + length + expected != size:
        raise SafetensorsError(f"{path} is truncated or padded: {size} bytes instead of {8 + length + expected}")
    return dict(sorted(entries.items(), key=lambda item: item[1][2])), 8 + length


def _entry(value: dict[str, object]) -> Entry:
    kind, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if kind not in DTYPES:
        raise ValueError(f"data type {kind} is not supported, only {', '.join(DTYPES)}")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("sizes must be whole numbers")
    if end - begin != math.prod(shape) * DTYPES[kind].itemsize:
        raise ValueError(f"{end - begin} bytes do not hold a {kind} tensor of shape {list(shape)}")
    return DTYPES[kind], shape, begin, end
