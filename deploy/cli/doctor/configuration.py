"""Which OpenWhisk the commands use, and whether it answers and knows the key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from deploy.cli.connection import connect
from deploy.cli.doctor.finding import Finding, note, ok, warning
from deploy.cli.failures import describe
from rm_agent.openwhisk import ConfigurationError, OpenWhiskError, Properties
from rm_agent.openwhisk.properties import wskprops_path

ANSWER_S = 3.0


def configuration() -> Iterator[Finding]:
    path = wskprops_path()
    try:
        found = Properties.read()
        ow = connect()
    except ConfigurationError as error:
        yield warning("configuration", error.message, f"correct {path}, or OW_APIHOST and OW_AUTH")
        return
    yield _of_file(found)
    ow.timeout = ANSWER_S
    if not ow.ping():
        if found.apihost:
            text = f"no OpenWhisk answers at {ow.url}, which is configured"
            yield warning("API", text, "start it, or configure another: `wsk property set --apihost HOST`")
        else:
            yield note("API", f"nothing runs at {ow.url} yet", "`owl up`")
        return
    try:
        namespaces = ow.namespaces()
    except OpenWhiskError as error:
        yield warning("API", f"{ow.url} answers, but: {describe(error)}", "`wsk property set --auth KEY`, or OW_AUTH")
        return
    yield ok("API", f"{ow.url} answers, the key is that of {', '.join(map(str, namespaces))}")


def _of_file(found: Properties) -> Finding:
    path = wskprops_path()
    sources = [name for name in ("OW_APIHOST", "OW_AUTH", "WSK_CONFIG_FILE") if os.environ.get(name)]
    if path.exists():
        sources.append(str(path))
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            text = f"{path} holds a key, and other users can read it"
            return warning("configuration", text, f"`chmod 600 {path}`")
    if not found.apihost and not found.auth:
        return ok("configuration", "none: commands use the platform of this machine and its guest")
    missing = "" if found.auth else "; no key: the guest's is used"
    return ok("configuration", f"from {', '.join(sources)}{missing}")
