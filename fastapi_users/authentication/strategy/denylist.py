"""What was revoked before it expires, for tokens that nothing else is stored for."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from fastapi_users.db.store import Missing, Store, at_most, find_missing, one_of


class Denylist(Protocol):
    """Values of up to 255 characters under digests of 43, until they expire (``None``: for ever).

    Both methods are asked outside of any ``try``: a list that does not answer lets nobody in, and is an error.
    """

    async def put(self, digest: str, value: str, expires_at: datetime | None) -> None:
        """In the place of what is there."""
        ...

    async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
        """In one round trip. Whether what has expired is still there does not matter."""
        ...


class InMemoryDenylist:
    """Of one process, and until that ends: for tests, and for a server with one worker whose tokens live minutes.

    Keep it in a module: strategies are made anew for every request.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, datetime | None]] = {}
        self._limit = 1000

    async def put(self, digest: str, value: str, expires_at: datetime | None) -> None:
        self._entries[digest] = (value, expires_at)
        if len(self._entries) > self._limit:
            now = datetime.now(timezone.utc)
            self._entries = {kept: entry for kept, entry in self._entries.items() if entry[1] is None or entry[1] > now}
            self._limit = max(1000, 2 * len(self._entries))  # so that each entry is looked at about once more

    async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
        return [self._entries.get(digest, (None, None))[0] for digest in digests]


class StoreDenylist:
    """In a table made from ``SQLAlchemyBaseDeniedTokenTable``, or documents from ``BeanieBaseDeniedToken``.

    :param store: ``user_db.store(DeniedToken)``
    """

    def __init__(self, store: Store[Any]) -> None:
        self._store = store

    async def put(self, digest: str, value: str, expires_at: datetime | None) -> None:
        values = {"value": value, "expires_at": expires_at}
        if await self._store.update_where({"digest": digest}, values):
            return
        try:
            await self._store.create({"digest": digest, **values})
        except Exception:
            # Every database raises something else for a duplicate: whether it was one shows the second try.
            if not await self._store.update_where({"digest": digest}, values):
                raise

    async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
        values = {row.digest: row.value for row in await self._store.list({"digest": one_of(digests)})}
        return [values.get(digest) for digest in digests]

    async def cleanup(self) -> int:
        """Delete what has expired, and tell how many rows those were. Call it now and then, from a cron job say."""
        return await self._store.delete_where({"expires_at": at_most(datetime.now(timezone.utc))})

    async def find_missing(self) -> Sequence[Missing]:
        return await find_missing(self._store)
