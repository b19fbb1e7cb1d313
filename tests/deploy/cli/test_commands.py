"""What needs no server: help, parameters, where to connect to, errors."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import main
from deploy.cli.actions import parse_value
from deploy.cli.commands import COMMANDS
from deploy.cli.connection import connect, guest_key
from rm_agent.openwhisk import ConfigurationError


@pytest.fixture
def owl(tmp_path, monkeypatch):
    monkeypatch.setenv("OWL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WSK_CONFIG_FILE", str(tmp_path / "wskprops"))
    monkeypatch.delenv("OW_APIHOST", raising=False)
    monkeypatch.delenv("OW_AUTH", raising=False)

    def owl(*arguments: str, **options):
        return CliRunner().invoke(main, arguments, **options)

    return owl


def test_help_lists_every_command_without_loading_any():
    code = (
        "import sys; from deploy.cli import main; main(['--help'], standalone_mode=False);"
        "print('loaded:', sorted(sys.modules.keys() & {'requests', 'flask', 'yaml', 'rich', 'torch', 'numpy', 'psutil'}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert shown.endswith("loaded: []\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "bench"])
def test_each_command_explains_itself(owl, name):
    shown = owl(name, "--help")
    assert shown.exit_code == 0 and f"Usage: owl {name}" in shown.output


def test_wrong_use_exits_with_2(owl):
    for arguments in (["nonsense"], ["invoke"], ["invoke", "x", "-p", "key"], ["activations", "--since", "soon"], ["logs"]):
        result = owl(*arguments)
        assert result.exit_code == 2 and "Error: " in result.output
    assert owl("--version").output.startswith("owl ")


def test_nobody_there(owl):
    result = owl("invoke", "hello", "--apihost", "localhost:1")
    assert result.exit_code == 1
    assert result.output == (
        "Error: no OpenWhisk answers at http://localhost:1; start one with `owl up`, or name another with --apihost\n"
    )


def test_another_kind_of_server(owl):
    class Silent(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Silent) as another:
        threading.Thread(target=another.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{another.server_port}"
        for command in (["invoke", "hello"], ["actions"], ["activations"]):
            result = owl(*command, "--apihost", url)
            assert result.exit_code == 1
            assert result.output == f"Error: what answers at {url} is not an OpenWhisk (HTTP 501); name one with --apihost\n"
        another.shutdown()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Owl", "Owl"),
        ("3", 3),
        ("3.5", 3.5),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ('{"a": [1]}', {"a": [1]}),
        ("{broken", "{broken"),
        ("NaN", "NaN"),
        ("", ""),
        ("-5", -5),
    ],
)
def test_parameters_are_json_or_text(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


@given(st.text())
def test_any_text_is_a_parameter(text):
    json.dumps(parse_value(text), allow_nan=False)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8
    )
)
def test_json_comes_through(value):
    assert parse_value(json.dumps(value)) == value


def test_a_parameter_file(owl, tmp_path):
    for content, message in (("{", "is not JSON"), ("[1]", "must hold a JSON object"), ('{"a": NaN}', "NaN is not JSON")):
        (tmp_path / "p.json").write_text(content)
        result = owl("invoke", "hello", "-P", str(tmp_path / "p.json"))
        assert result.exit_code == 2 and message in result.output
    assert "cannot read" in owl("invoke", "hello", "-P", str(tmp_path / "none.json")).output


def test_where_commands_connect_to(owl, tmp_path, monkeypatch):
    assert connect().url == "http://localhost:3233"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "server.pid").write_text(json.dumps({"pid": 1, "started": 0, "url": "http://localhost:4000"}))
    assert connect().url == "http://localhost:4000"
    (tmp_path / "wskprops").write_text("APIHOST=cluster.example.com\n")
    with pytest.raises(ConfigurationError, match="no key for cluster.example.com"):
        connect()
    (tmp_path / "wskprops").write_text(f"APIHOST=cluster.example.com\nAUTH={guest_key()}\nNAMESPACE=team\n")
    assert (connect().url, connect().namespace) == ("https://cluster.example.com", "team")
    monkeypatch.setenv("OW_APIHOST", "10.0.0.1:3233")
    assert connect().url == "http://10.0.0.1:3233"
    assert connect("http://other").url == "http://other"


def test_a_wrong_manifest_is_told_before_anything_is_sent(owl, tmp_path):
    (tmp_path / "manifest.yaml").write_text("packages: {p: {actions: {a: {function: missing.py}}}}")
    for command in ("deploy", "undeploy"):
        result = owl(command, "-m", str(tmp_path))
        assert result.exit_code == 2
        assert result.output.startswith(f"Error: {tmp_path}/manifest.yaml: packages.p.actions.a.function: there is no file")


def test_an_unknown_benchmark_lists_those_there_are(owl):
    result = owl("bench", "nonsense")
    assert result.exit_code == 2 and result.output.startswith("Error: there is no benchmark 'nonsense'; available: loop, platform")


def test_a_benchmark_has_the_options_of_its_function(owl):
    shown = owl("bench", "loop", "--help").output
    assert all(flag in shown for flag in ("--quick", "--json FILE", "--report DIRECTORY", "--pairs INTEGER", "--resume"))


def test_every_option_of_a_benchmark_is_explained(owl):
    assert "One part alone; the figures of the others" in owl("bench", "platform", "--help").output
    bench = COMMANDS["bench"]
    group = getattr(importlib.import_module(bench[0]), bench[1])
    for name in ("loop", "platform"):
        assert [option.name for option in group.get_command(None, name).params if not option.help] == []


def test_an_unknown_part_of_a_benchmark_is_wrong_use(owl):
    result = owl("bench", "platform", "--only", "nonsense")
    assert result.exit_code == 2 and "'nonsense' is not one of 'replay', 'warm', 'cold', 'soak', 'fuzz'" in result.output


def test_down_and_status_with_nothing_running(owl):
    assert owl("down").output == "nothing is running\n"
    result = owl("status")
    assert result.exit_code == 3 and "not running" in result.output


def test_a_home_that_cannot_be_used(owl, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWL_HOME", str(tmp_path / "file" / "home"))
    assert "set OWL_HOME to another folder" in owl("down").output
    monkeypatch.setenv("OWL_HOME", str(tmp_path / ("x" * 100)))
    assert "set OWL_HOME to a shorter one" in owl("down").output
