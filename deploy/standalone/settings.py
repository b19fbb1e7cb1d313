"""What `owl serve` can be told, with OpenWhisk's defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from deploy.standalone.auth import WELL_KNOWN_USERS, User

MIB = 1 << 20


def default_data() -> Path:
    """Where the server keeps its database when it is not told: ``$OWL_HOME/server``."""
    return Path(os.environ.get("OWL_HOME") or Path.home() / ".owl") / "server"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one server. ``data=None`` means a temporary folder that is removed at the end."""

    host: str = "127.0.0.1"
    port: int = 3233
    data: Path | None = None
    users: tuple[User, ...] = WELL_KNOWN_USERS
    invocations_per_minute: int = 60
    fires_per_minute: int = 60
    concurrent_invocations: int = 30
    user_memory_mib: int | None = None
    min_action_memory_mib: int = 128
    max_action_memory_mib: int = 512
    min_action_timeout_ms: int = 100
    max_action_timeout_ms: int = 300_000
    max_action_logs_mib: int = 10
    max_action_concurrency: int = 1
    default_cpu_millis: int = 1000
    containers: str = "process"  # or "docker": what the containers of managed kinds are
    images: dict[str, str] = field(default_factory=dict)  # kind -> image, in place of the one in runtimes.py
    stem_cells: int = 2  # per kind: of the default kind from the start, of others once one was used
    container_env: dict[str, str] = field(default_factory=dict)
    node_socket: str | None = None
    cgroup: str | None = None
    sequence_length: int = 50
    max_code_bytes: int = 48 * MIB
    max_parameter_bytes: int = MIB
    max_body_bytes: int = 52 * MIB
    blocking_timeout_s: float = 60.0
    drain_s: float = 10.0
    request_timeout_s: float = 30.0  # for a request to arrive, large bodies 100 kB a second longer
    keep_alive_s: float = 120.0  # how long a connection may be idle
    activation_days: float = 30.0  # how long records are kept; 0: for ever
    log_format: str = "text"  # or "json": one object per line
    verbose: bool = False
