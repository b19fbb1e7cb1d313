"""Logs of concurrent runs in one container can be told apart by tags on their lines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.action_runtime.container import SENTINEL, Client, Container, by_activation

INIT = "1" * 31 + "f"


def number(n: int) -> str:
    return f"{n:032x}"


@pytest.fixture
def tagged(start: Callable[..., Container]) -> Callable[[str], Container]:
    """Starts a container for concurrent runs with tags, and initialises it with this code."""

    def started(code: str) -> Container:
        container = start(__OW_ALLOW_CONCURRENT="true", OWL_LOG_TAGS="true")
        assert container.init(textwrap.dedent(code), env={"__OW_ACTIVATION_ID": INIT}) == (200, {"ok": True})
        return container

    return started


def run(container: Container, n: int, **value: object) -> tuple[int, object]:
    return Client(container.socket).post("/run", {"value": {"n": n, **value}, "activation_id": number(n)})


def run_at_once(container: Container, count: int) -> list[tuple[int, object]]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda n: run(container, n), range(count)))


def test_every_way_to_print_is_tagged_and_no_line_is_mixed(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import logging, sys, threading
        here = threading.Barrier(8)
        logging.basicConfig(format="%(message)s")
        def main(args):
            n = args["n"]
            for _ in range(20):
                here.wait(10)
                print("print", n, end="")
                here.wait(10)
                print(" end", "☃")
            sys.stdout.write(f"two {n}\\nlines {n}\\n")
            sys.stdout.writelines([f"a {n}\\n", f"b {n}\\n"])
            sys.stdout.buffer.write(b"bytes %d\\n" % n)
            sys.stdout.buffer.write(memoryview(b"view %d\\n" % n))
            logging.error("logged %d", n)
            print("x" * 100_000)
            here.wait(10)
            print("rest", n, end="", file=sys.stderr)
            sys.stdout.write("rest")
            return {"n": 1 / (n - 3)}
        """)
    answers = run_at_once(container, 8)
    assert answers == [(200, {"error": "division by zero"} if n == 3 else {"n": 1 / (n - 3)}) for n in range(8)]
    stdout, stderr = by_activation(container.stdout), by_activation(container.stderr)
    assert set(stdout) == set(stderr) == {number(n) for n in range(8)}
    for n in range(8):
        lines = [f"print {n} end ☃\n"] * 20
        lines += [f"two {n}\n", f"lines {n}\n", f"a {n}\n", f"b {n}\n", f"bytes {n}\n", f"view {n}\n", "x" * 100_000 + "\n", "rest\n"]
        assert stdout[number(n)] == [*lines, SENTINEL]
        assert stderr[number(n)][0] == f"logged {n}\n"
        assert stderr[number(n)][-1] == SENTINEL
    assert stderr[number(5)] == ["logged 5\n", "rest 5\n", SENTINEL]
    assert stderr[number(3)][-3:] == ["ZeroDivisionError: division by zero\n", "\n", SENTINEL]


def test_threads_pools_and_tasks_belong_to_the_run_that_starts_them(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        class Own(threading.Thread):
            def run(self):
                inner = threading.Thread(target=print, args=("thread in a thread",))
                inner.start()
                inner.join()
        async def task(text):
            await asyncio.sleep(0.001)
            await asyncio.to_thread(print, text)
            await asyncio.get_running_loop().run_in_executor(None, print, text)
        def main(args):
            own = Own()
            own.start()
            own.join()
            asyncio.run(task("own loop"))
            asyncio.run_coroutine_threadsafe(task("shared loop"), loop).result(10)
            list(pool.map(print, ["pool"] * 3))
            return {}
        """)
    assert run_at_once(container, 4) == [(200, {})] * 4
    expected = ["thread in a thread\n", *["own loop\n"] * 2, *["shared loop\n"] * 2, *["pool\n"] * 3, SENTINEL]
    assert by_activation(container.stdout) == {number(n): expected for n in range(4)}


def test_import_is_tagged_with_the_id_of_init_and_has_no_sentinel(tagged: Callable[[str], Container]) -> None:
    container = tagged("import sys\nprint('loading')\nsys.stderr.write('no newline')\ndef main(args):\n    return {}\n")
    assert (container.stdout, container.stderr) == (f"\x01{INIT} loading\n", f"\x01{INIT} no newline\n")


@pytest.mark.parametrize(
    ("code", "last"), [("def main(args)\n", "expected ':'\n"), ("1 / 0\n", "Command exited abruptly during initialization.\n")]
)
def test_an_init_that_fails_is_tagged_to_its_end(start: Callable[..., Container], code: str, last: str) -> None:
    container = start(OWL_LOG_TAGS="true")
    assert container.init(code, env={"__OW_ACTIVATION_ID": INIT})[0] == 502
    assert container.stdout == f"\x01{INIT} {SENTINEL}"
    log = by_activation(container.stderr)
    assert set(log) == {INIT}
    assert log[INIT][-2:] == [last, SENTINEL]


def test_the_end_of_the_process_ends_the_logs_of_all_its_runs(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import sys, threading, time
        here = threading.Barrier(3)
        def main(args):
            print("begun", args["n"], end="")
            here.wait(10)
            if args["n"] == 1:
                sys.exit("no more")
            time.sleep(60)
        """)
    assert run_at_once(container, 3) == [(400, {"error": "command exited"})] * 3
    assert by_activation(container.stdout) == {number(n): [f"begun {n}\n", SENTINEL] for n in range(3)}
    assert by_activation(container.stderr) == {number(n): ["no more\n"] * (n == 1) + [SENTINEL] for n in range(3)}


