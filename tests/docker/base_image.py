"""An image with Python, made of this machine's own: tests need no registry."""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

# What the image's build runs besides Python.
TOOLS = ("sh", "ls", "rm", "mkdir", "chown", "sleep")
PACKAGES = ("pip", "h11")
LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "pydoc_data",
    "site-packages", "dist-packages",
}  # fmt: skip


def base_image() -> bytes:
    """A tar archive of a root file system with ``python3``, pip, h11 and a shell. Takes a second or two."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        standard = Path(sysconfig.get_path("stdlib"))
        programs = [python, *(Path(found).resolve() for tool in TOOLS if (found := shutil.which(tool)))]
        archive.add(python, str(python))
        _link(archive, "/usr/local/bin/python3", str(python))
        for tool in TOOLS:
            if found := shutil.which(tool):
                archive.add(found, f"/bin/{tool}")
        archive.add(standard, str(standard), filter=_wanted)
        programs += [module for module in standard.glob("lib-dynload/*.so") if not module.name.startswith("_tkinter")]
        for library in _libraries(programs):
            archive.add(library, library)
        for package in PACKAGES:
            _add_package(archive, package, _site_packages(python))
        _folder(archive, "/tmp", 0o1777)
    return buffer.getvalue()


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name).name
    unused = name in LEFT_OUT or name.startswith(("config-", "_tkinter")) or ".opt-" in name
    return None if unused else member


def _libraries(programs: list[Path]) -> set[str]:
    """Paths of the shared libraries that these programs and modules load, the loader too."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    return {path for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE) if os.path.exists(path)}


def _site_packages(python: Path) -> str:
    asked = [str(python), "-I", "-c", "import site; print(site.getsitepackages()[0])"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _add_package(archive: tarfile.TarFile, name: str, folder: str) -> None:
    for file in importlib.metadata.files(name) or ():
        if ".." not in file.parts:  # scripts
            archive.add(str(file.locate()), f"{folder}/{file}")


def _link(archive: tarfile.TarFile, path: str, target: str) -> None:
    link = tarfile.TarInfo(path.lstrip("/"))
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


def _folder(archive: tarfile.TarFile, path: str, mode: int) -> None:
    folder = tarfile.TarInfo(path.lstrip("/"))
    folder.type, folder.mode = tarfile.DIRTYPE, mode
    archive.addfile(folder)
