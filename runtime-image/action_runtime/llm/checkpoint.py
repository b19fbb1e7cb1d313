"""A model folder's weights: one safetensors file or the shards its index names."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from action_runtime.llm.errors import ModelError
from action_runtime.llm.safetensors_file import MappedTensors, SafetensorsError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Checkpoint:
    """Hands out weights by name and shape and remembers what was not asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._files = [MappedTensors(path) for path in _shards(folder)]
        except SafetensorsError as error:
            raise ModelError(f"{error}; prepare the model again") from None
        except OSError as error:
            raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from None
        self._home = {name: file for file in self._files for name in file.tensors}
        self._left = set(self._home)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The named tensor; raises ModelError when it is absent or of another shape."""
        if name not in self._home:
            raise ModelError(f"{self.folder.name}: weight {name!r} is missing")
        tensor = self._home[name].tensors[name]
        if tensor.shape != shape:
            raise ModelError(f"{self.folder.name}: weight {name!r} is {list(tensor.shape)}, expected {list(shape)}")
        self._left.discard(name)
        return tensor

    def take_stacked(self, parts: list[tuple[str, tuple[int, int]]]) -> tuple[Tensor, ...]:
        """Matrices that share their input, as one where the file stores them side by side, else one by one."""
        single = tuple(self.take(name, shape) for name, shape in parts)
        homes = {id(self._home[name]) for name, _ in parts}
        stacked = self._home[parts[0][0]].stacked(name for name, _ in parts) if len(homes) == 1 else None
        return single if stacked is None else (stacked,)

    def finish(self, ignore: tuple[str, ...] = ()) -> None:
        """Raise ModelError if the files hold a weight that nobody took and whose name ends with none of ``ignore``."""
        unused = sorted(name for name in self._left if not name.endswith(ignore))
        if unused:
            raise ModelError(f"{self.folder.name}: weight {unused[0]!r} has no place in this architecture")

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights; raises ModelError if they are mixed."""
        kinds = {tensor.dtype for file in self._files for tensor in file.tensors.values()}
        if len(kinds) != 1:
            raise ModelError(f"{self.folder.name}: weights of mixed types ({', '.join(sorted(map(str, kinds)))})")
        return kinds.pop()


def _shards(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    except FileNotFoundError:
        raise ModelError(f"{folder} holds neither {SINGLE} nor {INDEX}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ModelError(f"{folder / INDEX} is damaged") from None
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{folder / INDEX} names a file outside its folder: {name!r}")
        if not (folder / name).exists():
            raise ModelError(f"{folder / name} is missing")
    return [folder / name for name in names]