def test_what_is_written_after_the_end_of_a_run_is_not_tagged(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import threading
        go = threading.Event()
        def later():
            go.wait(10)
            print("late")
            go.clear()
        def main(args):
            if not args["n"]:
                threading.Thread(target=later).start()
            else:
                go.set()
                while go.is_set(): pass
            return {}
        """)
    assert [run(container, n) for n in range(2)] == [(200, {})] * 2
    assert container.stdout == f"\x01{number(0)} {SENTINEL}late\n\x01{number(1)} {SENTINEL}"


def test_what_bypasses_the_streams_is_not_tagged(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import os, subprocess
        def main(args):
            subprocess.run(["echo", "subprocess"])
            os.write(1, b"raw without an end")
            print("printed")
            return {}
        """)
    run(container, 1)
    assert container.stdout == f"subprocess\nraw without an end\x01{number(1)} printed\n\x01{number(1)} {SENTINEL}"


@pytest.mark.parametrize("spoil", ["sys.stdout.close(); sys.stderr.close()", "sys.stdout = sys.stderr = None", "os.close(1); os.close(2)"])
def test_closed_streams_do_not_take_the_end_of_the_logs_away(tagged: Callable[[str], Container], spoil: str) -> None:
    container = tagged(f"import os, sys\ndef main(args):\n    if args['n'] == 1: {spoil}\n    return {{}}\n")
    assert [run(container, n) for n in range(3)] == [(200, {})] * 3
    assert container.stdout == container.stderr == "".join(f"\x01{number(n)} {SENTINEL}" for n in range(3))


def test_a_forked_child_prints_while_others_do(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import multiprocessing, threading
        def main(args):
            print("begun, ", end="")
            child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
            child.start()
            child.join()
            print("ended")
            return {"code": child.exitcode}
        """)
    assert run_at_once(container, 4) == [(200, {"code": 0})] * 4
    assert by_activation(container.stdout) == {number(n): ["child\n", "begun, ended\n", SENTINEL] for n in range(4)}


def test_the_streams_are_what_libraries_expect(tagged: Callable[[str], Container]) -> None:
    container = tagged("""
        import io, sys
        def main(args):
            out = sys.stdout
            out.reconfigure(line_buffering=False)
            print("lone \\ud800", flush=True)
            wrapper = io.TextIOWrapper(out.buffer, "utf-8", write_through=True)
            wrapper.write("wrapped\\n")
            wrapper.detach()
            try:
                out.write(b"bytes")
            except TypeError as error:
                problem = str(error)
            text = isinstance(out, io.TextIOBase) and out is sys.__stdout__ and out.writable()
            return [text, out.fileno(), out.isatty(), out.encoding, problem]
        """)
    assert run(container, 7) == (200, [True, 1, False, "utf-8", "write() argument must be str, not bytes"])
    assert by_activation(container.stdout) == {number(7): ["lone \\ud800\n", "wrapped\n", SENTINEL]}


def test_a_line_that_does_not_end_is_not_held_back_for_ever(tagged: Callable[[str], Container]) -> None:
    container = tagged("def main(args):\n    for _ in range(5): print('x' * 500_000, end='')\n    return {}\n")
    run(container, 1)
    assert [len(line) for line in by_activation(container.stdout)[number(1)]] == [1_500_001, 1_000_001, len(SENTINEL)]


@pytest.mark.parametrize("activation", [None, 5, "short", "F" * 32, "\n" * 32])
def test_what_is_no_activation_id_is_no_tag(tagged: Callable[[str], Container], activation: object) -> None:
    container = tagged("def main(args):\n    print('here')\n    return {}\n")
    assert container.run({}, activation_id=activation) == (200, {})
    assert container.stdout == f"here\n{SENTINEL}"
