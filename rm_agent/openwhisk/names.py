"""Names of entities, as people write them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from rm_agent.openwhisk.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class EntityName:
    """``namespace`` is ``_`` for one's own; ``package`` is None outside of packages."""

    namespace: str
    package: str | None
    name: str

    @classmethod
    def parse(cls, text: str, namespace: str = "_") -> EntityName:
        """Read ``name``, ``pkg/name``, ``/ns/name``, ``/ns/pkg/name`` or ``ns/pkg/name``.

        Raises:
            ConfigurationError: the text is none of these.
        """
        parts = text.strip().split("/")
        if parts[0] == "" and len(parts) > 2:
            namespace, *parts = parts[1:]
        elif len(parts) == 3:
            namespace, *parts = parts
        if not namespace or len(parts) > 2 or not all(part.strip() for part in parts):
            raise ConfigurationError(f"'{text}' is not a name: use name, package/name or /namespace/package/name")
        if any(part in (".", "..") for part in (namespace, *parts)):
            raise ConfigurationError(f"'{text}' is not a name: '.' and '..' are not allowed in it")
        return cls(namespace, parts[0] if len(parts) == 2 else None, parts[-1])

    @property
    def path(self) -> str:
        """``pkg/name`` or ``name``."""
        return f"{self.package}/{self.name}" if self.package else self.name

    @property
    def url_path(self) -> str:
        return "/".join(quote(part, safe="") for part in self.path.split("/"))

    def __str__(self) -> str:
        return f"/{self.namespace}/{self.path}"
