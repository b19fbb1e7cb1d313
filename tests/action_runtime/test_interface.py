"""What an action sees and answers: the behaviours OpenWhisk's runtime tests assert."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from tests.action_runtime.container import SENTINEL, Container

ECHO = "def main(args):\n    return args\n"
CONTEXT = {
    "namespace": "guest",
    "action_name": "/guest/act",
    "action_version": "0.0.1",
    "activation_id": "0" * 32,
    "transaction_id": "t1",
    "deadline": "1900000000000",
    "api_key": "k:s",
}


def python(source: str) -> str:
    return textwrap.dedent(source)


def test_init_then_runs(container: Container) -> None:
    assert container.init("def main(args):\n    print('hello', args['name'])\n    return {'greeting': args['name']}\n") == (200, {"ok": True})
    assert container.run({"name": "a"}) == (200, {"greeting": "a"})
    assert container.run({"name": "b"}) == (200, {"greeting": "b"})
    assert container.stdout == f"hello a\n{SENTINEL}hello b\n{SENTINEL}"
    assert container.stderr == SENTINEL * 2


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/init", 400, b'{"error":"Error unmarshaling request: unexpected end of JSON input"}\n'),
        ("GET", "/run", 500, b'{"error":"no action defined yet"}\n'),
        ("GET", "/", 200, b""),
        ("HEAD", "/run", 500, b""),
        ("POST", "/nothing", 200, b""),
        ("POST", "/init?again=1", 400, b'{"error":"Error unmarshaling request: unexpected end of JSON input"}\n'),
    ],
)
def test_other_methods_and_paths(container: Container, method: str, path: str, status: int, body: bytes) -> None:
    answered, _, content = container.client.exchange(method, path)
    assert (answered, content) == (status, body)
    assert (container.stdout, container.stderr) == ("", "")


def test_answers_always_state_their_length(container: Container) -> None:
    for method, path, body in [("GET", "/", None), ("POST", "/init", b"{}"), ("POST", "/run", b"{}"), ("POST", "/other", b"{}")]:
        _, headers, content = container.client.exchange(method, path, body)
        assert headers["content-length"] == str(len(content))
        assert "transfer-encoding" not in headers


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{bad", 400, "invalid character 'b' looking for beginning of object key string"),
        (b"", 400, "unexpected end of JSON input"),
        (b'{"value"', 400, "unexpected end of JSON input"),
        (b'{"value": {}} x', 400, "invalid character 'x' after top-level value"),
        (b"[1]", 400, "the request must be an object"),
        (b'{"value": "x"}', 400, "value must be an object"),
        (b'{"value": {"code": 5}}', 400, "value.code must be a string"),
        (b'{"value": {"code": "x", "binary": "yes"}}', 400, "value.binary must be true or false"),
        (b'{"value": {"code": "x", "env": []}}', 400, "value.env must be an object"),
        (b"[" * 100_000, 400, "Error unmarshaling request"),
        (b"\xff\xfe\xff", 400, "Error unmarshaling request"),
        (b"{}", 403, "Missing main/no code to execute."),
        (b'{"value": {"code": ""}}', 403, "Missing main/no code to execute."),
        (b'{"value": {"code": "!!!", "binary": true}}', 400, "illegal base64 data at input byte 0"),
        (b'{"value": {"code": "aGVsbG8", "binary": true}}', 400, "illegal base64 data at input byte 7"),
    ],
)
def test_malformed_init_is_refused_and_can_be_repeated(container: Container, body: bytes, status: int, message: str) -> None:
    answered, _, content = container.client.exchange("POST", "/init", body)
    assert answered == status
    assert message in json.loads(content)["error"]
    assert container.run()[0] == 500
    assert (container.stdout, container.stderr) == ("", "")
    assert container.init(ECHO)[0] == 200


def test_second_init_is_refused(container: Container) -> None:
    container.init(ECHO)
    assert container.init(ECHO) == (403, {"error": "Cannot initialize the action more than once."})
    assert container.stderr == "<time> Cannot initialize the action more than once.\n"
    assert container.run({"still": "here"}) == (200, {"still": "here"})


def test_run_before_init(container: Container) -> None:
    assert container.run() == (500, {"error": "no action defined yet"})
    assert (container.stdout, container.stderr) == ("", "")


def test_init_after_a_failed_one_uses_a_folder_of_its_own(container: Container) -> None:
    assert container.init("def main(args)\n    return {}\n") == (
        502,
        {"error": "The action failed to generate or locate a binary. See logs for details."},
    )
    assert container.init("def main(args):\n    return {'file': __file__}\n")[0] == 200
    assert container.run()[1]["file"] == f"{container.work}/2/bin/main__.py"
    assert container.stderr == f"expected ':'\n{SENTINEL}{SENTINEL}"


def test_another_entry_function(container: Container) -> None:
    container.init("def niam(args):\n    return {'other': True}\n", main="niam")
    assert container.run() == (200, {"other": True})


@pytest.mark.parametrize(
    ("code", "log"),
    [
        ("def other(args): return {}\n", "<frames>\nImportError: cannot import name 'main' from 'main__' (/action/1/bin/main__.py)\n"),
        ("import nosuchmodule\n", "<frames>\nModuleNotFoundError: No module named 'nosuchmodule'\n"),
        ("import sys\nsys.exit(1)\n", ""),
        ("import sys\nsys.exit('no licence')\n", "no licence\n"),
        ("import os\nos._exit(0)\n", ""),
        ("return 5\n", "<frames>\nSyntaxError: 'return' outside function\n"),
    ],
)
def test_code_that_cannot_be_loaded(container: Container, code: str, log: str) -> None:
    assert container.init(code) == (502, {"error": "Cannot start action. Check logs for details."})
    assert log in container.stderr
    assert container.stderr.endswith(f"Command exited abruptly during initialization.\n{SENTINEL}")
    assert container.stdout == SENTINEL
    assert container.run() == (500, {"error": "no action defined yet"})


def test_a_traceback_shows_the_users_frames_only(container: Container) -> None:
    container.init("def main(args):\n    return 1 / args['n']\n")
    assert container.run({"n": 0}) == (200, {"error": "division by zero"})
    log = (container.folder / "stderr").read_text()
    assert 'main__.py", line 2, in main' in log
    assert "action_runtime" not in log
    assert log.endswith(f"ZeroDivisionError: division by zero\n\n{SENTINEL}")


@pytest.mark.parametrize(
    ("result", "status", "answer"),
    [
        ("{'a': [1, None]}", 200, {"a": [1, None]}),
        ("{'error': 'no'}", 200, {"error": "no"}),
        ("[1, 'two', {'three': 3}]", 200, [1, "two", {"three": 3}]),
        ("(1, 2)", 200, [1, 2]),
        ("[]", 200, []),
        ("None", 200, None),
        ("'text'", 502, {"error": "The action did not return a dictionary or array."}),
        ("5", 502, {"error": "The action did not return a dictionary or array."}),
        ("True", 502, {"error": "The action did not return a dictionary or array."}),
        ("{'x': float('nan')}", 502, {"error": "The action returned NaN or Infinity, which JSON does not have."}),
    ],
)
def test_results(container: Container, result: str, status: int, answer: object) -> None:
    container.init(f"def main(args):\n    return {result}\n")
    assert container.run() == (status, answer)
    assert container.run() == (status, answer)
    assert (container.stdout, container.stderr) == (SENTINEL * 2, SENTINEL * 2)


def test_arrays_in_and_out(container: Container) -> None:
    container.init("def main(args):\n    return [len(args), *args]\n")
    assert container.run([{"a": 1}, "b", None]) == (200, [3, {"a": 1}, "b", None])
    assert container.run([]) == (200, [0])


@pytest.mark.parametrize(
    ("code", "log"),
    [
        ("import os\ndef main(args): os._exit(3)\n", ""),
        ("import sys\ndef main(args): sys.exit(3)\n", ""),
        ("import os, signal\ndef main(args): os.kill(os.getpid(), signal.SIGKILL)\n", ""),
        ("import os\ndef main(args):\n    print('last words')\n    os.closerange(3, 100)\n    while True: pass\n", ""),
        ("def main(args): return {'x': {1}}\n", "<frames>\nTypeError: Object of type set is not JSON serializable\n"),
        ("def main(args):\n    a = {}\n    a['a'] = a\n    return a\n", "<frames>\nValueError: Circular reference detected\n"),
    ],
)
def test_an_executor_that_ends_is_answered_and_outlived(container: Container, code: str, log: str) -> None:
    container.init(code)
    assert container.run() == (400, {"error": "command exited"})
    assert container.run() == (500, {"error": "no action defined yet"})
    assert container.stderr == log + SENTINEL
    assert container.stdout.endswith(SENTINEL)
    assert container.alive()


def test_an_executor_that_ends_between_runs(container: Container) -> None:
    container.init("import os, threading\ndef main(args):\n    threading.Timer(0.05, os._exit, [0]).start()\n    return {}\n")
    assert container.run() == (200, {})
    while (answer := container.run())[0] == 200:
        pass
    assert answer in [(500, {"error": "command exited"}), (400, {"error": "command exited"})]


@pytest.mark.parametrize("body", [b"{bad", b"", b"[1]", b"5"])
def test_a_run_that_is_no_json_object(container: Container, body: bytes) -> None:
    container.init(ECHO)
    status, _, content = container.client.exchange("POST", "/run", body)
    assert (status, json.loads(content)) == (400, {"error": "command exited"})
    assert container.stdout == SENTINEL


def test_unicode_in_source_argument_log_and_result(start: Callable[..., Container]) -> None:
    container = start(LANG="C")
    container.init("# ☃\ndef main(args):\n    print(args['s'] + ' ☃')\n    return {'☃': args['s'] + ' ☃'}\n")
    assert container.run({"s": "ünï \U0001f600"}) == (200, {"☃": "ünï \U0001f600 ☃"})
    assert container.stdout == f"ünï \U0001f600 ☃\n{SENTINEL}"


def test_environment_of_init_is_there_at_import(container: Container) -> None:
    code = "import os\nSEEN = {k: os.environ.get(k) for k in ('SOME', 'EMPTY', 'N')}\ndef main(args):\n    return SEEN\n"
    container.init(code, env={"SOME": "xyz", "EMPTY": "", "N": 5})
    assert container.run() == (200, {"SOME": "xyz", "EMPTY": "", "N": "5"})


def test_context_becomes_environment(container: Container) -> None:
    container.init("import os\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k.startswith('__OW_')}\n")
    status, seen = container.run({}, **CONTEXT)
    assert status == 200
    assert seen == {"__OW_API_HOST": "http://localhost:3233", **{f"__OW_{name.upper()}": value for name, value in CONTEXT.items()}}
    assert container.run({}, deadline=17)[1]["__OW_DEADLINE"] == "17"


def test_an_impossible_variable_is_named(container: Container) -> None:
    assert container.init(ECHO, env={"A=B": "x"})[0] == 502
    assert "'A=B' cannot be set" in container.stderr


def test_a_megabyte_is_echoed(container: Container) -> None:
    text = "a" * 1_048_561
    container.init(ECHO)
    for _ in range(2):
        assert container.run({"arg": text}) == (200, {"arg": text})


def test_state_is_kept_between_runs(container: Container) -> None:
    container.init("n = 0\ndef main(args):\n    global n\n    n += 1\n    return {'n': n}\n")
    assert [container.run()[1]["n"] for _ in range(3)] == [1, 2, 3]


def test_whatever_prints_is_in_the_log_before_the_sentinel(container: Container) -> None:
    container.init(
        python("""
        import ctypes, os, subprocess, sys
        libc = ctypes.CDLL(None)
        def main(args):
            sys.stdout.write("python\\n")
            os.write(1, b"descriptor\\n")
            subprocess.run(["echo", "subprocess"])
            libc.printf(b"c library\\n")
            sys.stderr.write("no newline")
            return {}
        """)
    )
    for _ in range(2):
        assert container.run() == (200, {})
    once = f"python\ndescriptor\nsubprocess\nc library\n{SENTINEL}"
    assert container.stdout == once * 2
    assert container.stderr == f"no newline{SENTINEL}" * 2


@pytest.mark.parametrize("spoil", ["sys.stdout.close(); sys.stderr.close()", "sys.stdout = sys.stderr = None", "os.close(1); os.close(2)"])
def test_closed_streams_do_not_end_the_action(container: Container, spoil: str) -> None:
    container.init(f"import os, sys\ndef main(args):\n    if args: {spoil}\n    return {{}}\n")
    assert container.run({"now": 1}) == (200, {})
    assert container.run() == (200, {})
    assert (container.stdout, container.stderr) == (SENTINEL * 2, SENTINEL * 2)


def test_input_is_empty_and_the_channel_is_not_passed_on(container: Container) -> None:
    code = "import subprocess, sys\ndef main(args):\n    return {'in': sys.stdin.read(), 'fds': subprocess.check_output('ls /proc/self/fd', shell=True, text=True).split()}\n"
    container.init(code)
    status, seen = container.run()
    assert (status, seen["in"]) == (200, "")
    assert set(seen["fds"]) <= {"0", "1", "2", "3"}


def test_a_file_is_found_relative_to_the_actions_folder(container: Container) -> None:
    container.init("def main(args):\n    open('note', 'w').write('kept')\n    return {'note': open('note').read()}\n")
    assert container.run() == (200, {"note": "kept"})
    assert (container.work / "1/bin/note").read_text() == "kept"
