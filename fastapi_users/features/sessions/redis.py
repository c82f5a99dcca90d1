import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from operator import eq, ge, gt, le, lt, ne
from typing import Any
from uuid import UUID

from fastapi_users._lazy import needs_extra
from fastapi_users.db.store import Condition, Increment, Where
from fastapi_users.features.sessions.models import Session

with needs_extra("redis"):
    import redis.asyncio
    from redis.exceptions import WatchError

_TIMES = ("rotated_at", "auth_time", "created_at", "last_seen_at", "expires_at", "ends_at")


class RedisSessionStore:
    """Sessions in Redis, which forgets those that have ended: set it as ``sessions_model`` of the manager.

    The ids of users are kept as text. A set for each user knows the own sessions; who lists them takes out what Redis has
    forgotten meanwhile. A change waits for the row to be as it was read (``WATCH``), so that condition and change are one
    step, as the protocol of stores demands. Nothing here is part of a transaction of the database.
    """

    def __init__(self, redis: redis.asyncio.Redis, *, key_prefix: str = "fastapi_users_session:") -> None:
        self.redis = redis
        self.key_prefix = key_prefix

    async def get(self, where: Where) -> Session | None:
        rows = await self.list(where, limit=1)
        return rows[0] if rows else None

    async def list(self, where: Where, *, order_by: str | None = None, limit: int | None = None) -> "list[Session]":
        found = [row async for row in self._candidates(where) if row is not None and _matches(row, where)]
        rows = [*{row.id: row for row in found}.values()]  # SCAN may tell of a key twice
        if order_by is not None:
            rows.sort(key=lambda row: getattr(row, order_by.removeprefix("-")), reverse=order_by.startswith("-"))
        return rows[:limit]

    async def create(self, values: Mapping[str, Any]) -> Session:
        row = Session(**{**values, "user_id": str(values["user_id"])})
        index = self._index(row.user_id)
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._key(row.id), _written(row), px=_milliseconds_left(row))
            pipeline.sadd(index, str(row.id))
            # As long as the longest of them may last. In a script, since EXPIRE has the condition since Redis 7 only.
            pipeline.eval(_PROLONG, 1, index, str(math.ceil((row.ends_at - _now()).total_seconds())))
            await pipeline.execute()
        return row

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        def write(pipeline: Any, row: Session) -> None:
            for name, value in values.items():
                setattr(row, name, getattr(row, name) + value.by if isinstance(value, Increment) else value)
            pipeline.set(self._key(row.id), _written(row), px=_milliseconds_left(row))

        return await self._change(where, write)

    async def delete_where(self, where: Where) -> int:
        def write(pipeline: Any, row: Session) -> None:
            pipeline.delete(self._key(row.id))
            pipeline.srem(self._index(row.user_id), str(row.id))

        return await self._change(where, write)

    async def _change(self, where: Where, write: Callable[[Any, Session], None]) -> int:
        return sum([await self._change_one(row.id, where, write) for row in await self.list(where)])

    async def _change_one(self, session_id: UUID, where: Where, write: Callable[[Any, Session], None]) -> int:
        key = self._key(session_id)
        async with self.redis.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(key)
                row = _read(await pipeline.get(key))
                if row is None or not _matches(row, where):
                    return 0
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py's
                write(pipeline, row)
                try:
                    await pipeline.execute()
                except WatchError:
                    continue  # somebody else has changed it: perhaps the condition holds no more
                return 1

    async def _candidates(self, where: Where) -> AsyncIterator[Session | None]:
        """Rows among which are all that the condition can select; ``None`` for what is gone by now."""
        if isinstance(where.get("id"), UUID):
            yield _read(await self.redis.get(self._key(where["id"])))
        elif "user_id" in where:
            async for row in self._of_user(str(where["user_id"])):
                yield row
        else:
            async for keys in self._all_keys():
                for raw in await self.redis.mget(keys):
                    yield _read(raw)

    async def _of_user(self, user_id: str) -> AsyncIterator[Session | None]:
        index = self._index(user_id)
        members: Any = self.redis.smembers(index)
        ids = [_as_text(member) for member in await members]
        dead: list[str] = []
        for batch in _batches(ids):
            for id, raw in zip(batch, await self.redis.mget([self.key_prefix + id for id in batch]), strict=True):
                if raw is None:
                    dead.append(id)
                yield _read(raw)
        for batch in _batches(dead):  # for ever, since no id is given twice
            await self.redis.srem(index, *batch)

    async def _all_keys(self) -> AsyncIterator[Sequence[str]]:
        cursor, pattern = None, f"{_escaped(self.key_prefix)}*"
        while cursor != 0:
            cursor, keys = await self.redis.scan(cursor or 0, match=pattern, count=_BATCH)
            for batch in _batches([_as_text(key) for key in keys]):
                yield batch

    def _key(self, session_id: UUID) -> str:
        return f"{self.key_prefix}{session_id}"

    def _index(self, user_id: str) -> str:
        return f"{_INDEX_PREFIX}{self.key_prefix}{user_id}"


_BATCH = 500
_INDEX_PREFIX = "fastapi_users_sessions_of:"
_PROLONG = "if redis.call('TTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[1]) end"
_OPERATORS = {"<": lt, "<=": le, ">": gt, ">=": ge, "!=": ne}


def _batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


def _matches(row: Session, where: Where) -> bool:
    return all(_holds(getattr(row, name), value if name != "user_id" else str(value)) for name, value in where.items())


def _holds(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Condition):
        return bool(eq(found, wanted))
    if wanted.operator == "in":
        return found in wanted.operand
    if wanted.operator == "not in":
        return found not in wanted.operand
    return bool(_OPERATORS[wanted.operator](found, wanted.operand))


def _written(row: Session) -> str:
    values = {**vars(row), "id": str(row.id)}
    return json.dumps(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    )


def _read(raw: Any) -> Session | None:
    if raw is None:
        return None
    values: dict[str, Any] = json.loads(raw)
    times = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name] is not None}
    return Session(**{**values, **times, "id": UUID(values["id"])})


def _milliseconds_left(row: Session) -> int:
    return max(1, math.ceil((row.expires_at - _now()).total_seconds() * 1000))


def _escaped(prefix: str) -> str:
    """For a pattern of Redis."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in prefix)


def _as_text(value: Any) -> str:
    """Of a client with or without ``decode_responses``."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _now() -> datetime:
    return datetime.now(timezone.utc)
