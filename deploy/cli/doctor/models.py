"""What the LLM functions need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from deploy.cli.doctor.finding import Finding, fails, note, ok, warning

IMPORT_S = 5.0
_ASK = "import torch; print(torch.__version__, torch.get_num_threads(), torch.cuda.is_available())"


def torch() -> Finding:
    """Imported by another process, where a broken installation can do no harm."""
    if importlib.util.find_spec("torch") is None:
        return note("torch", "not installed: the LLM functions fail, all others work", "`make setup`, if you need them")
    try:
        done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=IMPORT_S)
    except subprocess.TimeoutExpired:
        return warning("torch", f"not imported within {IMPORT_S:g} s", "is the machine busy, or its disk slow?")
    except OSError as error:
        return warning("torch", f"{sys.executable} cannot be run: {error.strerror}", "`make setup` as this user")
    words = done.stdout.split()
    if done.returncode or len(words) != 3:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return warning("torch", f"cannot be imported: {reason}", "install it anew: `make setup`")
    version, threads, cuda = words
    return ok("torch", f"{version}, {threads} threads, {'CUDA' if cuda == 'True' else 'CPU only'}")


def model() -> Finding:
    from action_runtime.llm.errors import ModelError
    from action_runtime.llm.model_store import DEFAULT_MODEL, locate

    try:
        folder = locate()
    except ModelError as error:
        return note("model", str(error).partition(": run")[0], f"`owl model prepare {DEFAULT_MODEL}`, if you need it")
    except OSError as error:
        return fails("model", f"cannot be read: {error.strerror}", "set OWL_CACHE to a folder of yours")
    return ok("model", f"{DEFAULT_MODEL} ({folder})")
