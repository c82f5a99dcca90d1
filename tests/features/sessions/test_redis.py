"""The store itself; what sessions need of it is tested with them, on each store."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import pytest
from redis.asyncio.client import Pipeline

from fastapi_users.db.store import Increment, at_least, at_most, greater_than, less_than, none_of, one_of, other_than
from fastapi_users.features.sessions.redis import RedisSessionStore
from tests.services import connect_redis


@pytest.fixture(params=[True, False], ids=["texts", "bytes"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RedisSessionStore]:
    client = await connect_redis(decode_responses=request.param)
    await client.flushdb()
    yield RedisSessionStore(client, key_prefix="[test]*:")
    await client.flushdb()
    await client.aclose()


def values(**own: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    moment = dict.fromkeys(("rotated_at", "created_at", "last_seen_at"), now)
    end = dict.fromkeys(("expires_at", "ends_at"), now + timedelta(hours=1))
    texts = {
        "digest": "D",
        "previous_digest": None,
        "credentials_digest": "C",
        "amr": "pwd",
        "address": None,
        "agent": None,
    }
    row = {"id": uuid.uuid4(), "user_id": 7, "generation": 0, "is_remembered": True, "auth_time": None}
    return {**row, **texts, **moment, **end, **own}


async def test_a_row_comes_back_as_it_was_written(store: RedisSessionStore) -> None:
    row = values(auth_time=datetime.now(timezone.utc))
    created = await store.create(row)

    assert vars(created) == {**row, "user_id": "7"}
    assert await store.get({"id": row["id"], "user_id": 7}) == created
    assert await store.get({"id": row["id"], "user_id": 8}) is None
    assert await store.get({"id": uuid.uuid4()}) is None
    assert await store.get({"user_id": 8}) is None


async def test_conditions_select_rows(store: RedisSessionStore) -> None:
    ids = [
        (await store.create(values(generation=number, created_at=datetime.fromtimestamp(number, timezone.utc)))).id
        for number in (1, 2, 3)
    ]
    expected: dict[Any, list[int]] = {
        less_than(2): [1],
        at_most(2): [1, 2],
        greater_than(2): [3],
        at_least(2): [2, 3],
        other_than(2): [1, 3],
        2: [2],
    }

    for condition, generations in expected.items():
        for more in ({}, {"user_id": 7}):
            found = await store.list({"generation": condition, **more}, order_by="created_at")
            assert [row.generation for row in found] == generations
    assert {row.id for row in await store.list({"user_id": 7, "id": none_of(ids[:1])})} == {*ids[1:]}
    assert {row.id for row in await store.list({"user_id": 7, "id": one_of(ids[:1])})} == {*ids[:1]}
    assert [row.id for row in await store.list({}, order_by="-created_at", limit=2)] == [ids[2], ids[1]]


async def test_rows_are_changed_and_deleted_by_condition(store: RedisSessionStore) -> None:
    row, other = await store.create(values()), await store.create(values(user_id=8))

    assert await store.update_where({"id": row.id, "generation": 0}, {"generation": Increment(2)}) == 1
    assert await store.update_where({"id": row.id, "generation": 0}, {"generation": 9}) == 0
    assert [found.generation for found in await store.list({"user_id": 7})] == [2]
    assert await store.delete_where({"user_id": 7}) == 1
    assert await store.delete_where({"user_id": 7}) == 0
    assert [found.id for found in await store.list({})] == [other.id]


async def test_of_many_who_change_the_same_row_at_once_one_does(store: RedisSessionStore) -> None:
    row, changed = await store.create(values()), list[int]()

    async def change() -> None:
        changed.append(await store.update_where({"id": row.id, "digest": "D"}, {"digest": "E"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(change)

    assert sorted(changed) == [0] * 19 + [1]


async def test_redis_forgets_what_has_ended_with_what_leads_to_it(store: RedisSessionStore) -> None:
    now = datetime.now(timezone.utc)
    soon, later = now + timedelta(hours=1), now + timedelta(hours=2)
    row = await store.create(values(expires_at=soon, ends_at=later))
    await store.create(values(expires_at=soon, ends_at=soon))

    assert 3500 < await store.redis.ttl(f"[test]*:{row.id}") <= 3600
    assert 7100 < await store.redis.ttl("fastapi_users_sessions_of:[test]*:7") <= 7200
    await store.update_where({"id": row.id}, {"expires_at": later})
    assert 7100 < await store.redis.ttl(f"[test]*:{row.id}") <= 7200


async def test_who_lists_the_sessions_of_a_user_takes_out_those_that_redis_has_forgotten(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_users.features.sessions.redis._BATCH", 2)
    rows = [await store.create(values()) for _ in range(8)]
    for row in rows[1:]:
        await store.redis.delete(f"[test]*:{row.id}")  # as if its time were over

    assert [row.id for row in await store.list({"user_id": 7})] == [rows[0].id]

    assert await store.redis.scard("fastapi_users_sessions_of:[test]*:7") == 1
    assert [row.id for row in await store.list({"user_id": 7})] == [rows[0].id]


async def test_what_looks_at_all_sessions_reads_them_in_small_parts(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_users.features.sessions.redis._BATCH", 4)
    now, read, mget = datetime.now(timezone.utc), list[int](), store.redis.mget
    for number in range(10):
        await store.create(values(user_id=number, expires_at=now + timedelta(hours=number % 2 + 1)))

    async def count_and_get(keys: Any) -> Any:
        read.append(len(keys))
        return await mget(keys)

    monkeypatch.setattr(store.redis, "mget", count_and_get)

    assert await store.delete_where({"expires_at": at_most(now + timedelta(hours=1))}) == 5
    assert max(read) <= 4
    assert sum(read) >= 10
    assert len(await store.list({})) == 5


async def test_a_key_that_a_scan_tells_of_twice_is_one_row(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, scan = await store.create(values()), store.redis.scan

    async def scan_twice(*args: Any, **kwargs: Any) -> Any:
        cursor, keys = await scan(*args, **kwargs)
        return cursor, [*keys, *keys]

    monkeypatch.setattr(store.redis, "scan", scan_twice)

    assert await store.update_where({}, {"generation": Increment()}) == 1
    assert [found.generation for found in await store.list({"id": row.id})] == [1]


async def test_what_leads_to_a_row_never_ends_before_it_whoever_comes_beside(store: RedisSessionStore) -> None:
    now = datetime.now(timezone.utc)
    ends = [now + timedelta(hours=hours) for hours in range(1, 11)]

    async with anyio.create_task_group() as tasks:
        for end in reversed(ends):
            tasks.start_soon(store.create, values(expires_at=end, ends_at=end))

    assert await store.redis.ttl("fastapi_users_sessions_of:[test]*:7") > 35900


async def test_a_row_that_goes_between_two_looks_is_not_brought_back(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await store.create(values())
    found = await store.list({"id": row.id})
    await store.delete_where({"id": row.id})

    async def as_before(*_: Any, **__: Any) -> Any:
        return found

    monkeypatch.setattr(store, "list", as_before)

    assert await store.update_where({"id": row.id}, {"generation": 1}) == 0
    assert await store.delete_where({"id": row.id}) == 0


def be_late(store: RedisSessionStore, session_id: uuid.UUID, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else changes the row, between the look of the next change and its write."""
    get, others = Pipeline.get, [other]

    async def get_and_be_late(pipeline: Any, key: str) -> Any:
        found = await get(pipeline, key)
        for name in others:
            others.remove(name)
            assert await store.update_where({"id": session_id}, {name: "E"}) == 1
        return found

    monkeypatch.setattr(Pipeline, "get", get_and_be_late)


@pytest.mark.parametrize(("other", "changed"), [("digest", 0), ("agent", 1)])
async def test_a_change_that_comes_between_look_and_change_is_looked_at(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch, other: str, changed: int
) -> None:
    row = await store.create(values())
    be_late(store, row.id, other, monkeypatch)

    assert await store.update_where({"id": row.id, "digest": "D"}, {"generation": 7}) == changed
    (found,) = await store.list({})
    assert (getattr(found, other), found.generation) == ("E", 7 * changed)


@pytest.mark.parametrize(("other", "deleted"), [("digest", 0), ("agent", 1)])
async def test_a_row_is_deleted_only_as_it_was_asked_for(
    store: RedisSessionStore, monkeypatch: pytest.MonkeyPatch, other: str, deleted: int
) -> None:
    """A change of the password ends the sessions of the old one, and spares the one that made it."""
    row = await store.create(values())
    be_late(store, row.id, other, monkeypatch)

    assert await store.delete_where({"id": row.id, "digest": "D"}) == deleted
    assert len(await store.list({})) == 1 - deleted
    assert await store.redis.scard("fastapi_users_sessions_of:[test]*:7") == 1 - deleted
