from __future__ import annotations

import io
import os
import zipfile

import pytest

from deploy.bundle import BundleError, bundle


def write(folder, *names, content="x"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def names(packed: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(packed)).namelist()


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "action", "__main__.py", "lib/tool.py", "lib/data.csv", "tests/test_tool.py", "README.md")
    write(tmp_path / "action", "__pycache__/x.pyc", "lib/y.pyc", ".git/config")
    write(tmp_path / "common", "shared.py", "deep/more.py")
    return tmp_path / "action"


def test_everything_sorted_but_caches(folder):
    assert names(bundle(folder)) == ["README.md", "__main__.py", "lib/data.csv", "lib/tool.py", "tests/test_tool.py"]


def test_equal_content_gives_equal_bytes(folder, tmp_path):
    first = bundle(folder)
    for name in ("__main__.py", "lib/tool.py"):
        os.utime(folder / name, (1, 1))
    write(tmp_path / "copy", "tests/test_tool.py", "README.md", "lib/data.csv", "lib/tool.py", "__main__.py")
    assert bundle(folder) == first == bundle(tmp_path / "copy")
    write(folder, "__main__.py", content="y")
    assert bundle(folder) != first


def test_executables_stay_executable(folder):
    (folder / "__main__.py").chmod(0o755)
    modes = {entry.filename: entry.external_attr >> 16 for entry in zipfile.ZipFile(io.BytesIO(bundle(folder))).infolist()}
    assert modes["__main__.py"] == 0o100755 and modes["README.md"] == 0o100644


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["tests"], ["README.md", "__main__.py", "lib/data.csv", "lib/tool.py"]),
        (["tests/", "*.md", "lib/*.csv"], ["__main__.py", "lib/tool.py"]),
        (["lib/tool.py", "tests/*", "README.md"], ["__main__.py", "lib/data.csv"]),
    ],
)
def test_patterns_leave_files_out(folder, patterns, left):
    assert names(bundle(folder, exclude=patterns)) == left


@pytest.mark.parametrize(
    ("include", "added"),
    [
        (("common/*.py", "lib/"), ["lib/shared.py"]),
        (("common", "common"), ["common/deep/more.py", "common/shared.py"]),
        (("common/shared.py", None), ["common/shared.py"]),
        (("common/shared.py", "."), ["shared.py"]),
        (("common/shared.py", "other.py"), ["other.py"]),
        (("../{}/common/deep", None), ["{}/common/deep/more.py"]),
    ],
)
def test_more_is_put_in(folder, tmp_path, include, added):
    source, destination = include
    before = set(names(bundle(folder)))
    packed = bundle(folder, [(source.format(tmp_path.name), destination)], base=tmp_path)
    assert sorted(set(names(packed)) - before) == [name.format(tmp_path.name) for name in added]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (("missing/*.py", None), "nothing matches 'missing"),
        (("common", "../out"), "leads out of the zip"),
        (("common", "/out"), "leads out of the zip"),
    ],
)
def test_what_cannot_be_put_in_is_named(folder, tmp_path, include, message):
    with pytest.raises(BundleError, match=message):
        bundle(folder, [include], base=tmp_path)


def test_links_stay_inside(folder, tmp_path):
    (folder / "alias.py").symlink_to("__main__.py")
    assert "alias.py" in names(bundle(folder))
    for target in (tmp_path / "common" / "shared.py", "../common", "/etc/passwd", "nowhere/../../../x"):
        (folder / "leak").symlink_to(target)
        with pytest.raises(BundleError, match="link to outside"):
            bundle(folder)
        (folder / "leak").unlink()
    (tmp_path / "common" / "leak.py").symlink_to(folder / "__main__.py")
    with pytest.raises(BundleError, match="link to outside"):
        bundle(folder, [("common/*.py", "lib/")], base=tmp_path)
    (folder / "loop").symlink_to(".")
    with pytest.raises(BundleError, match="link to a folder"):
        bundle(folder)


def test_what_is_no_file_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(BundleError, match="neither a file nor a folder"):
        bundle(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BundleError, match="nothing to pack"):
        bundle(tmp_path)


def test_too_large_is_refused(tmp_path):
    (tmp_path / "blob").write_bytes(os.urandom(37 << 20))
    with pytest.raises(BundleError, match="more than OpenWhisk takes"):
        bundle(tmp_path)
