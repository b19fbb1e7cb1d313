"""Models for the tests: the real one as an engine, and tiny random ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from action_runtime.llm import threads  # noqa: F401  (before torch: idle threads must not spin)
from action_runtime.llm.engine import Engine

TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine.load(model_folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Makes a folder with a random Llama of a few thousand weights, as transformers saves it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(dtype: torch.dtype = torch.float32, **settings: object) -> Path:
        torch.manual_seed(0)
        shape = {
            "vocab_size": 97,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": 0.2,
        }
        folder = tmp_path_factory.mktemp("tiny")
        LlamaForCausalLM(LlamaConfig(**{**shape, **settings})).to(dtype).save_pretrained(folder)
        return folder

    return make
