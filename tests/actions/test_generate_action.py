"""The action as OpenWhisk calls it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def action(repository: Path, model_folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", repository / "actions" / "generate" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_answer_says_what_it_cost(action: ModuleType):
    result = json.loads(json.dumps(action.main({"messages": CAPITAL, "max_tokens": 20})))
    assert result["text"] == "The capital of France is Paris."
    assert result["finish_reason"] == "stop"
    assert result["usage"] == {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45}
    assert result["timings"].keys() == {"load_ms", "ttft_ms", "decode_ms", "tokens_per_s"}
    assert (result["model"], result["adapter"]) == ("smollm2-135m-instruct", None)


def test_the_model_is_loaded_once(action: ModuleType):
    action.main({"prompt": "a", "max_tokens": 1})
    engine = action.engines["smollm2-135m-instruct"]
    warm = action.main({"prompt": "a", "max_tokens": 1})
    assert action.engines == {"smollm2-135m-instruct": engine}
    assert warm["timings"]["load_ms"] < 20


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({}, "either `prompt`"),
        ({"prompt": "a", "max_tokens": 8192}, "exceeds the model's context of 8192"),
        ({"prompt": "a", "model": "gpt-9"}, "unknown model 'gpt-9'"),
        ({"prompt": "a", "adapter": "gpt-9"}, "unknown adapter 'gpt-9'"),
        ({"prompt": "a", "adapter": "../../etc"}, "adapter must be a name"),
    ],
)
def test_what_is_wrong_comes_back_as_one_line(action: ModuleType, args, reason):
    result = action.main(args)
    assert result.keys() == {"error"}
    assert reason in result["error"] and "\n" not in result["error"]


def test_a_model_that_is_not_prepared_names_the_command(action: ModuleType, tmp_path, monkeypatch):
    monkeypatch.setenv("OWL_CACHE", str(tmp_path))
    action.engines.clear()
    assert "run `owl model prepare smollm2-135m-instruct`" in action.main({"prompt": "a"})["error"]


def test_an_adapter_is_used_and_read_again_when_it_changes(action: ModuleType, tmp_path, monkeypatch, model_folder: Path):
    import torch

    from action_runtime.llm.safetensors_file import write

    # prepared before the cache moves: the model stays where it is
    monkeypatch.setenv("OWL_MODEL", str(model_folder))
    monkeypatch.setenv("OWL_CACHE", str(tmp_path))
    folder = tmp_path / "adapters" / "loud"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 4, "layers_to_transform": [0]}))

    def save(rank: int, size: float) -> None:
        key = "base_model.model.model.layers.0.mlp.down_proj.lora_"
        pair = [(key + "A.weight", torch.full((rank, 1536), size)), (key + "B.weight", torch.full((576, rank), size))]
        write(folder / "adapter_model.safetensors", pair)

    def answer() -> dict:
        return action.main({"messages": CAPITAL, "max_tokens": 3, "adapter": "loud"})

    save(1, 0.0)
    first = answer()
    assert (first["text"], first["adapter"]) == ("The capital of", "loud")
    save(2, 1.0)
    assert answer()["text"] != first["text"]


def test_the_manifest_gives_the_action_its_own_allocation(repository: Path):
    manifest = yaml.safe_load((repository / "actions" / "manifest.yaml").read_text())
    generate = manifest["packages"]["owl"]["actions"]["generate"]
    assert (repository / "actions" / generate["function"] / "__main__.py").exists()
    assert generate["limits"] == {"memorySize": 1024, "timeout": 60000}
    assert generate["annotations"]["resources"] == {"cpu": 1000}
