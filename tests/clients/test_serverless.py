"""The Serverless Framework with its OpenWhisk plugin: a small service from `deploy` to `remove`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.standalone.auth import WELL_KNOWN_USERS
from deploy.standalone.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.node, pytest.mark.timeout(600)]

Serverless = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def service(tmp_path: Path, packages: Path) -> Path:
    """The service in a folder of its own, as a user has it."""
    folder = tmp_path / "service"
    shutil.copytree(Path(__file__).parent / "serverless", folder)
    (folder / "node_modules").symlink_to(packages)
    return folder


@pytest.fixture
def serverless(service: Path, packages: Path, run: Any) -> Serverless:
    def serverless(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("node", str(packages / "serverless" / "bin" / "serverless.js"), *arguments, cwd=service)

    return serverless


def _names(server: Server, collection: str) -> list[str]:
    auth = (WELL_KNOWN_USERS[0].uuid, WELL_KNOWN_USERS[0].key)
    found = requests.get(f"{server.url}/api/v1/namespaces/_/{collection}", auth=auth, timeout=30).json()
    return sorted(entity["name"] for entity in found)


def _json(text: str) -> Any:
    """The object that the command printed between other lines."""
    found = re.search(r"^\{.*^\}", text, re.DOTALL | re.MULTILINE)
    assert found, text
    return json.loads(found.group())


def test_a_service_is_deployed_invoked_and_removed(server: Server, serverless: Serverless) -> None:
    def succeeds(*arguments: str) -> str:
        done = serverless(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    succeeds("deploy")
    assert _names(server, "actions") == ["greetings-dev-both", "greetings-dev-hello", "greetings-dev-shout"]
    assert _names(server, "triggers") == ["said"]
    assert len(_names(server, "rules")) == 1

    # An exported action has final parameters, which no caller changes.
    assert _json(succeeds("invoke", "--function", "hello")) == {"greeting": "Hello Owl"}
    refused = serverless("invoke", "--function", "hello", "--data", '{"name": "you"}')
    assert refused.returncode != 0 and "name" in refused.stdout + refused.stderr
    web = requests.get(f"{server.url}/api/v1/web/guest/default/greetings-dev-hello.json", timeout=30)
    assert web.json() == {"greeting": "Hello Owl"}

    data = '{"greeting": "you"}'
    assert _json(succeeds("invoke", "--function", "shout", "--data", data)) == {"greeting": "YOU"}
    assert _json(succeeds("invoke", "--function", "both")) == {"greeting": "HELLO OWL"}
    accepted = _json(succeeds("invoke", "--function", "shout", "--data", data, "--type", "nonblocking"))
    assert re.fullmatch("[0-9a-f]{32}", accepted["activationId"])

    assert "greets Owl" in succeeds("logs", "--function", "hello")
    # It ends by asking an API gateway for routes, which an OpenWhisk need not have, and fails without one.
    told = serverless("info").stdout
    assert "greetings-dev-hello" in told and "said" in told

    succeeds("remove")
    for collection in ("actions", "triggers", "rules"):
        assert _names(server, collection) == []
