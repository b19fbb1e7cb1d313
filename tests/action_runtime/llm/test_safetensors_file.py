"""Mapped safetensors: the format, damage, and memory that cannot be written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from action_runtime.llm.safetensors_file import MappedTensors, SafetensorsError, write


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("st") / "sample.safetensors"
    write(path, [("q", torch.arange(6.0).view(3, 2)), ("a", torch.ones(1, 2)), ("h", torch.ones(2, dtype=torch.bfloat16))])
    return path


def test_what_is_written_the_safetensors_package_reads(sample: Path):
    ours, theirs = MappedTensors(sample).tensors, load_file(sample)
    assert list(ours) == ["q", "a", "h"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_the_safetensors_package_writes_is_read(tmp_path: Path):
    tensors = {"b": torch.rand(2, 3), "a": torch.rand(4).half(), "scalar": torch.tensor(2.0), "none": torch.empty(0, 3)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    ours = MappedTensors(tmp_path / "x.safetensors").tensors
    assert ours.keys() == tensors.keys()
    assert all(torch.equal(ours[name], tensors[name]) for name in tensors)


def test_neighbours_are_stacked_without_a_copy(sample: Path):
    file = MappedTensors(sample)
    stacked = file.stacked(["q", "a"])
    assert torch.equal(stacked, torch.cat([file.tensors["q"], file.tensors["a"]]))
    assert stacked.data_ptr() == file.tensors["q"].data_ptr()
    assert file.stacked(["a", "q"]) is None
    assert file.stacked(["a", "h"]) is None


@given(data=st.data())
def test_a_truncated_or_extended_file_is_refused(sample: Path, data: st.DataObject):
    content = sample.read_bytes()
    size = data.draw(st.integers(0, len(content) + 40).filter(lambda size: size != len(content)))
    damaged = sample.with_name("damaged.safetensors")
    damaged.write_bytes(content[:size].ljust(size, b"\0"))
    with pytest.raises(SafetensorsError):
        MappedTensors(damaged)


@given(header=st.binary(min_size=2, max_size=80) | st.text(max_size=60).map(lambda text: f'{{"a": {text}}}'.encode()))
def test_a_header_of_rubbish_is_refused(tmp_path_factory, header: bytes):
    path = tmp_path_factory.getbasetemp() / "rubbish.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"12345678")
    with pytest.raises(SafetensorsError):
        MappedTensors(path)


def test_a_process_that_writes_to_the_weights_dies_alone(sample: Path):
    code = (
        "import sys; from pathlib import Path; from action_runtime.llm.safetensors_file import MappedTensors\n"
        "MappedTensors(Path(sys.argv[1])).tensors['q'].zero_()"
    )
    before = sample.read_bytes()
    process = subprocess.run([sys.executable, "-c", code, str(sample)], capture_output=True)
    assert process.returncode == -signal.SIGSEGV
    assert sample.read_bytes() == before
