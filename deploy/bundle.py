"""Packs an action's folder into a zip that is the same for the same content."""

from __future__ import annotations

import glob
import io
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

LARGEST_CODE = 48 * 1024 * 1024
NEVER_PACKED = ("__pycache__", "*.pyc", ".git", ".DS_Store")
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class BundleError(Exception):
    """The folder cannot be packed; ``str()`` says why and what to do."""


def bundle(
    folder: Path, include: Sequence[tuple[str, str | None]] = (), exclude: Sequence[str] = (), base: Path | None = None
) -> bytes:
    """Zip ``folder``; sorted, with fixed dates, so that equal content gives equal bytes.

    Args:
        include: (source, destination) pairs of more to put in: the source is a path or pattern relative to ``base``,
            the destination a path in the zip (without one: the source's own path, ``..`` left out).
        exclude: patterns of paths in the zip (``tests/*``) or of names (``*.md``).
        base: what the sources of ``include`` are relative to; ``folder`` by default.

    Raises:
        BundleError: nothing to pack, a pattern without a match, a link that leads out, or too large.
    """
    files = {name: path for path, name in _walk(folder)}
    for source, destination in include:
        files |= _included(base or folder, source, destination)
    names = sorted(name for name in files if not _matches(name, (*NEVER_PACKED, *exclude)))
    if not names:
        raise BundleError(f"{folder}: nothing to pack")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            executable = files[name].stat().st_mode & 0o100
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].read_bytes())
    content = packed.getvalue()
    if len(content) * 4 / 3 > LARGEST_CODE:
        raise BundleError(f"{folder}: {len(content) >> 20} MiB packed, more than OpenWhisk takes; leave out with exclude")
    return content


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Files below ``root`` with their names in the zip."""
    top = root.resolve()
    pending = [root]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if _matches(path.name, NEVER_PACKED):
                continue
            _check_link(path, top)
            if path.is_dir():
                pending.append(path)
            elif path.is_file():
                yield path, path.relative_to(root).as_posix()
            else:
                raise BundleError(f"{path} is neither a file nor a folder: take it away")


def _check_link(path: Path, top: Path) -> None:
    """A link may only lead to a file below ``top``: a manifest must not carry off what it does not name."""
    if not path.is_symlink():
        return
    if not path.resolve().is_relative_to(top):
        raise BundleError(f"{path} is a link to outside of its folder: put a copy there, or name its target in include")
    if path.is_dir():
        raise BundleError(f"{path} is a link to a folder: put a copy there, or name its target in include")


def _included(base: Path, source: str, destination: str | None) -> dict[str, Path]:
    matches = sorted(Path(found) for found in glob.glob(str(base / source), recursive=True))
    if not matches:
        raise BundleError(f"include: nothing matches '{source}' in {base}")
    several = glob.has_magic(source)
    found: dict[str, Path] = {}
    for match in matches:
        _check_link(match, match.parent.resolve())
        if destination is None:
            target = PurePosixPath(*(part for part in _relative(match, base).parts if part not in ("..", ".")))
        elif several or destination.endswith("/") or (match.is_file() and destination in (".", "./")):
            target = PurePosixPath(destination) / match.name
        else:
            target = PurePosixPath(destination)
        if target.is_absolute() or ".." in target.parts:
            raise BundleError(f"include: the destination '{destination}' leads out of the zip")
        if match.is_dir():
            found |= {(target / name).as_posix(): path for path, name in _walk(match)}
        else:
            found[target.as_posix()] = match
    return found


def _relative(path: Path, base: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(base).as_posix())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    parts = PurePosixPath(name).parts
    for pattern in patterns:
        wanted = pattern.rstrip("/")
        if fnmatch(name, wanted) or fnmatch(name, f"{wanted}/*") or any(fnmatch(part, wanted) for part in parts):
            return True
    return False
