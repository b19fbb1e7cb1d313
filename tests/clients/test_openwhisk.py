"""The npm package `openwhisk` against a fresh server: each script asserts with node:assert what the client is given."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCRIPTS = ("actions", "packages", "triggers_rules", "activations", "feeds", "nodejs")

pytestmark = [pytest.mark.slow, pytest.mark.node, pytest.mark.timeout(600)]


def _zip() -> str:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("__main__.py", "from part import VALUE\n\ndef main(args):\n    return {'zipped': VALUE}\n")
        archive.writestr("part.py", "VALUE = True\n")
    return base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_client_is_answered_as_by_openwhisk(script: str, run: Any) -> None:
    done = run("env", f"ZIP={_zip()}", "node", str(HERE / "openwhisk" / f"{script}.mjs"))
    assert done.returncode == 0, done.stderr


def test_every_script_is_run() -> None:
    found = {file.stem for file in (HERE / "openwhisk").glob("*.mjs")}
    assert found == {*SCRIPTS, "connect"}
