"""Command line of an action container: ``python -m action_runtime``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# -m puts the caller's folder first: a file in it must not stand in for one of ours or of the standard library.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from action_runtime.executor.zygote import start_zygote
from action_runtime.kinds import KINDS, PYTHON, MissingNode, UnknownKind, node_for


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="action_runtime", description="Serve one OpenWhisk action: POST /init, POST /run.")
    parser.add_argument("--kind", default=PYTHON, metavar="KIND", help=f"one of {', '.join(KINDS)} (default: %(default)s)")
    parser.add_argument("--listen", default="tcp:0.0.0.0:8080", metavar="ADDRESS", help="unix:PATH or tcp:HOST:PORT")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="descriptor that gets one byte once requests are accepted")
    parser.add_argument("--work", type=Path, default=Path.cwd(), metavar="DIR", help="folder the action is unpacked in")
    return parser.parse_args(arguments)


def main() -> int:
    """Serve until SIGTERM. Returns the exit code; 2 when it cannot start."""
    options = _options(sys.argv[1:])
    try:
        node = node_for(options.kind)
    except (UnknownKind, MissingNode) as error:
        print(f"action runtime: {error}", file=sys.stderr)
        return 2
    # Forked before the server is even imported: what the zygote does not hold, no action inherits.
    zygote = start_zygote(options.ready_fd, node)
    ahead = zygote.spawn(0) if node else None  # starts while the server is imported

    from action_runtime.proxy.service import Unavailable, serve

    try:
        serve(options.listen, options.work.absolute(), zygote, options.ready_fd, ahead)
    except Unavailable as error:
        print(f"action runtime: {error}", file=sys.stderr)
        return 2
    return 1


if __name__ == "__main__":
    sys.exit(main())
