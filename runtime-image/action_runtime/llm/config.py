"""Architecture of a Llama-family model, read from the ``config.json`` of its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from action_runtime.llm.errors import ModelError

FAMILIES = ("llama", "mistral")


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding: base and, for Llama 3 checkpoints, the stretch of low frequencies."""

    theta: float
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a decoder. Sizes are in elements, ``context`` in tokens."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool
    stop_tokens: frozenset[int]

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Read ``config.json`` and ``generation_config.json``; raises ModelError for what the decoder cannot run."""
        config = _read(folder / "config.json")
        generation = _read(folder / "generation_config.json") if (folder / "generation_config.json").exists() else {}
        _refuse_unsupported(folder, config)
        try:
            heads = config["num_attention_heads"]
            return cls(
                vocabulary=config["vocab_size"],
                hidden=config["hidden_size"],
                intermediate=config["intermediate_size"],
                layers=config["num_hidden_layers"],
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_size=config.get("head_dim") or config["hidden_size"] // heads,
                context=config["max_position_embeddings"],
                norm_epsilon=config["rms_norm_eps"],
                rope=_rope(folder, config),
                tied_embeddings=config.get("tie_word_embeddings", False),
                stop_tokens=_ids(config.get("eos_token_id")) | _ids(generation.get("eos_token_id")),
            )
        except KeyError as error:
            raise ModelError(f"{folder / 'config.json'} does not say {error.args[0]!r}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: not a Hugging Face model folder") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object")
    return value


def _refuse_unsupported(folder: Path, config: dict[str, Any]) -> None:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ModelError(f"{folder.name}: model family {family!r} is not supported, only {', '.join(FAMILIES)}")
    for key in ("attention_bias", "mlp_bias", "sliding_window", "quantization_config"):
        if config.get(key):
            raise ModelError(f"{folder.name}: {key}={config[key]!r} in config.json is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{folder.name}: activation {config['hidden_act']!r} is not supported, only 'silu'")


def _rope(folder: Path, config: dict[str, Any]) -> Rope:
    # transformers 5 writes rope_parameters, earlier versions rope_theta and rope_scaling
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return Rope(theta)
    if kind == "llama3":
        return Rope(
            theta,
            scaling["factor"],
            scaling["low_freq_factor"],
            scaling["high_freq_factor"],
            scaling["original_max_position_embeddings"],
        )
    raise ModelError(f"{folder.name}: rotary embedding of type {kind!r} is not supported, only 'default' and 'llama3'")


def _ids(value: int | list[int] | None) -> frozenset[int]:
    return frozenset([value] if isinstance(value, int) else value or [])
