import asyncio

import pytest

from fastapi_users.features.throttle.limiter import Limit, Limiter, LimitExceeded
from fastapi_users.features.throttle.limits import Counters, Rate, StorageUnavailable, open_storage
from fastapi_users.testing import frozen_clock

TWO = Limit(name="two", key="two", rate=Rate(2, 60))
ONE = Limit(name="one", key="one", rate=Rate(1, 60))
GROWING = Limit(name="growing", key="growing", rate=Rate(1, 60), grows=True)


@pytest.fixture
def limiter() -> Limiter:
    counters = Counters(open_storage("memory://"), prefix="test", timeout_seconds=30)
    return Limiter(counters, patience_seconds=0.1, longest_delay_seconds=200)


async def test_it_says_how_many_are_left_and_then_refuses(limiter: Limiter) -> None:
    with frozen_clock():
        assert [await limiter.count(TWO), await limiter.count(TWO)] == [1, 0]
        with pytest.raises(LimitExceeded) as refusal:
            await limiter.count(TWO)
    assert (refusal.value.limit, refusal.value.rate, refusal.value.seconds_left) == (TWO, Rate(2, 60), 60)


async def test_what_is_refused_by_one_limit_is_reserved_in_none(limiter: Limiter) -> None:
    await limiter.fail(await limiter.reserve([ONE]))

    for _ in range(3):
        with pytest.raises(LimitExceeded):
            await limiter.reserve([TWO, ONE])
    assert await limiter.counters.get("two") == 0


async def test_a_try_is_settled_once(limiter: Limiter) -> None:
    released, failed = await limiter.reserve([TWO]), await limiter.reserve([TWO])
    for _ in range(2):
        await limiter.release(released)
        await limiter.fail(released)
        await limiter.fail(failed)
        await limiter.release(failed)

    assert await limiter.counters.get("two") == 1


async def test_it_waits_for_a_try_that_is_being_checked(limiter: Limiter) -> None:
    first = await limiter.reserve([ONE])
    waiting = asyncio.create_task(limiter.reserve([ONE]))
    await asyncio.sleep(0)
    await limiter.release(first)

    assert not (await waiting).is_settled


async def test_it_waits_until_a_right_try_is_taken_back_everywhere(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that is asked over the network lets others run while it answers."""
    first = await limiter.reserve([TWO, ONE])
    take_back, is_answered = limiter.counters.take_back, asyncio.Event()

    async def take_back_later(key: str, seconds: int) -> None:
        await is_answered.wait()
        await take_back(key, seconds)

    monkeypatch.setattr(limiter.counters, "take_back", take_back_later)
    releasing = asyncio.create_task(limiter.release(first))
    await asyncio.sleep(0)
    monkeypatch.undo()
    limiter._patience_seconds = 3600
    waiting = asyncio.create_task(limiter.reserve([ONE]))
    await asyncio.sleep(0)
    assert not waiting.done()
    is_answered.set()
    await releasing
    assert (await waiting).places[0].number == 1


async def test_a_storage_that_fails_as_a_try_is_taken_back_keeps_nobody_waiting(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(key: str, seconds: int) -> None:
        raise StorageUnavailable

    reservation = await limiter.reserve([ONE])
    with monkeypatch.context() as patch:
        patch.setattr(limiter.counters, "take_back", fail)
        with pytest.raises(StorageUnavailable):
            await limiter.release(reservation)
    limiter._patience_seconds = 3600
    with pytest.raises(LimitExceeded):
        await limiter.reserve([ONE])


async def test_it_does_not_wait_for_ever(limiter: Limiter) -> None:
    await limiter.reserve([ONE])
    with pytest.raises(LimitExceeded):
        await limiter.reserve([ONE])


async def test_a_delay_grows_up_to_the_longest(limiter: Limiter) -> None:
    seconds = []
    for _ in range(20):
        reservation = await limiter.reserve([GROWING])
        seconds.append(reservation.places[0].rate.seconds)
        await limiter.fail(reservation)
        with pytest.raises(LimitExceeded) as refusal:
            await limiter.reserve([GROWING])
        assert refusal.value.rate.seconds == seconds[-1]
        await limiter.counters.forget(GROWING.key)  # as if it had ended

    assert seconds == [60, 120] + [200] * 18
    await limiter.forget(GROWING)
    assert (await limiter.reserve([GROWING])).places[0].rate.seconds == 60


async def test_a_storage_that_fails_in_between_leaves_nothing_in_flight(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(key: str) -> int:
        raise StorageUnavailable

    monkeypatch.setattr(limiter.counters, "get", fail)
    with pytest.raises(StorageUnavailable):
        await limiter.reserve([ONE, GROWING])

    assert (await limiter.reserve([ONE])).places[0].number == 1
