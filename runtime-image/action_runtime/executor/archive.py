"""Unpacking of zip archives nobody vouches for."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from io import BytesIO
from pathlib import Path, PurePosixPath

MAX_BYTES = 1 << 30
MAX_ENTRIES = 50_000
_CHUNK = 1 << 20


class ArchiveError(Exception):
    """An archive that is refused; the text says why and names the entry."""


def unpack(archive: bytes, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Unpack ``archive`` into ``folder``, which must not exist. Nothing is left of a refused one.

    Refused are entries outside the folder, links and devices, encrypted entries, damaged data, and more than
    ``max_bytes`` of content or ``MAX_ENTRIES`` entries. Raises ArchiveError, or OSError when the disk does not take it.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(BytesIO(archive)) as source:
            _unpack(source, folder, max_bytes)
    except zipfile.BadZipFile as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArchiveError(f"The zip file is damaged: {error}.") from error
    except (ArchiveError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (NotImplementedError, RuntimeError, ValueError, EOFError, zipfile.zlib.error) as error:
        # What zipfile raises for unknown methods, encryption, wrong fields and cut or invalid streams.
        shutil.rmtree(folder, ignore_errors=True)
        raise ArchiveError(f"The zip file cannot be unpacked: {error}.") from error


def _unpack(source: zipfile.ZipFile, folder: Path, max_bytes: int) -> None:
    entries = source.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"The zip file has {len(entries)} entries; at most {MAX_ENTRIES} are allowed.")
    for entry in entries:
        _check(entry)
    left = max_bytes
    for entry in entries:
        target = folder / entry.filename
        try:
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            left = _write(source, entry, target, left)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ArchiveError(f"The zip file has both a file and a folder at {entry.filename!r}.") from error


def _check(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if not entry.filename or path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"The zip file has an entry outside its folder: {entry.filename!r}.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ArchiveError(f"The zip file has a symbolic link: {entry.filename!r}. Zip the file it points to (zip -r does).")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"The zip file has an entry that is neither file nor folder: {entry.filename!r}.")


def _write(source: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    # The sizes an archive states prove nothing: what comes out of it is counted.
    with source.open(entry) as content, open(target, "wb") as file:
        while data := content.read(_CHUNK):
            left -= len(data)
            if left < 0:
                raise ArchiveError(f"The zip file is too large when unpacked (at {entry.filename!r}).")
            file.write(data)
    if (entry.external_attr >> 16) & stat.S_IXUSR:
        os.chmod(target, 0o755)
    return left
