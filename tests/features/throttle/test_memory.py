import sys
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.throttle.memory import MemoryStorage
from fastapi_users.testing import frozen_clock


async def test_a_counter_that_was_emptied_begins_anew() -> None:
    storage = MemoryStorage()
    with frozen_clock() as clock:
        await storage.incr("a", 60)
        await storage.clear("a")
        await storage.clear("b")
        clock.advance(seconds=30)
        assert await storage.incr("a", 60) == 1
        clock.advance(seconds=59)
        assert await storage.incr("a", 60) == 2
        clock.advance(seconds=1)
        assert await storage.get("a") == 0
        assert await storage.incr("a", 60) == 1


async def test_a_counter_that_begins_anew_may_end_sooner_than_before() -> None:
    storage = MemoryStorage()
    with frozen_clock() as clock:
        await storage.incr("a", 3600)
        await storage.clear("a")
        assert [await storage.incr("a", 300) for _ in range(3)] == [1, 2, 3]
        clock.advance(seconds=300)
        assert await storage.incr("b", 7200) == 1
        assert [*storage._counters] == ["b"]
        assert await storage.incr("a", 7200) == 1
        clock.advance(seconds=3300)  # when it would have ended before
        assert await storage.incr("a", 7200) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.sampled_from([-1, 0, 1]), st.integers(0, 5))))
async def test_what_has_ended_takes_no_room(hits: list[tuple[str, int, int, int]]) -> None:
    storage = MemoryStorage()
    with frozen_clock() as clock:
        ends: dict[str, float] = {}
        for key, seconds, amount, pause in hits:
            if amount == 0:
                await storage.clear(key)
            else:
                if await storage.incr(key, seconds, amount) == amount:
                    ends[key] = time.time() + seconds
                assert all(ends[known] > time.time() for known in storage._counters)
            clock.advance(seconds=pause)
        clock.advance(seconds=10)
        await storage.incr("d", 60)
    assert [*storage._counters] == ["d"]
    assert len(storage._ends) == 1


async def test_a_hit_costs_no_more_among_many() -> None:
    storage = MemoryStorage()
    for number in range(20_000):
        await storage.incr(str(number), 3600)
    calls: list[Any] = []
    sys.setprofile(lambda *call: calls.append(call))
    try:
        await storage.incr("0", 3600)
    finally:
        sys.setprofile(None)
    assert len(calls) < 50
