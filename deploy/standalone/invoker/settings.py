"""What an operator may choose about the invoker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class InvokerSettings:
    """Sizes are MiB, CPU is thousandths of a core, times are seconds."""

    user_memory_mib: int  # what all containers may have together, counted by their limits
    api_host: str  # URL of the API, told to the actions as __OW_API_HOST
    run_dir: Path  # sockets and work folders of the containers; kept short for the sockets' sake
    default_cpu_millis: int = 1000  # for actions without the annotation resources.cpu
    stem_cells: int = 2  # kept started for actions yet unknown, per kind: of the default kind from the start, of others once one was used
    stem_memory_mib: int = 256
    container_env: dict[str, str] = field(default_factory=dict)
    node_socket: str | None = None  # where the containers report their activations
    cgroup: str | None = None  # parent group of the containers; None: limits are not enforced
    containers: str = "process"  # or "docker": what the containers of managed kinds are
    images: dict[str, str] = field(default_factory=dict)  # image of each kind, for Docker
    concurrency: int = 1  # the most calls an action may ask to have in one container at once
    pause_grace_s: float = 10.0
    idle_s: float = 600.0
    temporary: Path | None = None  # a folder to be removed should the server be killed

    @property
    def environment(self) -> dict[str, str]:
        """What every container gets, whatever it is made of."""
        concurrent = {"__OW_ALLOW_CONCURRENT": "true", "OWL_LOG_TAGS": "true"} if self.concurrency > 1 else {}
        return {"__OW_API_HOST": self.api_host, **concurrent, **self.container_env}
