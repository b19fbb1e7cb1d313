"""LoRA adapters: the same logits as peft, and nothing dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from action_runtime.llm.decoder import Decoder
from action_runtime.llm.errors import AdapterError
from action_runtime.lora.peft_adapter import find_adapter, load_adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = [5, 17, 3, 96, 41, 8, 8, 60, 2, 33]


@pytest.fixture(scope="module")
def base(tiny_model) -> Path:
    return tiny_model()


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a random adapter with peft in ``tmp_path/adapters/random``."""

    def make(**settings: object) -> Path:
        model = AutoModelForCausalLM.from_pretrained(base)
        config = LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ALL, **settings})
        model = get_peft_model(model, config)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path / "adapters" / "random"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 1, "target_modules": ["k_proj"]},
        {"r": 7, "target_modules": ["down_proj", "q_proj", "v_proj"], "use_rslora": True},
        {"rank_pattern": {"o_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 40}},
        {"layers_to_transform": [1]},
    ],
    ids=["all-linear", "rank-1", "rslora", "patterns", "one-layer"],
)
def test_logits_match_peft(base: Path, adapter, settings):
    folder = adapter(**settings)
    decoder = Decoder.load(base)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    with torch.inference_mode():
        expected = theirs(torch.tensor([TOKENS])).logits[0]
    ours = decoder.all_logits(TOKENS, load_adapter(folder, decoder.config, decoder.dtype))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert (ours - decoder.all_logits(TOKENS)).abs().max() > 0.01


def test_decoding_with_an_adapter_matches_its_prefill(base: Path, adapter):
    decoder = Decoder.load(base)
    lora = load_adapter(adapter(), decoder.config, decoder.dtype)
    cache = decoder.new_cache(len(TOKENS))
    steps = torch.stack([decoder.forward([token], cache, lora) for token in TOKENS])
    torch.testing.assert_close(steps, decoder.all_logits(TOKENS, lora), rtol=1e-4, atol=1e-5)


def test_a_real_adapter_in_bf16_is_as_close_to_fp32_as_peft_is(model_folder: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=ALL))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(tmp_path)
    decoder = Decoder.load(model_folder)
    lora = load_adapter(tmp_path, decoder.config, decoder.dtype)
    with torch.inference_mode():
        theirs = model(torch.tensor([TOKENS])).logits[0].float()
        exact = model.float()(torch.tensor([TOKENS])).logits[0]
    ours = decoder.all_logits(TOKENS, lora).float()
    assert (ours - exact).abs().mean() <= 1.3 * (theirs - exact).abs().mean()
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert lora.nbytes == sum(2 * tensor.numel() for tensor in saved.values())


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update({Q + "C.weight": torch.ones(1)}), r"q_proj\.lora_C\.weight' has no place"),
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.ones(1)}), "lm_head"),
        (lambda t: t.update({Q.replace("layers.0", "layers.7") + "A.weight": torch.ones(1)}), r"layers\.7"),
        (lambda t: t.update({Q.replace("self_attn", "mlp") + "A.weight": torch.ones(1)}), r"mlp\.q_proj"),
        (lambda t: t.pop(Q + "A.weight"), r"lora_A of 'model\.layers\.0\.self_attn\.q_proj' is missing"),
        (lambda t: t.update({Q + "A.weight": torch.ones(4, 9)}), r"lora_A \[4, 9\].*expected \[rank, 32\]"),
        (lambda t: t.update({Q + "B.weight": torch.ones(32, 3)}), r"lora_B \[32, 3\]"),
        (lambda t: [t.pop(Q + side + ".weight") for side in "AB"], "target 'q_proj' has no tensors for layer 0"),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(base: Path, adapter, change, reason):
    folder = adapter()
    edit(folder, change)
    decoder = Decoder.load(base)
    with pytest.raises(AdapterError, match=reason):
        load_adapter(folder, decoder.config, decoder.dtype)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "'IA3' is not supported"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"target_modules": [*ALL, "embed_tokens"]}, "'embed_tokens' has no tensors"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(base: Path, adapter, settings, reason):
    folder = adapter()
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    decoder = Decoder.load(base)
    with pytest.raises(AdapterError, match=reason):
        load_adapter(folder, decoder.config, decoder.dtype)


def test_truncated_weights_are_refused(base: Path, adapter):
    folder = adapter()
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    decoder = Decoder.load(base)
    with pytest.raises(AdapterError, match="'random'.*truncated"):
        load_adapter(folder, decoder.config, decoder.dtype)


def test_adapters_are_found_by_name_only(adapter, tmp_path: Path):
    folder = adapter()
    assert find_adapter("random", tmp_path) == folder
    with pytest.raises(AdapterError, match="unknown adapter 'other': known are random"):
        find_adapter("other", tmp_path)
    for name in ("../adapters/random", "..", ".", "", "/etc", "a/b", "random\n"):
        with pytest.raises(AdapterError, match="may hold only"):
            find_adapter(name, tmp_path)
