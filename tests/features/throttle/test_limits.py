import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.throttle.limits import (
    Counters,
    CounterStorage,
    Rate,
    StorageUnavailable,
    open_storage,
    parse_rates,
)
from fastapi_users.features.throttle.memory import MemoryStorage
from fastapi_users.testing import frozen_clock
from tests.features.throttle.throttled import redis_storage


@pytest.fixture(params=["memory", "redis"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[CounterStorage]:
    if request.param == "memory":
        yield open_storage("memory://")
    else:
        async with redis_storage() as storage:
            yield storage


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("10/minute", [Rate(10, 60)]),
        ("5 per 2 hours", [Rate(5, 7200)]),
        ("1/minute; 5/hour", [Rate(1, 60), Rate(5, 3600)]),
        ("5/5 minutes", [Rate(5, 300)]),
    ],
)
def test_limits_are_written_as_people_say_them(text: str, rates: list[Rate]) -> None:
    assert [*parse_rates(text)] == rates


@given(st.text(max_size=20))
def test_what_is_no_limit_is_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert all(rate.seconds > 0 for rate in parse_rates(text))


@pytest.mark.parametrize("uri", ["memory://", "async+memory://", "redis://127.0.0.1:1", "async+redis://127.0.0.1:1"])
def test_a_storage_is_named_by_its_uri(uri: str) -> None:
    assert hasattr(open_storage(uri), "get_expiry")


def test_a_storage_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Exception, match="unknown storage scheme"):
        open_storage("unknown://")


async def test_each_of_many_gets_a_number_of_its_own(storage: CounterStorage) -> None:
    counters = Counters(storage, prefix="test numbers", timeout_seconds=30)

    assert sorted(await asyncio.gather(*(counters.add("a", 60) for _ in range(50)))) == [*range(1, 51)]
    assert await counters.get("a") == 50
    assert 0 < await counters.seconds_left("a") <= 60
    await counters.forget("a")
    assert await counters.get("a") == 0
    assert await counters.seconds_left("a") == 1


async def test_what_is_taken_back_from_a_counter_that_has_ended_is_no_try_more(storage: CounterStorage) -> None:
    counters = Counters(storage, prefix="test taken back", timeout_seconds=30)

    await counters.take_back("a", 60)
    assert await counters.get("a") == 0
    assert await counters.add("a", 60) == 1
    await counters.take_back("a", 60)
    assert await counters.get("a") == 0


async def test_a_counter_ends_by_itself() -> None:
    counters = Counters(open_storage("memory://"), prefix="test", timeout_seconds=30)
    with frozen_clock() as clock:
        await counters.add("a", 60)
        clock.advance(seconds=60)
        assert await counters.get("a") == 0
        assert await counters.add("a", 60) == 1


class Slow(MemoryStorage):
    """As a server can be."""

    async def get(self, key: str) -> int:
        return await asyncio.sleep(3600, 0)


async def test_a_storage_that_takes_too_long_is_as_good_as_none() -> None:
    counters = Counters(Slow(), prefix="test", timeout_seconds=0.01)

    with pytest.raises(StorageUnavailable):
        await counters.get("a")
