"""Limits per minute of the clock and at once, each user apart."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.standalone.errors import ApiError
from deploy.standalone.throttle import ConcurrencyLimit, RateLimit


def test_the_next_minute_of_the_clock_starts_at_zero() -> None:
    now = [59.0]
    limit = RateLimit(2, clock=lambda: now[0])
    limit.check("guest")
    limit.check("guest")
    with pytest.raises(ApiError, match="count: 3, allowed: 2"):
        limit.check("guest")
    limit.check("alice")
    now[0] = 60.0
    limit.check("guest")


def test_refused_calls_at_once_do_not_count() -> None:
    limit = ConcurrencyLimit(1)
    limit.enter("guest")
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            limit.enter("guest")
        assert caught.value.status == 429
    limit.enter("alice")
    limit.leave("guest")
    limit.enter("guest")
    assert limit.total == 2


def test_too_many_at_once_are_a_429(serving: Any, client: Any) -> None:
    with serving(concurrent_invocations=2, stem_cells=0) as server:
        guest = client(server.url)
        guest.put_action("nap", "import time\n\ndef main(args):\n    time.sleep(1)\n    return {}\n")
        statuses = [guest.ns("POST", "actions/nap", {}).status_code for _ in range(3)]
        assert statuses == [202, 202, 429]
        assert guest("GET", "/api/v1/namespaces").status_code == 200


def test_fires_count_apart_from_invocations(serving: Any, client: Any) -> None:
    with serving(fires_per_minute=1, invocations_per_minute=1, stem_cells=0) as server:
        guest = client(server.url)
        guest.ns("PUT", "triggers/tick", {})
        assert guest.ns("POST", "actions/none", {}).status_code == 404
        assert guest.ns("POST", "triggers/tick", {}).status_code == 204
        refused = {guest.ns("POST", path, {}).status_code for path in ("actions/none", "triggers/tick")}
        # The minute of the clock may have changed in between.
        assert 429 in refused
