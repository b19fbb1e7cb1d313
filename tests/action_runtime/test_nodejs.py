"""Actions for Node.js: the behaviours that the tests of OpenWhisk's own runtime assert, and what is asked besides."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.action_runtime.container import SENTINEL, Client, Container, by_activation, zip_of

pytestmark = pytest.mark.node

ECHO = "function main(args) { return args }"
PACKAGE = '{"name": "act", "version": "1.0.0", "main": "index.js"}'


@pytest.fixture
def container(start: Callable[..., Container]) -> Container:
    return start("nodejs:20")


def log(container: Container) -> str:
    return container.stdout + container.stderr


def test_init_then_runs(container: Container) -> None:
    code = "function main({name}) { console.log('hello stdout'); console.error('hello stderr'); return {greeting: name} }"
    assert container.init(code) == (200, {"ok": True})
    assert container.run({"name": "a"}) == (200, {"greeting": "a"})
    assert container.run({"name": "b"}) == (200, {"greeting": "b"})
    assert container.stdout == f"hello stdout\n{SENTINEL}" * 2
    assert container.stderr == f"hello stderr\n{SENTINEL}" * 2


@pytest.mark.parametrize("kind", ["nodejs:18", "nodejs:20"])
def test_both_kinds(start: Callable[..., Container], kind: str) -> None:
    container = start(kind)
    assert container.ready == b"1"
    container.init("const main = () => ({major: parseInt(process.versions.node)})")
    status, answer = container.run()
    assert status == 200
    assert answer["major"] >= 18


@pytest.mark.parametrize(
    ("code", "main"),
    [
        ("function niam(args) { return args }", "niam"),
        ("const main = (args) => args", "main"),
        ("const main = async (args) => args // no line end", "main"),
        ("let actions = {one: {two: (args) => args}}", "actions.one.two"),
        ("exports.main = (args) => args", "main"),
        ("module.exports = {main: (args) => args}", "main"),
        ("exports.deep = {er: (args) => args}", "deep.er"),
        ("module.exports = {default: (args) => args}", "default"),
        ("global.main = (args) => args", "main"),
        ("'use strict'\nclass Act { static main(args) { return args } }", "Act.main"),
        ("export function main(args) { return args }", "main"),
        ("import path from 'path'\nfunction main(args) { return path.sep && args }", "main"),
        ("import {sep} from 'path'\nexport default (args) => sep && args", "main"),
        ("const fs = await import('fs')\nexport const main = (args) => fs && args", "main"),
        ("async function main(args) { const {sep} = await import('path'); return sep && args }", "main"),
        ("const module = 1, require = 2, exports = 3\nfunction main(args) { return args }", "main"),
        ("#!/usr/bin/env node\nfunction main(args) { return args }", "main"),
    ],
)
def test_entry_functions_of_source(container: Container, code: str, main: str) -> None:
    assert container.init(code, main=main) == (200, {"ok": True})
    assert container.run({"x": 1}) == (200, {"x": 1})
    assert log(container) == SENTINEL * 2


@pytest.mark.parametrize(
    ("files", "main"),
    [
        ({"package.json": PACKAGE, "index.js": "exports.main = (args) => args"}, "main"),
        ({"index.js": "exports.main = (args) => args"}, "main"),
        ({"package.json": '{"main": "lib/a.js"}', "lib/a.js": "exports.niam = (args) => args"}, "niam"),
        ({"other.js": "exports.niam = (args) => args"}, "other.niam"),
        ({"other.js": "exports.niam = {xyz: (args) => args}"}, "other.niam.xyz"),
        ({"package.json": PACKAGE, "index.js": "throw 1", "other.js": "exports.niam = (args) => args"}, "other.niam"),
        ({"package.json": '{"type": "module"}', "index.js": "export function main(args) { return args }"}, "main"),
        ({"package.json": '{"main": "a.mjs"}', "a.mjs": "export default {main: (args) => args}"}, "main"),
        ({"package.json": '{"type": "module"}', "index.js": "import './b.cjs'\nexport const main = (a) => a", "b.cjs": "exports.x = 1"}, "main"),
        ({"lib/my-file.js": "exports.niam = (args) => args"}, "lib/my-file.niam"),
        ({"a.mjs": "export const niam = (args) => args"}, "a.niam"),
        ({"index.js": "exports.main = require('own').echo", "node_modules/own/index.js": "exports.echo = (args) => args"}, "main"),
    ],
)
def test_entry_functions_of_zips(container: Container, files: dict[str, str], main: str) -> None:
    assert container.init(zip_of(files), main=main) == (200, {"ok": True})
    assert container.run({"x": 1}) == (200, {"x": 1})
    assert log(container) == SENTINEL * 2


def test_folder_of_a_zip(container: Container) -> None:
    index = """
        const fs = require('fs')
        exports.main = () => [fs.readFileSync('./test.txt', 'utf8'), __dirname === process.cwd(), __dirname]
        """
    container.init(zip_of({"package.json": PACKAGE, "test.txt": "test text", "index.js": index}))
    assert container.run() == (200, ["test text", True, f"{container.work}/1/bin"])


def test_folder_of_source(container: Container) -> None:
    container.init("const fs = require('fs')\nfunction main() { fs.writeFileSync('note', 'x'); return [__dirname, process.cwd()] }")
    assert container.run() == (200, [f"{container.work}/1/bin"] * 2)
    assert (container.work / "1/bin/note").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "status", "answer"),
    [
        ("return", 200, {}),
        ("return null", 200, {}),
        ("return Promise.resolve()", 200, {}),
        ("return {error: 'sorry'}", 200, {"error": "sorry"}),
        ("return [1, 'two', {three: 3}]", 200, [1, "two", {"three": 3}]),
        ("return new Promise((resolve) => setTimeout(() => resolve({done: true}), 20))", 200, {"done": True}),
        ("return new Promise((_, reject) => setTimeout(() => reject({done: true}), 20))", 200, {"error": {"done": True}}),
        ("return {then: (resolve) => resolve({later: 1})}", 200, {"later": 1}),
        ("return Promise.reject()", 200, {"error": {}}),
        ("return Promise.reject('no')", 200, {"error": "no"}),
        ("throw 'nooooo'", 502, {"error": "An error has occurred: nooooo"}),
        ("throw new TypeError('bad')", 502, {"error": "An error has occurred: TypeError: bad"}),
        ("throw {code: 5}", 502, {"error": "An error has occurred: { code: 5 }"}),
        ("throw undefined", 502, {"error": "An error has occurred: undefined"}),
        ("return 'not a json object'", 502, {"error": "The action did not return a dictionary or array."}),
        ("return 5", 502, {"error": "The action did not return a dictionary or array."}),
        ("return () => {}", 502, {"error": "The action did not return a dictionary or array."}),
        ("return new Date(0)", 502, {"error": "The action did not return a dictionary or array."}),
    ],
)
def test_results(container: Container, code: str, status: int, answer: object) -> None:
    container.init(f"function main(args) {{ {code} }}")
    assert container.run() == (status, answer)
    assert container.run() == (status, answer)
    assert container.stdout == SENTINEL * 2
    assert container.stderr.count(SENTINEL) == 2


def test_arrays_in_and_out(container: Container) -> None:
    container.init("function main(args) { return [args.length, ...args] }")
    assert container.run([{"a": 1}, "b", None]) == (200, [3, {"a": 1}, "b", None])
    assert container.run([]) == (200, [0])


def test_a_wrong_result_is_shown_in_the_log(container: Container) -> None:
    container.init("function main() { return 'text' }")
    container.run()
    assert container.stderr == f'Result must be of type object but has type "string": text\n{SENTINEL}'


@pytest.mark.parametrize("result", ["{n: 1n}", "(() => { const a = {}; a.a = a; return a })()"])
def test_results_that_are_not_json(container: Container, result: str) -> None:
    container.init(f"function main() {{ return {result} }}")
    status, answer = container.run()
    assert status == 502
    assert answer["error"].startswith("An error has occurred: TypeError: ")


def test_a_rejected_error_is_an_object(container: Container) -> None:
    container.init("\nasync function main() { throw Object.assign(new RangeError('far'), {code: 'E1'}) }")
    status, answer = container.run()
    assert status == 200
    stack = answer["error"].pop("stack")
    assert answer == {"error": {"name": "RangeError", "message": "far", "code": "E1"}}
    assert stack == f"RangeError: far\n    at main ({container.work}/1/bin/index.cjs:2:45)"
    assert log(container) == SENTINEL * 2


def test_a_thrown_error_is_in_the_log_with_the_users_frames_only(container: Container) -> None:
    container.init("\n\nfunction main() {\n  nothing.here()\n}")
    assert container.run()[0] == 502
    assert "ReferenceError: nothing is not defined\n    at main (" in container.stderr
    assert "index.cjs:4:3" in container.stderr
    assert "action_runtime" not in container.stderr


def test_examples_of_the_documentation(container: Container) -> None:
    container.init("""
        function main(params) {
          if (params.payload == 0) { return }
          else if (params.payload == 1) { return {payload: 'Hello, World!'} }
          else if (params.payload == 2) { return {error: 'payload must be 0 or 1'} }
        }""")
    answers = [container.run({"payload": n}) for n in range(3)]
    assert answers == [(200, {}), (200, {"payload": "Hello, World!"}), (200, {"error": "payload must be 0 or 1"})]
    assert log(container) == SENTINEL * 6


def test_undeclared_variables(container: Container) -> None:
    container.init("function main(params) { greeting = 'hello, ' + params.payload + '!'; console.log(greeting); return {payload: greeting} }")
    assert container.run({"payload": "test"}) == (200, {"payload": "hello, test!"})
    assert container.stdout == f"hello, test!\n{SENTINEL}"


@pytest.mark.parametrize(
    ("code", "main", "message"),
    [
        ('10 PRINT "Hello world!"\n20 GOTO 10\n', "main", "SyntaxError: Unexpected identifier"),
        ("function main() {\n  return {}", "main", "index.cjs:2\n  return {}\n"),
        ("})(); (function () {", "main", "SyntaxError: Unexpected token '}'"),
        ("import x from 'path'\nexport function main( {", "main", "SyntaxError: "),
        ("require('.mildlyinvalidnameofanonexistentpackage')", "main", "Cannot find module '.mildlyinvalidname"),
        ("const ow = require('openwhisk')\nfunction main() {}", "main", "Cannot find module 'openwhisk'"),
        ("throw new Error('at import')", "main", "Error: at import"),
        ("throw 'text'", "main", "text"),
        ("const main = 5", "main", "Action entrypoint 'main' is not a function."),
        ("function main() {}", "other", "Action entrypoint 'other' is not a function."),
        ("function main() {}", "main.x", "Action entrypoint 'main.x' is not a function."),
        ("function main() {}", "main;process.exit()", "Action entrypoint 'main;process.exit()' is not a function."),
    ],
)
def test_source_that_cannot_be_loaded(container: Container, code: str, main: str, message: str) -> None:
    status, answer = container.init(code, main=main)
    assert status == 502
    assert answer["error"].startswith("Initialization has failed due to: ")
    assert message in answer["error"]
    assert container.stderr.startswith("Error during initialization: ")
    assert message in container.stderr
    assert "action_runtime" not in answer["error"] + container.stderr
    assert container.stderr.endswith(SENTINEL)
    assert container.stdout == SENTINEL
    assert container.run() == (500, {"error": "no action defined yet"})
    assert container.init(ECHO)[0] == 200
    assert container.run({"x": 1}) == (200, {"x": 1})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (zip_of({"hello": "Hello world!"}), "Zipped actions must contain either package.json or index.js at the root."),
        (b"Ceci n'est pas un zip.\n", "There was an error uncompressing the action archive: it is not a zip file."),
        (zip_of({"index.js": ECHO})[:-30], "There was an error uncompressing the action archive. The zip file is damaged"),
        (zip_of({"../index.js": ECHO}), "outside its folder: '../index.js'"),
        (zip_of({"package.json": "{bad", "index.js": ECHO}), "package.json"),
        (zip_of({"package.json": '{"main": "gone.js"}'}), "Cannot find module"),
        (zip_of({"index.js": ECHO}), "Action entrypoint 'main' is not a function."),
        (zip_of({"index.js": "exports.main = (\n"}), "SyntaxError"),
    ],
)
def test_zips_that_cannot_be_loaded(container: Container, code: bytes, message: str) -> None:
    assert container.init(code)[0] == 502
    assert container.stderr.startswith("Error during initialization: ")
    assert message in container.stderr
    assert container.stderr.endswith(SENTINEL)
    assert container.stdout == SENTINEL
    assert container.init(zip_of({"index.js": f"exports.main = {ECHO}"})) == (200, {"ok": True})
    assert container.run({"x": 1}) == (200, {"x": 1})


def test_no_code(container: Container) -> None:
    assert container.init("") == (403, {"error": "Missing main/no code to execute."})
    assert container.init(ECHO)[0] == 200


def test_second_init_is_refused(container: Container) -> None:
    container.init(ECHO)
    assert container.init(ECHO) == (403, {"error": "Cannot initialize the action more than once."})
    assert container.stderr == "<time> Cannot initialize the action more than once.\n"
    assert container.run({"still": "here"}) == (200, {"still": "here"})


def test_a_missing_package_is_an_error_of_the_run_and_node_path_offers_it(start: Callable[..., Container], tmp_path) -> None:
    (tmp_path / "offered").mkdir()
    (tmp_path / "offered/openwhisk.js").write_text("module.exports = () => ({actions: 1})")
    code = "function main() { return require('openwhisk')() }"
    without, having = start("nodejs:20"), start("nodejs:20", NODE_PATH=str(tmp_path / "offered"))
    assert (without.init(code)[0], having.init(code)[0]) == (200, 200)
    assert having.run() == (200, {"actions": 1})
    status, answer = without.run()
    assert status == 502
    assert answer["error"].startswith("An error has occurred: Error: Cannot find module 'openwhisk'")


def test_environment(container: Container) -> None:
    code = """
        const seen = {some: process.env.SOME, empty: process.env.EMPTY, n: process.env.N, host: process.env.__OW_API_HOST,
                      early: process.env.__OW_ACTIVATION_ID}
        const main = () => ({...seen, key: process.env.__OW_API_KEY, id: process.env.__OW_ACTIVATION_ID, deadline: process.env.__OW_DEADLINE})
        """
    container.init(code, env={"SOME": "xyz", "EMPTY": "", "N": 5, "__OW_ACTIVATION_ID": "a" * 32})
    at_init = {"some": "xyz", "empty": "", "n": "5", "host": "http://localhost:3233", "early": "a" * 32}
    at_run = {"key": "k:s", "id": "b" * 32, "deadline": "17"}
    assert container.run(api_key="k:s", activation_id="b" * 32, deadline=17) == (200, {**at_init, **at_run})


def test_an_impossible_variable_is_named(container: Container) -> None:
    assert container.init(ECHO, env={"A=B": "x"})[0] == 502
    assert "'A=B' cannot be set" in container.stderr


def test_unicode_in_source_argument_log_and_result(container: Container) -> None:
    container.init("function main({delimiter: d}) { const s = `${d} ☃ ${d}`; console.log(s); return {'☃': s} }")
    assert container.run({"delimiter": "❄\U0001f600"}) == (200, {"☃": "❄\U0001f600 ☃ ❄\U0001f600"})
    assert container.stdout == f"❄\U0001f600 ☃ ❄\U0001f600\n{SENTINEL}"


def test_a_megabyte_is_echoed(container: Container) -> None:
    text = "a" * 1_048_561
    container.init(ECHO)
    for _ in range(2):
        assert container.run({"arg": text}) == (200, {"arg": text})


def test_large_source(container: Container) -> None:
    line = '    x = "I took the one less traveled by, and that has made all the difference.";\n'
    container.init(f"function main(args) {{\n    var x = 'hello';\n{line * 7000}    return {{message: x}}\n}}")
    assert container.run()[1]["message"].startswith("I took")


def test_timers_do_not_hold_the_answer_back(container: Container) -> None:
    container.init("function main() { setInterval(() => {}, 1000); setTimeout(() => {}, 60000); return {now: true} }")
    assert [container.run() for _ in range(2)] == [(200, {"now": True})] * 2


def test_fetch_is_there(container: Container) -> None:
    container.init("async function main() { return {text: await (await fetch('data:text/plain,owl')).text()} }")
    assert container.run() == (200, {"text": "owl"})
    assert log(container) == SENTINEL * 2


def test_what_is_printed_is_out_before_the_sentinel(container: Container) -> None:
    container.init("""
        const {execFileSync} = require('child_process')
        function main() {
          for (let n = 0; n < 3000; n++) console.log('x'.repeat(100))
          execFileSync('echo', ['subprocess'], {stdio: 'inherit'})
          process.stdout.write('no newline')
          process.stderr.write(new Uint8Array([0x68, 0x69, 0x0a]))
          console.table([{a: 1}])
          return {tty: process.stdout.isTTY === true, fd: process.stdout.fd, writable: process.stdout.writable}
        }""")
    assert container.run() == (200, {"tty": False, "fd": 1, "writable": True})
    assert container.stdout.startswith(("x" * 100 + "\n") * 3000 + "subprocess\nno newline┌")
    assert container.stdout.endswith(SENTINEL)
    assert container.stderr == f"hi\n{SENTINEL}"


def test_the_pipes_stay_as_they_are(container: Container) -> None:
    container.init("""
        const {spawnSync} = require('child_process')
        const main = () => ({flags: spawnSync('grep', ['flags', '/proc/self/fdinfo/1'], {stdio: [0, 1, 2]}).status,
                             open: spawnSync('ls', ['/proc/self/fd'], {encoding: 'utf8'}).stdout.split('\\n').filter(Boolean)})
        """)
    status, answer = container.run()
    assert (status, answer["flags"]) == (200, 0)
    assert not int(container.stdout.split()[1], 8) & 0o4000  # O_NONBLOCK
    assert set(answer["open"]) <= {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("process.exit(0)", ""),
        ("process.kill(process.pid, 'SIGKILL')", ""),
        ("Promise.reject(new Error('nobody listens')); return new Promise(() => {})", "Error: nobody listens"),
        ("setTimeout(() => { throw new Error('in a timer') }, 5); return new Promise(() => {})", "Error: in a timer"),
    ],
)
def test_a_process_that_ends_is_answered_and_outlived(container: Container, code: str, text: str) -> None:
    container.init(f"function main() {{ console.log('last words'); {code} }}")
    assert container.run() == (400, {"error": "command exited"})
    assert container.run() == (500, {"error": "no action defined yet"})
    assert container.stdout == f"last words\n{SENTINEL}"
    assert text in container.stderr
    assert container.stderr.endswith(SENTINEL)
    assert container.alive()


def test_an_exit_at_import(container: Container) -> None:
    assert container.init("process.exit(3)") == (502, {"error": "Cannot start action. Check logs for details."})
    assert container.stderr == f"Command exited abruptly during initialization.\n{SENTINEL}"


def test_state_is_kept_and_runs_are_one_at_a_time_by_default(container: Container) -> None:
    container.init("let n = 0\nasync function main() { console.log('in'); await new Promise((r) => setTimeout(r, 5)); console.log('out'); return {n: ++n} }")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: Client(container.socket).post("/run", {"value": {}}), range(4)))
    assert sorted(answer["n"] for _, answer in answers) == [1, 2, 3, 4]
    assert container.stdout == f"in\nout\n{SENTINEL}" * 4


MEETING = """
    let here = 0, meet, all = new Promise((resolve) => { meet = resolve })
    async function main({n}) {
      console.log('interleave me', n)
      if (++here === 8) meet()
      await all
      return {n}
    }
    """


def run_at_once(container: Container, count: int) -> list[tuple[int, object]]:
    def run(n: int) -> tuple[int, object]:
        return Client(container.socket).post("/run", {"value": {"n": n}, "activation_id": f"{n:032x}"})

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_concurrent_runs_meet_in_one_process(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", __OW_ALLOW_CONCURRENT="true")
    container.init(MEETING)
    assert run_at_once(container, 8) == [(200, {"n": n}) for n in range(8)]
    lines = container.stdout.splitlines(keepends=True)
    assert [sorted(lines[:8]), lines[8:]] == [[f"interleave me {n}\n" for n in range(8)], [SENTINEL] * 8]


def number(n: int) -> str:
    return f"{n:032x}"


def test_concurrent_logs_are_tagged(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", __OW_ALLOW_CONCURRENT="true", OWL_LOG_TAGS="true")
    code = MEETING.replace(
        "await all",
        """
        process.stdout.write(`begun ${n}`)
        await all
        await new Promise((resolve) => setTimeout(resolve, 5))
        console.log(' ended\\ntwo lines')
        queueMicrotask(() => console.error('micro', n))
        process.nextTick(() => process.stderr.write(`tick ${n}`))
        console.log('x'.repeat(100000))
        await fetch('data:,')
        if (n === 3) throw new Error('three')
        """,
    )
    container.init(f"console.log('loading')\nprocess.stderr.write('part')\n{code}", env={"__OW_ACTIVATION_ID": "f" * 32})
    answers = run_at_once(container, 8)
    assert [status for status, _ in answers] == [200] * 8
    stdout, stderr = by_activation(container.stdout), by_activation(container.stderr)
    assert (stdout.pop("f" * 32), stderr.pop("f" * 32)) == (["loading\n"], ["part\n"])
    long = "x" * 100_000 + "\n"
    assert stdout == {number(n): [f"interleave me {n}\n", f"begun {n} ended\n", "two lines\n", long, SENTINEL] for n in range(8)}
    assert stderr == {number(n): [f"micro {n}\n", f"tick {n}\n", SENTINEL] for n in range(8)}


def test_an_unhandled_rejection_is_tagged_and_ends_all(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", __OW_ALLOW_CONCURRENT="true", OWL_LOG_TAGS="true")
    container.init(MEETING.replace("await all", "await all; if (n === 2) Promise.reject(new Error('two')); await new Promise(() => {})"))
    assert run_at_once(container, 8) == [(400, {"error": "command exited"})] * 8
    stdout, stderr = by_activation(container.stdout), by_activation(container.stderr)
    assert stdout == {number(n): [f"interleave me {n}\n", SENTINEL] for n in range(8)}
    assert set(stderr) == set(stdout)
    assert "Error: two\n" in stderr[number(2)]


def test_a_failed_init_is_tagged(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", OWL_LOG_TAGS="true")
    for code in ("function main( {", zip_of({"x": ""}), b"no zip"):
        assert container.init(code, env={"__OW_ACTIVATION_ID": "f" * 32})[0] == 502
    for text in (container.stdout, container.stderr):
        assert set(by_activation(text)) == {"f" * 32}
        assert text.count(SENTINEL) == 3


def test_a_tagged_line_may_come_in_very_many_pieces(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", OWL_LOG_TAGS="true")
    dots = "for (let i = 0; i < 300_000; i++) process.stdout.write('.')"
    container.init(f"function main() {{ const t = Date.now(); {dots}; console.log(); return {{ms: Date.now() - t}} }}")
    status, result = container.run(activation_id="a" * 32)
    assert status == 200 and result["ms"] < 5000  # with a copy of the line for each piece it is a quarter of a minute
    assert container.stdout.startswith(f"\x01{'a' * 32} {'.' * 300_000}\n")


def test_what_is_printed_after_the_end_is_not_tagged(start: Callable[..., Container]) -> None:
    container = start("nodejs:20", OWL_LOG_TAGS="true")
    container.init("function main() { setTimeout(() => console.log('late'), 5); return {} }")
    container.run(activation_id="a" * 32)
    container.run(activation_id="b" * 32)
    container.init("x")  # by now, or soon
    while "late\n" not in container.stdout:
        pass
    assert "\nlate\n" in container.stdout


def test_the_answer_is_what_json_makes_of_it(container: Container) -> None:
    container.init("function main() { return {a: undefined, f() {}, n: NaN, d: new Date(0), b: new Map([[1, 2]])} }")
    _, headers, body = container.client.exchange("POST", "/run", json.dumps({"value": {}}).encode())
    assert body == b'{"n":null,"d":"1970-01-01T00:00:00.000Z","b":{}}\n'
    assert headers["content-length"] == str(len(body))
