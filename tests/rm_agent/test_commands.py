"""The commands, for those who read what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rm_agent.cli import main
from rm_agent.harvest import Allocation, Step
from rm_agent.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    made = Journal(tmp_path / "journal.db")
    made.begin("harvest")
    for name in "ab":
        made.take_charge(f"root/{name}", name, Allocation(500, 256))
    steps = [("root/a", Step("a", 500, 100)), ("root/b", Step("b", 500, 900))]
    made.resizes("cpu_millis", steps, "idle until its runtime reports a call")
    made.close()
    return tmp_path / "journal.db"


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments), env=environment)
    return result.exit_code, result.output


def test_audit_of_a_sound_journal(journal: Path) -> None:
    code, text = run("audit", OWL_HOME=str(journal.parent))
    assert code == 0 and "violations of conservation: 0" in text
    code, text = run("audit", "--journal", str(journal), "--json")
    assert code == 0 and json.loads(text)["resizes"] == 2


def test_audit_fails_on_a_violation(journal: Path) -> None:
    made = Journal(journal)
    made.begin("harvest")
    made.take_charge("root/b", "b", Allocation(500, 256))
    made.resizes("cpu_millis", [("root/b", Step("b", 900, 901))], "test")
    code, text = run("audit", "--journal", str(journal))
    assert code == 1 and "1001 of cpu_millis is given out, 1000 is owned" in text


def test_explain_from_the_journal(journal: Path) -> None:
    code, text = run("explain", "a", "--journal", str(journal))
    assert code == 0 and "cpu_millis 500 -> 100: idle until its runtime reports a call" in text
    assert run("explain", "zz", "--journal", str(journal))[0] == 1


def test_no_agent_and_no_journal_are_said_in_words(tmp_path: Path) -> None:
    code, text = run("status", "--port", "1")
    assert code == 1 and "no agent answers on port 1" in text
    code, text = run("audit", "--journal", str(tmp_path / "none"))
    assert code == 1 and "there is no journal" in text


def test_the_agent_of_owl_up_is_found_by_its_port(tmp_path: Path) -> None:
    (tmp_path / "manager.pid").write_text(json.dumps({"pid": 1, "started": 0, "url": "http://127.0.0.1:2"}))
    for command in (("status",), ("explain", "a")):
        code, text = run(*command, OWL_HOME=str(tmp_path))
        assert code == 1 and "no agent answers on port 2" in text


def test_status_in_a_pipe_names_containers_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    amounts = {"cpu_millis": 1000, "memory_mib": 256}
    container = {"name": "wsk0_12_prewarm_python311", "action": "/guest/owl/generate", "running": False}
    container |= {"own": amounts, "alloc": amounts, "usage": amounts}
    state = {"policy": "harvest", "dry": False, "root": "owl-3233", "containers": [container], "loans": []}
    monkeypatch.setattr("rm_agent.cli._get", lambda port, path: state)
    code, text = run("status")
    assert code == 0 and "wsk0_12_prewarm_python311" in text and "/guest/owl/generate" in text
