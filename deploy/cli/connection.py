"""Options of every command that talks to OpenWhisk, and the client they make."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import click

from deploy.cli.home import Home
from rm_agent.openwhisk import ConfigurationError, OpenWhisk, Properties, base_url
from rm_agent.openwhisk.properties import STANDALONE_PORT, is_loopback

ANSWER_TIMEOUT_S = 70  # a blocking call may take 60


def connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--apihost --auth --insecure -v`` and hands the command a client as ``ow``."""

    @click.option("--apihost", metavar="HOST", help="API host; else OW_APIHOST, ~/.wskprops, what `owl up` started.")
    @click.option("-u", "--auth", metavar="KEY", help="Key uuid:key; else OW_AUTH, ~/.wskprops.")
    @click.option("-i", "--insecure", is_flag=True, help="Accept any certificate.")
    @click.option("-v", "--verbose", is_flag=True, help="Show each request.")
    @functools.wraps(command)
    def wrapped(apihost: str | None, auth: str | None, insecure: bool, verbose: bool, **arguments: Any) -> Any:
        if verbose:
            logging.basicConfig(format="%(message)s")
            logging.getLogger("rm_agent.openwhisk").setLevel(logging.DEBUG)
        return command(ow=connect(apihost, auth, insecure), **arguments)

    return wrapped


def connect(apihost: str | None = None, auth: str | None = None, insecure: bool = False) -> OpenWhisk:
    """A client for what is configured; for this machine's own platform where nothing is.

    Raises:
        ConfigurationError: no key is known for a host that is not this machine.
    """
    found = Properties.read(apihost, auth)
    host = found.apihost or Home().apihost() or f"http://localhost:{STANDALONE_PORT}"
    key = found.auth
    if not key:
        if not is_loopback(base_url(host)):
            raise ConfigurationError(f"no key for {host}: use --auth, OW_AUTH or `wsk property set --auth`")
        key = guest_key()
    if insecure:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return OpenWhisk(
        host,
        key,
        namespace=found.namespace or "_",
        timeout=ANSWER_TIMEOUT_S,
        insecure=insecure,
        api_version=found.api_version or "v1",
    )


def guest_key() -> str:
    """The public key of the user ``guest`` of OpenWhisk standalone."""
    from deploy.standalone.auth import WELL_KNOWN_USERS

    return WELL_KNOWN_USERS[0].api_key
