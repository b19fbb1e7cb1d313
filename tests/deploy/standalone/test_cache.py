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


def test_what_was_read_before_or_during_a_change_is_not_kept() -> None:
    cache, key = Cache(), ("guest", "a")
    before = cache.generation
    with cache.changing([key]):
        during = cache.generation
        cache.put(entity("a"), 10, during)
        assert cache.get(key) is None
        cache.put(entity("b"), 10, during)
        assert cache.get(("guest", "b")) == entity("b")
    for generation in (before, during):
        cache.put(entity("a"), 10, generation)
        assert cache.get(key) is None
    cache.put(entity("a", 2), 10, cache.generation)
    assert cache.get(key) == entity("a", 2)


def test_the_end_of_one_change_is_not_that_of_another() -> None:
    cache, key = Cache(), ("guest", "a")
    with cache.changing([key]):
        with cache.changing([key]):
            pass
        cache.put(entity("a"), 10, cache.generation)
        assert cache.get(key) is None


def test_what_changes_is_forgotten() -> None:
    cache = Cache()
    for path in "ab":
        cache.put(entity(path), 10, cache.generation)
    with cache.changing([("guest", "a"), ("guest", "unknown")]):
        pass
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
    with cache.changing([("guest", "b"), ("guest", "c")]):
        pass
    cache.put(entity("d"), 90_000, cache.generation)
    assert cache.get(("guest", "d")) is not None
