"""Counters that end by themselves, in a storage of the library ``limits``."""

import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

import anyio

from fastapi_users._lazy import needs_extra
from fastapi_users.features.throttle.memory import MemoryStorage

with needs_extra("throttle"):
    from limits import parse_many
    from limits.errors import StorageError
    from limits.storage import storage_from_string

__all__ = ["CounterStorage", "Counters", "Rate", "StorageUnavailable", "close_storage", "open_storage", "parse_rates"]

T = TypeVar("T")


class CounterStorage(Protocol):
    """What a storage of the library has, if it is async, and takes negative amounts: as Redis does."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int: ...

    async def get(self, key: str) -> int: ...

    async def get_expiry(self, key: str) -> float: ...

    async def clear(self, key: str) -> None: ...


class StorageUnavailable(Exception):
    """The storage does not answer, or not in time."""


@dataclass(frozen=True)
class Rate:
    """So many in so many seconds, beginning with the first of them."""

    amount: int
    seconds: int


@lru_cache
def parse_rates(text: str) -> tuple[Rate, ...]:
    """``10/minute``, ``5 per 2 hours``, and several of them with a semicolon between.

    :raises ValueError: it is none.
    """
    return tuple(Rate(item.amount, item.get_expiry()) for item in parse_many(text))


def open_storage(uri: str, **options: Any) -> CounterStorage:
    """
    :param uri: ``memory://``, or ``redis://…``, which is asked with the client of the extra ``redis``.
    :param options: the library's, such as a ``connection_pool``.
    """
    if uri == "memory://":
        return MemoryStorage()
    scheme = uri.partition(":")[0].removeprefix("async+")
    if scheme.startswith("redis"):
        options = {"implementation": "redispy", **options}
    uri = f"async+{uri.removeprefix('async+')}"
    return cast("CounterStorage", storage_from_string(uri, wrap_exceptions=True, **options))


async def close_storage(storage: CounterStorage) -> None:
    """The connections of one that :func:`open_storage` made; those of a ``connection_pool`` of yours stay open."""
    bridge: Any = getattr(storage, "bridge", None)  # the library has no name of its own for it
    if hasattr(bridge, "get_connection"):  # of Redis
        sentinels = getattr(getattr(bridge, "sentinel", None), "sentinels", ())
        for client in (bridge.get_connection(), bridge.get_connection(readonly=True), *sentinels):
            await client.aclose()


class Counters:
    """Each operation is one of the storage's, and atomic.

    :raises StorageUnavailable: every method.
    """

    def __init__(self, storage: CounterStorage, *, prefix: str, timeout_seconds: float) -> None:
        self.storage = storage
        self._prefix = prefix
        self._timeout_seconds = timeout_seconds

    async def add(self, key: str, seconds: int) -> int:
        """One more. The first one sets how long the counter lasts."""
        return await self._ask(self.storage.incr(self._name(key), seconds))

    async def take_back(self, key: str, seconds: int) -> None:
        """Not below nothing, where the counter has ended meanwhile: that would be a try too many in the next one."""
        if await self._ask(self.storage.incr(self._name(key), seconds, -1)) < 0:
            await self.add(key, seconds)

    async def get(self, key: str) -> int:
        return await self._ask(self.storage.get(self._name(key)))

    async def seconds_left(self, key: str) -> int:
        ends = await self._ask(self.storage.get_expiry(self._name(key)))
        return max(1, math.ceil(ends - time.time()))

    async def forget(self, key: str) -> None:
        await self._ask(self.storage.clear(self._name(key)))

    def _name(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    async def _ask(self, operation: Awaitable[T]) -> T:
        if type(self.storage) is MemoryStorage:  # at once
            return await operation
        try:
            with anyio.fail_after(self._timeout_seconds):
                return await operation
        except (StorageError, TimeoutError, OSError) as error:
            raise StorageUnavailable from error
