"""Reads LoRA adapters in PEFT's format, strictly: every tensor finds its layer or the adapter is refused.

An adapter is the folder ``OWL_CACHE/adapters/<name>/`` with ``adapter_config.json`` and
``adapter_model.safetensors``. Any rank and any subset of the decoder's linear layers; rank
and alpha patterns and rank-stabilised scaling are honoured. What would change the result and
is not implemented here (DoRA, biases, other modules saved along) is an error, never ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from action_runtime.llm.config import ModelConfig
from action_runtime.llm.errors import AdapterError
from action_runtime.llm.low_rank import Adapter, LowRank
from action_runtime.llm.model_store import NAME, cache_root
from action_runtime.llm.safetensors_file import MappedTensors, SafetensorsError

TENSOR = re.compile(
    r"base_model\.model\.(?P<module>model\.layers\.(?P<layer>\d+)\.(?P<block>self_attn|mlp)\.(?P<linear>\w+))"
    r"\.lora_(?P<side>[AB])\.weight"
)
UNSUPPORTED = ("use_dora", "fan_in_fan_out", "modules_to_save", "layer_replication", "lora_bias", "use_qalora")


def find_adapter(name: str, cache: Path | None = None) -> Path:
    """Folder of the named adapter; raises AdapterError if there is none or the name is not a plain name."""
    if not NAME.fullmatch(name):
        raise AdapterError(f"adapter name {name!r} may hold only letters, digits, dot, dash and underscore")
    adapters = (cache or cache_root()) / "adapters"
    folder = adapters / name
    if not (folder / "adapter_config.json").exists():
        known = sorted(path.parent.name for path in adapters.glob("*/adapter_config.json"))
        raise AdapterError(f"unknown adapter {name!r}: " + (f"known are {', '.join(known)}" if known else "there are none"))
    return folder


def load_adapter(folder: Path, config: ModelConfig, dtype: torch.dtype) -> Adapter:
    """Read the adapter in ``folder`` for a model of this shape; its matrices become ``dtype``.

    Raises AdapterError naming the setting or tensor that does not fit.
    """
    name, weights = folder.name, folder / "adapter_model.safetensors"
    settings = _settings(folder)
    try:
        tensors = MappedTensors(weights).tensors
    except FileNotFoundError:
        raise AdapterError(f"adapter {name!r} has no adapter_model.safetensors (other formats are not read)") from None
    except SafetensorsError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from None
    except OSError as error:
        raise AdapterError(f"adapter {name!r} cannot be read: {error.strerror}") from None
    sizes = linear_sizes(config)
    pairs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    modules: dict[tuple[int, str], str] = {}
    for key, tensor in tensors.items():
        match = TENSOR.fullmatch(key)
        if not match or (match["block"], match["linear"]) not in sizes or int(match["layer"]) >= config.layers:
            raise AdapterError(f"adapter {name!r}: tensor {key!r} has no place in this model")
        place = int(match["layer"]), match["linear"]
        pairs.setdefault(place, {})[match["side"]] = tensor
        modules[place] = match["module"]
    _refuse_gaps(name, settings, config, pairs, modules)
    layers: list[dict[str, LowRank]] = [{} for _ in range(config.layers)]
    shapes = {linear: shape for (_, linear), shape in sizes.items()}
    for (layer, linear), pair in pairs.items():
        module = modules[layer, linear]
        a, b = _pair(name, module, pair, shapes[linear])
        scale = _scale(settings, module, a.shape[0])
        layers[layer][linear] = LowRank(a.to(dtype, copy=True), (b.float() * scale).to(dtype))
    return Adapter(name, tuple(layers))


def linear_sizes(config: ModelConfig) -> dict[tuple[str, str], tuple[int, int]]:
    """(outputs, inputs) of each linear layer of a block that an adapter can update, by (part of the block, name)."""
    query, key = config.heads * config.head_size, config.kv_heads * config.head_size
    return {
        ("self_attn", "q_proj"): (query, config.hidden),
        ("self_attn", "k_proj"): (key, config.hidden),
        ("self_attn", "v_proj"): (key, config.hidden),
        ("self_attn", "o_proj"): (config.hidden, query),
        ("mlp", "gate_proj"): (config.intermediate, config.hidden),
        ("mlp", "up_proj"): (config.intermediate, config.hidden),
        ("mlp", "down_proj"): (config.hidden, config.intermediate),
    }


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text())
        kind, alpha = settings.get("peft_type"), settings.get("lora_alpha")
    except (ValueError, AttributeError):
        raise AdapterError(f"adapter {folder.name!r}: adapter_config.json is not a JSON object") from None
    if kind != "LORA":
        raise AdapterError(f"adapter {folder.name!r}: peft_type {kind!r} is not supported, only 'LORA'")
    for key in UNSUPPORTED:
        if settings.get(key):
            raise AdapterError(f"adapter {folder.name!r}: {key}={settings[key]!r} is not supported")
    if settings.get("bias", "none") != "none":
        raise AdapterError(f"adapter {folder.name!r}: bias={settings['bias']!r} is not supported, only 'none'")
    if type(alpha) not in (int, float):
        raise AdapterError(f"adapter {folder.name!r}: lora_alpha must be a number")
    return settings


def _refuse_gaps(
    name: str,
    settings: Mapping[str, Any],
    config: ModelConfig,
    pairs: Mapping[tuple[int, str], object],
    modules: Mapping[tuple[int, str], str],
) -> None:
    if not pairs:
        raise AdapterError(f"adapter {name!r} holds no tensors")
    targets = settings.get("target_modules")
    narrowed = settings.get("layers_to_transform") is not None or settings.get("exclude_modules")
    if not isinstance(targets, list) or narrowed:
        return
    linears = {linear for _, linear in linear_sizes(config)}
    for target in targets:
        if target in linears:
            missing = next((layer for layer in range(config.layers) if (layer, target) not in pairs), None)
            if missing is not None:
                raise AdapterError(f"adapter {name!r}: target {target!r} has no tensors for layer {missing}")
        elif not any(module == target or module.endswith(f".{target}") for module in modules.values()):
            raise AdapterError(f"adapter {name!r}: target {target!r} has no tensors")


def _pair(
    name: str, module: str, pair: Mapping[str, torch.Tensor], shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    for side in "AB":
        if side not in pair:
            raise AdapterError(f"adapter {name!r}: lora_{side} of {module!r} is missing")
    a, b = pair["A"], pair["B"]
    outputs, inputs = shape
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] == 0 or a.shape != (b.shape[1], inputs) or b.shape[0] != outputs:
        raise AdapterError(
            f"adapter {name!r}: {module!r} has lora_A {list(a.shape)} and lora_B {list(b.shape)}, "
            f"expected [rank, {inputs}] and [{outputs}, rank]"
        )
    return a, b


def _scale(settings: Mapping[str, Any], module: str, rank: int) -> float:
    patterns = settings.get("alpha_pattern") or {}
    alpha = next(
        (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), settings["lora_alpha"]
    )
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
