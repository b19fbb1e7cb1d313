"""`owl doctor`: each check against the condition it is for, made real."""

from __future__ import annotations

import json
import os
import resource
import socket
import time

import psutil
import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.cli.connection import guest_key
from deploy.cli.doctor import checks
from deploy.cli.doctor.configuration import configuration
from deploy.cli.doctor.finding import State
from deploy.cli.doctor.models import model
from deploy.cli.doctor.port import port
from deploy.cli.doctor.programs import docker, node, wsk
from deploy.cli.doctor.selftest import selftest
from deploy.cli.doctor.storage import folder
from deploy.cli.doctor.system import descriptors


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path, monkeypatch):
    monkeypatch.setenv("OWL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WSK_CONFIG_FILE", str(tmp_path / "wskprops"))
    for name in ("OW_APIHOST", "OW_AUTH", "OWL_NODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nobody():
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def doctor(*arguments: str) -> tuple[int, dict]:
    result = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_a_machine_that_can_run_the_tests_is_fit():
    began = time.monotonic()
    code, answer = doctor("--quick")
    assert (code, answer["ok"]) == (0, True) and time.monotonic() - began < 15
    states = {finding["check"]: finding["state"] for finding in answer["findings"]}
    assert states["Python"] == states["data folder"] == states["configuration"] == "ok" and states["API"] == "note"
    assert {"memory", "open files", "clock", "control groups", "Docker", "Node.js", "wsk", "torch", "model"} <= states.keys()
    assert all(finding["fix"] for finding in answer["findings"] if finding["state"] in ("warning", "fails"))


def test_a_table_names_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWL_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(checks, "CHECKS", (folder, wsk))
    result = CliRunner().invoke(main, ["doctor", "--quick"])
    assert result.exit_code == 1
    assert "fails" in result.stdout and "-> set OWL_HOME to another folder" in result.stdout


def test_a_check_that_fails_itself_is_one_line(monkeypatch):
    def surprising():
        raise ZeroDivisionError("for once")

    monkeypatch.setattr(checks, "CHECKS", (surprising, wsk))
    first, second = checks.examine(quick=True)
    assert first.state is State.WARNING and first.text == "could not be found out: ZeroDivisionError: for once"
    assert second.check == "wsk"


def test_a_folder_with_too_long_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("OWL_HOME", str(tmp_path / ("x" * 100)))
    assert (folder().state, folder().fix) == (State.FAILS, "set OWL_HOME to a shorter one")


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path):
    assert folder().state in (State.OK, State.WARNING) and not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "limits, state",
    [
        ((1024, 1 << 20), State.OK),  # the server raises the lower one itself
        ((1024, resource.RLIM_INFINITY), State.OK),
        ((900, 2000), State.WARNING),
        ((900, 900), State.FAILS),
    ],
)
def test_few_descriptors(monkeypatch, limits, state):
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    found = descriptors()
    assert found.state is state and ("nofile" in found.fix) == (state is not State.OK)


def test_a_free_port_and_a_taken_one(nobody):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found = port(taken)
        assert found.state is State.WARNING and f"process {os.getpid()}" in found.text
        assert found.fix.endswith(f"`owl up --port {taken + 1}`")
    assert (port(taken).state, port(taken).text) == (State.OK, "free")


def test_the_port_of_ones_own_platform_is_known(platform, monkeypatch):
    assert "another OpenWhisk" in port(platform.port).text
    monkeypatch.setenv("OWL_HOME", str(platform.home))
    assert port(platform.port).state is State.OK and "`owl up` started" in port(platform.port).text


def test_nothing_configured():
    first, second = configuration()
    assert first.state is State.OK and (second.state, second.fix) == (State.NOTE, "`owl up`")


def test_a_configured_host_that_does_not_answer(nobody, monkeypatch):
    monkeypatch.setenv("OW_APIHOST", f"localhost:{nobody}")
    first, second = configuration()
    assert "OW_APIHOST" in first.text and second.state is State.WARNING and "which is configured" in second.text


@pytest.mark.parametrize("name, value", [("OW_APIHOST", "http://x/y"), ("OW_AUTH", "no-colon")])
def test_a_configuration_that_makes_no_sense(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    (found,) = configuration()
    assert found.state is State.WARNING and found.fix


def test_a_key_is_tried_and_never_shown(platform, monkeypatch, tmp_path):
    monkeypatch.setenv("OW_APIHOST", platform.url)
    assert [finding.state for finding in configuration()] == [State.OK, State.OK]
    wrong = guest_key()[:-1] + "x"
    monkeypatch.setenv("OW_AUTH", wrong)
    _, answer = configuration()
    assert answer.state is State.WARNING and wrong not in answer.text + answer.fix


def test_a_key_that_others_can_read(tmp_path):
    file = tmp_path / "wskprops"
    file.write_text(f"AUTH={guest_key()}\n")
    for mode, state in ((0o644, State.WARNING), (0o600, State.OK)):
        file.chmod(mode)
        assert next(iter(configuration())).state is state


@pytest.mark.parametrize(
    ("printed", "state"), [("v20.1.0", State.OK), ("v16.20.2", State.WARNING), ("hello", State.WARNING)]
)
def test_versions_of_node(tmp_path, monkeypatch, printed, state):
    program = tmp_path / "node"
    program.write_text(f"#!/bin/sh\necho {printed}\n")
    program.chmod(0o755)
    monkeypatch.setenv("OWL_NODE", str(program))
    assert node().state is state


def test_programs_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert [check().state for check in (node, wsk, docker)] == [State.NOTE] * 3
    monkeypatch.setenv("OWL_NODE", "nonsense")
    assert node().state is State.WARNING and "nonsense" in node().text


def test_a_model_that_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("OWL_CACHE", str(tmp_path))
    assert model().state is State.NOTE and "owl model prepare" in model().fix


def test_a_server_that_cannot_start(tmp_path, monkeypatch):
    broken = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(broken))
    assert selftest().state is State.FAILS and "cannot be run" in selftest().text
    broken.write_text("#!/bin/sh\necho out of luck\nexit 1\n")
    broken.chmod(0o755)
    assert selftest().state is State.FAILS and selftest().text == "the server did not start: out of luck"


@pytest.mark.slow
def test_the_self_test_leaves_nothing_behind():
    before = set(psutil.Process().children(recursive=True))
    found = selftest()
    assert found.state is State.OK and found.text.endswith("all removed"), found.text
    assert set(psutil.Process().children(recursive=True)) <= before
