"""What is kept in memory of entities: little enough, and never an old revision."""

from __future__ import annotations

from deploy.standalone.cache import Cache
from deploy.standalone.store import Entity


def entity(path: str, revision: int = 1) -> Entity:
    return Entity("actions", "guest", path, {}, None, revision)


def test_what_was_put_is_found_and_counted() -> None:
    cache = Cache()
    assert cache.get(("guest", "a")) is None
    cache.put(entity("a"), 10, cache.generation)
    assert cache.get(("guest", "a")) == entity("a")
    assert cache.hits == 1


def test_what_was_read_before_something_was_written_is_not_kept() -> None:
    cache = Cache()
    before = cache.generation
    cache.forget([("guest", "a")])
    cache.put(entity("a"), 10, before)
    assert cache.get(("guest", "a")) is None


def test_what_was_written_is_forgotten() -> None:
    cache = Cache()
    for path in "ab":
        cache.put(entity(path), 10, cache.generation)
    cache.forget([("guest", "a"), ("guest", "unknown")])
    assert cache.get(("guest", "a")) is None
    assert cache.get(("guest", "b")) == entity("b")


def test_the_first_go_when_there_is_no_room() -> None:
    cache = Cache(most_bytes=100_000)
    cache.put(entity("large"), 100_000, cache.generation)
    assert cache.get(("guest", "large")) is None
    for path in "abc":
        cache.put(entity(path), 40_000, cache.generation)
    found = [path for path in "abc" if cache.get(("guest", path))]
    assert found == ["b", "c"]
    for revision in range(10):
        cache.put(entity("c", revision), 40_000, cache.generation)
    assert cache.get(("guest", "b")) is not None
    cache.forget([("guest", "b"), ("guest", "c")])
    cache.put(entity("d"), 90_000, cache.generation)
    assert cache.get(("guest", "d")) is not None
