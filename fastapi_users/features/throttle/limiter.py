"""Count before the check, and take back after it: parallel tries never come to more than a limit."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio

from fastapi_users.features.throttle.limits import Counters, Rate

_SECONDS_BETWEEN_LOOKS = 0.02
_SECONDS_OF_STRIKES = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One counter, and what it may come to. ``grows``: each time it was used up, the next one lasts twice as long."""

    name: str
    key: str
    rate: Rate
    grows: bool = False


class LimitExceeded(Exception):
    def __init__(self, limit: Limit, rate: Rate, seconds_left: int) -> None:
        super().__init__(limit.name)
        self.limit = limit
        self.rate = rate
        self.seconds_left = seconds_left


@dataclass(frozen=True)
class Place:
    """Of a try within a limit: the how-many-eth it was, and of which window."""

    limit: Limit
    rate: Rate
    number: int


@dataclass
class Reservation:
    """Counts as a failure until it is known to be none."""

    places: list[Place] = field(default_factory=list)
    is_settled: bool = False
    is_awaited: bool = True


class Limiter:
    """
    :raises StorageUnavailable: every method but ``leave``.
    """

    def __init__(self, counters: Counters, *, patience_seconds: float, longest_delay_seconds: int) -> None:
        self.counters = counters
        self._patience_seconds = patience_seconds
        self._longest_delay_seconds = longest_delay_seconds
        self._in_flight: Counter[str] = Counter()

    async def count(self, limit: Limit) -> int:
        """How many are left. :raises LimitExceeded:"""
        number = await self.counters.add(limit.key, limit.rate.seconds)
        if number > limit.rate.amount:
            raise await self._exceeded(limit)
        return limit.rate.amount - number

    async def reserve(self, limits: Iterable[Limit]) -> Reservation:
        """A failure in each of them, before it is one.

        Where a limit is used up only by tries that are being checked, in this process, it waits for them: else a class
        that logs in at once, behind one address, would be refused without one wrong password.

        :raises LimitExceeded: nothing is reserved then.
        """
        reservation = Reservation()
        try:
            for limit in limits:
                reservation.places.append(await self._take_place(limit))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.release(reservation)
            raise
        return reservation

    async def release(self, reservation: Reservation) -> None:
        """It was no failure. Others wait until that is written: before, they would find its place taken, by nobody."""
        if reservation.is_settled:
            return
        reservation.is_settled = True
        try:
            for place in reservation.places:
                await self.counters.take_back(place.limit.key, place.rate.seconds)
        finally:
            self.leave(reservation)

    async def fail(self, reservation: Reservation) -> None:
        """It was one, and is counted already."""
        if reservation.is_settled:
            return
        reservation.is_settled = True
        self.leave(reservation)
        for place in reservation.places:
            if place.limit.grows and place.number >= place.rate.amount:
                await self.counters.add(_strikes_key(place.limit), _SECONDS_OF_STRIKES)

    def leave(self, reservation: Reservation) -> None:
        """Nobody may say what became of it: others shall not wait for that."""
        if reservation.is_awaited:
            reservation.is_awaited = False
            for place in reservation.places:
                self._in_flight[place.limit.key] -= 1
                if self._in_flight[place.limit.key] <= 0:
                    del self._in_flight[place.limit.key]

    async def forget(self, limit: Limit) -> None:
        await self.counters.forget(limit.key)
        if limit.grows:
            await self.counters.forget(_strikes_key(limit))

    async def _take_place(self, limit: Limit) -> Place:
        rate = _grown(limit, await self._strikes(limit), self._longest_delay_seconds)
        looks_left = int(self._patience_seconds / _SECONDS_BETWEEN_LOOKS)
        while True:
            number = await self.counters.add(limit.key, rate.seconds)
            if number <= rate.amount:
                self._in_flight[limit.key] += 1
                return Place(limit, rate, number)
            await self.counters.take_back(limit.key, rate.seconds)
            if limit.key not in self._in_flight or looks_left <= 0:
                raise await self._exceeded(limit)
            looks_left -= 1
            await anyio.sleep(_SECONDS_BETWEEN_LOOKS)

    async def _exceeded(self, limit: Limit) -> LimitExceeded:
        # The last strike was for the tries that are used up now: it is the next ones that last longer.
        strikes = max(0, await self._strikes(limit) - 1)
        rate = _grown(limit, strikes, self._longest_delay_seconds)
        return LimitExceeded(limit, rate, await self.counters.seconds_left(limit.key))

    async def _strikes(self, limit: Limit) -> int:
        return await self.counters.get(_strikes_key(limit)) if limit.grows else 0


def _grown(limit: Limit, strikes: int, longest_seconds: int) -> Rate:
    doublings = min(strikes, longest_seconds.bit_length())  # beyond, it is the longest anyway
    seconds = min(limit.rate.seconds << doublings, max(limit.rate.seconds, longest_seconds))
    return Rate(limit.rate.amount, seconds)


def _strikes_key(limit: Limit) -> str:
    return f"{limit.key}:strikes"
