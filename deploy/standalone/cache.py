"""Entities that were read lately, in memory, so that a warm call does not read its code from the disk."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.standalone.store import Entity

MOST_BYTES = 128 << 20
_OWN_BYTES = 2048  # about what an entity takes beside its text

Key = tuple[str, str]  # namespace and path


class Cache:
    """``most_bytes`` of entities; those that came first go first. Any thread may call.

    ``hits`` counts what was found; threads may lose one now and then.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.hits = 0
        self.generation = 0  # changes whenever something was written
        self._most = most_bytes
        self._bytes = 0
        self._kept: dict[Key, tuple[Entity, int]] = {}
        self._changing: Counter[Key] = Counter()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Entity | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        self.hits += 1
        return kept[0]

    def put(self, entity: Entity, text_bytes: int, generation: int) -> None:
        """Keep what was read, unless something was written since ``generation``: then it may be an old revision."""
        size = text_bytes + _OWN_BYTES
        if size > self._most:
            return
        key = entity.namespace, entity.path
        with self._lock:
            if generation != self.generation or key in self._changing:
                return
            self._drop(key)
            while self._bytes + size > self._most:
                self._drop(next(iter(self._kept)))
            self._kept[key] = entity, size
            self._bytes += size

    @contextlib.contextmanager
    def changing(self, keys: Collection[Key]) -> Iterator[None]:
        """From before the commit of ``keys`` to after it: nothing of them is kept, as it may be either revision."""
        with self._lock:
            self.generation += 1
            self._changing.update(keys)
            for key in keys:
                self._drop(key)
        try:
            yield
        finally:
            with self._lock:
                self.generation += 1
                self._changing -= Counter(keys)  # others may be changing the same ones by now

    def _drop(self, key: Key) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped[1]
