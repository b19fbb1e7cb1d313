"""Zipped actions, good and bad."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest
from tests.action_runtime.container import SENTINEL, Container, zip_of
from action_runtime.executor.archive import ArchiveError, unpack
from hypothesis import given
from hypothesis import strategies as st

MAIN = "from helper import shout\ndef main(args):\n    return {'said': shout(args['name']), 'data': open('data.txt').read()}\n"
FILES = {"__main__.py": MAIN, "helper.py": "def shout(s):\n    return s.upper()\n", "data.txt": "packed"}
ACTIVATE = """
import os, site, sys
home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
site.addsitedir(os.path.join(home, "lib", "site-packages"))
"""


def test_modules_and_data(container: Container) -> None:
    assert container.init(zip_of(FILES)) == (200, {"ok": True})
    assert container.run({"name": "owl"}) == (200, {"said": "OWL", "data": "packed"})


def test_another_entry_function(container: Container) -> None:
    container.init(zip_of({"__main__.py": "def niam(args):\n    return {'n': 1}\n"}), main="niam")
    assert container.run() == (200, {"n": 1})


def refusal(container: Container, code: bytes) -> str:
    answer = container.init(code)
    assert answer == (502, {"error": "The action failed to generate or locate a binary. See logs for details."})
    assert container.stdout == SENTINEL
    assert container.stderr.endswith(SENTINEL)
    assert container.run() == (500, {"error": "no action defined yet"})
    return container.stderr.removesuffix(SENTINEL)


def test_without_main(container: Container) -> None:
    assert refusal(container, zip_of({"other.py": "x = 1\n"})) == "Zip file does not include __main__.py at its top level.\n"


def test_syntax_error(container: Container) -> None:
    assert refusal(container, zip_of({"__main__.py": "def main(args)\n"})) == "expected ':'\n"


def test_damaged(container: Container) -> None:
    assert refusal(container, zip_of(FILES)[:-40]).startswith("The zip file is damaged")


def test_source_in_base64(container: Container) -> None:
    assert container.init(b"def main(args):\n    return {'n': 2}\n")[0] == 200
    assert container.run() == (200, {"n": 2})


def test_virtualenv(container: Container) -> None:
    files = {
        "__main__.py": "import carried\ndef main(args):\n    return {'from': carried.NAME}\n",
        "virtualenv/bin/activate_this.py": ACTIVATE,
        "virtualenv/lib/site-packages/carried.py": "NAME = 'virtualenv'\n",
    }
    assert container.init(zip_of(files)) == (200, {"ok": True})
    assert container.run() == (200, {"from": "virtualenv"})


def test_invalid_virtualenv(container: Container) -> None:
    files = {"__main__.py": "def main(args): return {}\n", "virtualenv/bin/python": ""}
    assert refusal(container, zip_of(files)) == "Invalid virtualenv. Zip file does not include 'activate_this.py'.\n"


@pytest.mark.parametrize("name", ["../escape.py", "a/../../escape.py", "/escape.py"])
def test_entries_outside_the_folder(container: Container, name: str) -> None:
    assert "outside its folder" in refusal(container, zip_of({**FILES, name: "x"}))
    assert not list(container.folder.rglob("escape.py"))
    assert not list(container.work.rglob("*.py"))


def test_a_name_that_no_file_can_have(container: Container) -> None:
    expected = "The action cannot be written to the container's disk: File name too long.\n"
    assert refusal(container, zip_of({**FILES, "x" * 300: ""})) == expected


def special(name: str, mode: int, target: str = "/etc/passwd") -> bytes:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", MAIN)
        archive.writestr(entry, target)
    return buffer.getvalue()


def test_links_are_refused(container: Container) -> None:
    assert "symbolic link: 'data.txt'" in refusal(container, special("data.txt", stat.S_IFLNK | 0o777))


def test_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="neither file nor folder"):
        unpack(special("pipe", stat.S_IFIFO | 0o600), tmp_path / "out")


def test_a_bomb_is_refused_by_what_comes_out_of_it(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="too large when unpacked"):
        unpack(zip_of({"a": b"\0" * 600_000, "b": b"\0" * 600_000}), tmp_path / "out", max_bytes=1_000_000)
    assert not (tmp_path / "out").exists()


def test_a_file_and_a_folder_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="both a file and a folder"):
        unpack(zip_of({"a": "x", "a/b": "y"}), tmp_path / "out")


def test_executables_stay_executable(tmp_path: Path) -> None:
    unpack(special("tool", stat.S_IFREG | 0o755, "#!/bin/sh\n"), tmp_path / "out")
    assert (tmp_path / "out/tool").stat().st_mode & 0o777 == 0o755


@given(position=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, position: int, byte: int) -> None:
    archive = bytearray(zip_of({"a.txt": "some text " * 40, "b/c.txt": b"\1\2"}))
    archive[position % len(archive)] = byte
    parent = tmp_path_factory.mktemp("changed")
    try:
        unpack(bytes(archive), parent / "out")
    except ArchiveError:
        assert not (parent / "out").exists()
    assert {path.name for path in parent.iterdir()} <= {"out"}
