"""The decoder's logits are those of transformers on the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from action_runtime.llm.decoder import FLASH_KEYS, PREFILL_CHUNK, Decoder
from action_runtime.llm.engine import Engine
from action_runtime.llm.errors import ModelError
from action_runtime.llm.safetensors_file import MappedTensors

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def reference(folder: Path, tokens: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 4, "head_dim": 16},
        {"rope_parameters": LLAMA3},
    ],
    ids=["grouped", "tied", "full-heads", "llama3-rope"],
)
def test_logits_in_fp32_are_exact(tiny_model, settings):
    folder = tiny_model(**settings)
    tokens = torch.randint(97, (200,)).tolist()
    logits = Decoder.load(folder).all_logits(tokens)
    torch.testing.assert_close(logits, reference(folder, tokens), rtol=1e-4, atol=1e-5)


def test_chunked_prefill_and_decode_give_what_one_pass_gives(tiny_model):
    folder = tiny_model()
    decoder = Decoder.load(folder)
    tokens = torch.randint(97, (PREFILL_CHUNK + 40,)).tolist()
    expected = reference(folder, tokens)
    cache = decoder.new_cache(len(tokens))
    begin = FLASH_KEYS - 2
    got = [decoder.forward(tokens[:begin], cache)]
    got += [decoder.forward([token], cache) for token in tokens[begin : begin + 6]]
    got.append(decoder.forward(tokens[begin + 6 :], cache))
    torch.testing.assert_close(torch.stack(got[:7]), expected[begin - 1 : begin + 6], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[7], expected[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoder.all_logits(tokens), expected, rtol=1e-4, atol=1e-5)


def test_bf16_is_as_close_to_fp32_as_transformers_is(engine: Engine, model_folder: Path):
    tokens = engine.tokenizer.encode("In 1984 the river ran dry, and the miller walked to the sea. Nobody asked why.")
    exact = reference(model_folder, tokens)
    theirs = reference(model_folder, tokens, torch.bfloat16).float()
    ours = engine.decoder.all_logits(tokens).float()
    assert (ours - exact).abs().mean() <= 1.2 * (theirs - exact).abs().mean()
    assert (ours - theirs).abs().mean() <= 2 * (theirs - exact).abs().mean()


def test_query_key_and_value_of_a_prepared_model_are_one_mapped_matrix(model_folder: Path):
    file = MappedTensors(model_folder / "model.safetensors")
    block = "model.layers.7.self_attn"
    assert file.stacked(f"{block}.{name}_proj.weight" for name in "qkv").shape == (960, 576)


def test_a_mistral_without_sliding_window_runs_too(tiny_model):
    folder = tiny_model()
    change(folder, model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None)
    tokens = list(range(50))
    torch.testing.assert_close(Decoder.load(folder).all_logits(tokens), reference(folder, tokens), rtol=1e-4, atol=1e-5)


def change(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "mamba"}, "model family 'mamba' is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn' is not supported"),
        ({"num_hidden_layers": 1}, r"'model\.layers\.1\.\S+' has no place"),
        ({"num_hidden_layers": 3}, r"'model\.layers\.2\.\S+' is missing"),
        ({"intermediate_size": 40}, r"is \[48, 32\], expected \[40, 32\]"),
    ],
)
def test_what_the_decoder_cannot_run_is_refused_by_name(tiny_model, settings, reason):
    folder = tiny_model()
    change(folder, **settings)
    with pytest.raises(ModelError, match=reason):
        Decoder.load(folder)


def test_shards_are_read_through_their_index(tiny_model):
    folder = tiny_model()
    tokens = list(range(20))
    whole = Decoder.load(folder).all_logits(tokens)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.testing.assert_close(Decoder.load(folder).all_logits(tokens), whole)
    index["weight_map"][names[0]] = "../a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside its folder"):
        Decoder.load(folder)


def test_truncated_weights_are_refused(tiny_model):
    weights = tiny_model() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        Decoder.load(weights.parent)
