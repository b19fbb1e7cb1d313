"""What the Docker SDK lacks: a time-out for each request, and updates as ``docker update --cpus`` does them.

Imported only by those who have an engine: the SDK takes a fifth of a second to load.
"""

from __future__ import annotations

from typing import Any

from docker import APIClient


class Client(APIClient):
    def resize(self, container: str, **resources: int) -> None:
        """Change limits of a container; the keys are those of the Engine API (``NanoCpus``, ``Memory``)."""
        # The SDK would set a CPU quota: an engine refuses `docker update --cpus` for a container that has one.
        self._result(self._post_json(self._url("/containers/{0}/update", container), data=resources))

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # The SDK lets some requests wait for ever, a pull among them.
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        return kwargs
