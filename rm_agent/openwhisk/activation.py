"""An activation record, as the API returns it, with names for what is read most."""

from __future__ import annotations

from typing import Any


class Activation(dict[str, Any]):
    """The record itself (a ``dict``). A call that was only accepted holds nothing but ``activationId``."""

    @property
    def id(self) -> str:
        return self["activationId"]

    @property
    def pending(self) -> bool:
        """Accepted, but not known to have finished (a 202)."""
        return "response" not in self and "statusCode" not in self

    @property
    def success(self) -> bool:
        if "response" in self:
            return bool(self["response"].get("success"))
        return self.get("statusCode") == 0

    @property
    def status(self) -> str:
        """``success``, ``application error``, ``action developer error``, ``whisk internal error`` or ``pending``."""
        if "response" in self:
            return self["response"].get("status", "")
        if "statusCode" not in self:
            return "pending"
        names = ("success", "application error", "action developer error", "whisk internal error")
        code = self["statusCode"]
        return names[code] if code in range(len(names)) else f"status {code}"

    @property
    def result(self) -> Any:
        return self.get("response", {}).get("result")

    @property
    def path(self) -> str:
        """``namespace/package/name`` of the action that ran."""
        return self.annotation("path") or f"{self.get('namespace', '_')}/{self.get('name', '?')}"

    def annotation(self, key: str, default: Any = None) -> Any:
        for pair in self.get("annotations", ()):
            if pair.get("key") == key:
                return pair.get("value")
        return default

    @property
    def wait_ms(self) -> int | None:
        return self.annotation("waitTime")

    @property
    def init_ms(self) -> int | None:
        """Time of ``/init``; None for a warm start."""
        return self.annotation("initTime")

    @property
    def cold(self) -> bool:
        return self.init_ms is not None
