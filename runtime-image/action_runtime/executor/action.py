"""From the code of an action to the function that is called for each run."""

from __future__ import annotations

import ast
import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULE = "main__"  # the name OpenWhisk's Python runtime gives the action's module; tracebacks show it
_ACTIVATE = ("virtualenv/bin/activate_this.py", "virtualenv/Scripts/activate_this.py")
_NO_ACTIVATE = "Invalid virtualenv. Zip file does not include 'activate_this.py'."


NO_BINARY = "The action failed to generate or locate a binary. See logs for details."
_BAD_NAMES = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}  # in a zip, its author's doing


class ActionError(Exception):
    """Code that cannot be an action; the text is for the action's log."""

    def refusal(self) -> bytes:
        """What the proxy is to answer, as JSON."""
        return json.dumps({"status": 502, "error": NO_BINARY}).encode()


class DiskError(ActionError):
    """The container's disk does not take the action, which is not its author's doing."""

    def refusal(self) -> bytes:
        return json.dumps({"status": 507, "error": str(self)}).encode()


@dataclass(frozen=True, slots=True)
class Code:
    """What ``/init`` brought. ``folder`` is where it goes; it must not exist."""

    folder: Path
    main: str
    content: bytes
    binary: bool


def place(code: Code) -> None:
    """Write the code to its folder and check what can be checked without running it. Raises ActionError."""
    try:
        if code.binary and code.content[:2] == b"PK":
            _place_zip(code)
        else:
            code.folder.mkdir(parents=True)
            (code.folder / f"{MODULE}.py").write_bytes(code.content)
    except OSError as error:
        raise not_written(error) from error
    _check(code.folder)


def not_written(error: OSError) -> ActionError:
    """What it means that the action cannot be written."""
    kind = ActionError if error.errno in _BAD_NAMES else DiskError
    return kind(f"The action cannot be written to the container's disk: {error.strerror}.")


def _place_zip(code: Code) -> None:
    from action_runtime.executor.archive import ArchiveError, unpack

    try:
        unpack(code.content, code.folder)
    except ArchiveError as error:
        raise ActionError(str(error)) from error
    entry = code.folder / "__main__.py"
    if entry.is_file():
        entry.rename(code.folder / f"{MODULE}.py")


def _check(folder: Path) -> None:
    try:
        source = (folder / f"{MODULE}.py").read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise ActionError("Zip file does not include __main__.py at its top level.") from None
    try:
        ast.parse(source, f"{MODULE}.py")
    except SyntaxError as error:
        raise ActionError(error.msg) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ActionError(f"The code cannot be parsed: {error}.") from error
    if (folder / "virtualenv").is_dir() and not any((folder / path).is_file() for path in _ACTIVATE):
        raise ActionError(_NO_ACTIVATE)


def load(code: Code) -> Callable[[Any], Any]:
    """Import the action as it would be run from its folder. Raises whatever its code raises."""
    os.chdir(code.folder)
    sys.path.insert(0, str(code.folder))
    sys.argv[:] = [str(code.folder / f"{MODULE}.py")]
    sys.dont_write_bytecode = True  # the folder lives as long as this process
    _activate_virtualenv(code.folder)
    module = __import__(MODULE)
    try:
        return getattr(module, code.main)
    except AttributeError:
        text = f"cannot import name {code.main!r} from {MODULE!r} ({module.__file__})"
        raise ImportError(text, name=MODULE, path=module.__file__) from None


def _activate_virtualenv(folder: Path) -> None:
    for path in _ACTIVATE:
        script = folder / path
        if script.is_file():
            program = compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
            exec(program, {"__file__": str(script), "__name__": "__main__"})
            return
