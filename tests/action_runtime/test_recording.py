"""Every recorded case of OpenWhisk's Python runtime, against ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.action_runtime.container import Container

# Parameters are needed before fixtures exist; the fixture ``shared_dir`` names the same folder.
_FILE = Path(os.environ.get("OWL_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "transcripts/runtime-python.json"
_CASES = json.loads(_FILE.read_text())["cases"] if _FILE.is_file() else []


def _body(recorded: dict[str, Any] | None) -> bytes | None:
    if recorded is None:
        return None
    return json.dumps(recorded["json"]).encode() if "json" in recorded else recorded["text"].encode()


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        if "$runs" in value:
            return "".join(part if isinstance(part, str) else part[0] * part[1] for part in value["$runs"])
        return {name: _expanded(item) for name, item in value.items()}
    return [_expanded(item) for item in value] if isinstance(value, list) else value


@pytest.mark.shared
def test_the_recording_is_whole() -> None:
    assert len(_CASES) == 32


@pytest.mark.shared
@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["title"].replace(" ", "-"))
def test_case(case: dict[str, Any], container: Container) -> None:
    for exchange in case["exchanges"]:
        request, recorded = exchange["request"], exchange["response"]
        status, headers, body = container.client.exchange(request["method"], request["path"], _body(request["body"]))
        assert status == recorded["status"]
        assert {name: headers.get(name) for name in recorded["headers"]} == recorded["headers"]
        assert "transfer-encoding" not in headers
        if "json" in recorded["body"]:
            assert json.loads(body) == _expanded(recorded["body"]["json"])
        else:
            assert body.decode() == recorded["body"]["text"]
    assert container.stdout == case["stdout"]
    assert container.stderr == case["stderr"]
    assert container.alive() == case["still_running"]
