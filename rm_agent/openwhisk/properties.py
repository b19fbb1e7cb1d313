"""Where OpenWhisk is and who calls it: flags, environment, ``~/.wskprops``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rm_agent.openwhisk.errors import ConfigurationError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
STANDALONE_PORT = 3233


def base_url(apihost: str) -> str:
    """``scheme://host[:port]`` of an API host as ``wsk`` accepts it, without a slash at the end.

    Without a scheme it is https, but http for this machine and for port 3233 (OpenWhisk standalone).

    Raises:
        ConfigurationError: not a host, or one with a path, a query or credentials in it.
    """
    text = apihost.strip()
    explicit = "://" in text
    try:
        parts = urlsplit(text if explicit else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"'{apihost}' is not an API host: {error}") from None
    if explicit and parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"'{apihost}' is not an API host: only http and https are known")
    if not host or any(c.isspace() or c in "\\%" for c in host):
        raise ConfigurationError(f"'{apihost}' is not an API host: use host, host:port or http://host:port")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("an API host is only a scheme, a host and a port, for example http://localhost:3233")
    local = host in LOOPBACK or port == STANDALONE_PORT
    scheme = parts.scheme if explicit else "http" if local else "https"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port is not None else "")


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK


def parse_wskprops(text: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` lines: the keys in upper case. Other lines and ``#`` comments are passed over, as by ``wsk``."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key or key.startswith("#"):
            continue
        if value[:1] in ("'", '"') and value.find(value[0], 1) > 0:
            value = value[1 : value.find(value[0], 1)]
        elif " #" in value:
            value = value.split(" #", 1)[0].rstrip()
        found[key.upper()] = value
    return found


def format_wskprops(values: Mapping[str, str]) -> str:
    """Inverse of :func:`parse_wskprops`, in the form that ``wsk`` writes: one ``KEY=VALUE`` a line, sorted."""
    return "".join(f"{key}={value}\n" for key, value in sorted(values.items()))


def wskprops_path(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("WSK_CONFIG_FILE") or Path.home() / ".wskprops")


@dataclass(frozen=True, slots=True)
class Properties:
    """What is configured; None where nothing is. The key is never shown by ``repr``."""

    apihost: str | None = None
    auth: str | None = field(default=None, repr=False)
    namespace: str | None = None
    api_version: str | None = None

    @classmethod
    def read(cls, apihost: str | None = None, auth: str | None = None, environ: Mapping[str, str] = os.environ) -> Properties:
        """Arguments first, then ``OW_APIHOST`` and ``OW_AUTH``, then ``WSK_CONFIG_FILE`` or ``~/.wskprops``.

        Raises:
            ConfigurationError: the file is there but cannot be read.
        """
        path = wskprops_path(environ)
        try:
            values = parse_wskprops(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            values = {}
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(f"cannot read {path}: {reason}") from None
        return cls(
            apihost=apihost or environ.get("OW_APIHOST") or values.get("APIHOST") or None,
            auth=auth or environ.get("OW_AUTH") or values.get("AUTH") or None,
            namespace=values.get("NAMESPACE") or None,
            api_version=values.get("APIVERSION") or None,
        )
