"""One suite for every list, and tokens that are ended through them."""

import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from beanie import Document, init_beanie
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import Denylist, InMemoryDenylist, RedisDenylist, StoreDenylist
from fastapi_users.db.beanie import BeanieBaseDeniedToken, BeanieStore
from fastapi_users.db.sqlalchemy import SQLAlchemyBaseDeniedTokenTable, SQLAlchemyStore
from fastapi_users.testing import DeniedToken, InMemoryStore, InMemoryUserDatabase, User, frozen_clock
from tests.mongo_server import mongo_server
from tests.services import DRIVERS, MONGO_URL, connect_mongo, connect_redis, database
from tests.test_manager import UserManager
from tests.world import SECRET

A, B, C = ("a" * 43, "b" * 43, "c" * 43)


class Base(DeclarativeBase):
    pass


class SQLAlchemyDeniedToken(SQLAlchemyBaseDeniedTokenTable, Base):
    pass


class BeanieDeniedToken(BeanieBaseDeniedToken, Document):
    pass


@asynccontextmanager
async def in_memory() -> AsyncIterator[Denylist]:
    yield InMemoryDenylist()


@asynccontextmanager
async def in_a_store() -> AsyncIterator[Denylist]:
    yield StoreDenylist(InMemoryStore(DeniedToken, []))


@asynccontextmanager
async def in_redis(*, decode_responses: bool) -> AsyncIterator[Denylist]:
    client = await connect_redis(decode_responses=decode_responses)
    yield RedisDenylist(client, key_prefix=f"test {uuid.uuid4()} ")
    await client.aclose()


@asynccontextmanager
async def with_sqlalchemy(engine_name: str, folder: Path) -> AsyncIterator[Denylist]:
    async with database(engine_name, folder) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield StoreDenylist(SQLAlchemyStore(session, SQLAlchemyDeniedToken))
        await engine.dispose()


@asynccontextmanager
async def with_beanie(url: str | None) -> AsyncIterator[Denylist]:
    async with AsyncExitStack() as stack:
        client = await connect_mongo(await stack.enter_async_context(mongo_server()) if url is None else url)
        stack.push_async_callback(client.close)
        mongo_database = client[f"fastapi_users_test_{os.getpid()}"]
        stack.push_async_callback(client.drop_database, mongo_database.name)
        await init_beanie(mongo_database, document_models=[BeanieDeniedToken])
        yield StoreDenylist(BeanieStore(BeanieDeniedToken))


PLACES: dict[str, Callable[[Path], AbstractAsyncContextManager[Denylist]]] = {
    "in memory": lambda _: in_memory(),
    "in a store": lambda _: in_a_store(),
    "redis, text": lambda _: in_redis(decode_responses=True),
    "redis, bytes": lambda _: in_redis(decode_responses=False),
    **{name: partial(with_sqlalchemy, name) for name in DRIVERS if "plain" not in name},
    "wire server": lambda _: with_beanie(None),
    **({"MongoDB": lambda _: with_beanie(MONGO_URL)} if MONGO_URL else {}),
}


@pytest.fixture(params=list(PLACES))
async def denylist(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Denylist]:
    async with PLACES[request.param](tmp_path) as denylist:
        yield denylist


def in_an_hour() -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=1)


async def test_what_was_put_there_is_found_in_the_order_of_the_question(denylist: Denylist) -> None:
    await denylist.put(A, "revoked", in_an_hour())
    await denylist.put(B, "x" * 64, None)

    assert list(await denylist.get([B, C, A])) == ["x" * 64, None, "revoked"]
    assert list(await denylist.get([C])) == [None]


async def test_a_new_value_takes_the_place_of_the_old_one(denylist: Denylist) -> None:
    for value in ("1:", "1:", "2:x"):
        await denylist.put(A, value, in_an_hour())

    assert list(await denylist.get([A])) == ["2:x"]


async def test_digests_are_told_apart_by_letter_case(denylist: Denylist) -> None:
    await denylist.put(A, "revoked", in_an_hour())

    assert list(await denylist.get([A.upper()])) == [None]


async def test_a_token_that_was_ended_opens_nothing(denylist: Denylist) -> None:
    """Requirement 57."""
    manager = UserManager(InMemoryUserDatabase(User))
    user = await manager.user_db.create({"email": "ann@example.org", "hashed_password": "h"})
    strategy = JWTStrategy[User, uuid.UUID](SECRET, 60, revoke=denylist)
    first, second, third = [await strategy.write_token(user) for _ in range(3)]

    await strategy.destroy_token(first, user)
    assert [await strategy.read_token(each, manager) for each in (first, second, third)] == [None, user, user]
    await strategy.destroy_all_tokens(user, except_tokens=[third])
    assert [await strategy.read_token(each, manager) for each in (first, second, third)] == [None, None, user]


async def test_a_list_in_memory_forgets_what_has_expired_and_stays_small() -> None:
    denylist = InMemoryDenylist()
    with frozen_clock() as clock:
        await denylist.put("for ever", "revoked", None)
        for number in range(5000):
            clock.advance(seconds=1)
            await denylist.put(str(number), "revoked", datetime.now(timezone.utc) + timedelta(seconds=10))

    assert len(denylist._entries) <= 1001
    assert list(await denylist.get(["for ever", "4999", "0"])) == ["revoked", "revoked", None]


async def test_a_list_in_memory_keeps_what_has_not_expired() -> None:
    denylist = InMemoryDenylist()
    for number in range(3000):
        await denylist.put(str(number), "revoked", in_an_hour())

    assert await denylist.get([str(number) for number in range(3000)]) == ["revoked"] * 3000


async def test_redis_forgets_by_itself() -> None:
    redis = AsyncMock()
    denylist = RedisDenylist(redis)
    with frozen_clock():
        now = datetime.now(timezone.utc)
        for expires_at in (now + timedelta(seconds=9.5), now - timedelta(seconds=9), None):
            await denylist.put(A, "revoked", expires_at)

    assert [call.kwargs for call in redis.set.await_args_list] == [{"ex": 10}, {"ex": 1}, {"ex": None}]
    assert redis.set.await_args.args == (f"fastapi_users_denied:{A}", "revoked")


async def test_a_table_is_cleaned_up() -> None:
    denylist = StoreDenylist(InMemoryStore(DeniedToken, []))
    with frozen_clock() as clock:
        await denylist.put(A, "revoked", in_an_hour())
        await denylist.put(B, "revoked", None)
        clock.advance(seconds=1)
        await denylist.put(C, "revoked", in_an_hour())
        clock.advance(seconds=3599)

        assert await denylist.cleanup() == 1
    assert list(await denylist.get([A, B, C])) == [None, "revoked", "revoked"]


class Raced(InMemoryStore[DeniedToken]):
    """Somebody else writes the row between the look at it and ours."""

    async def create(self, values: Any) -> DeniedToken:
        self.rows.append(DeniedToken(digest=values["digest"], value="theirs"))
        return await super().create(values)


async def test_two_who_end_a_token_at_the_same_moment_both_succeed() -> None:
    denylist = StoreDenylist(Raced(DeniedToken, []))

    await denylist.put(A, "ours", None)

    assert list(await denylist.get([A])) == ["ours"]


async def test_what_a_database_refuses_comes_through() -> None:
    store: Any = AsyncMock()
    store.update_where.return_value = 0
    store.create.side_effect = ConnectionError

    with pytest.raises(ConnectionError):
        await StoreDenylist(store).put(A, "revoked", None)
