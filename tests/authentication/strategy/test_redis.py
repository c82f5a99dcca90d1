import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis

from fastapi_users.authentication import RedisStrategy
from fastapi_users.authentication.strategy.base import Authentication, current_authentication, token_digest
from fastapi_users.testing import InMemoryUserDatabase, User, frozen_clock
from tests.services import connect_redis
from tests.test_manager import UserManager


class FakeRedis:
    """What a strategy needs of a client. The real server is asked as well, where one answers."""

    def __init__(self, *, decode_responses: bool) -> None:
        self.decode_responses = decode_responses
        self.values: dict[str, tuple[str, int | None]] = {}

    async def get(self, name: str) -> str | bytes | None:
        value, _ = self.values.get(name, (None, None))
        return value if value is None or self.decode_responses else value.encode()

    async def set(self, name: str, value: str, ex: int | None = None) -> None:
        self.values[name] = (value, ex)

    async def delete(self, name: str) -> None:
        self.values.pop(name, None)

    async def ttl(self, name: str) -> int:
        return self.values[name][1] or -1

    async def aclose(self) -> None:
        self.values.clear()


@pytest.fixture(params=["fake text", "fake bytes", "real text", "real bytes"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator["Redis | FakeRedis"]:
    kind, _, answers = request.param.partition(" ")
    decode_responses = answers == "text"
    client: Redis | FakeRedis = FakeRedis(decode_responses=decode_responses)
    if kind == "real":
        client = await connect_redis(decode_responses=decode_responses)
    yield client
    await client.aclose()


async def test_a_token_lives_in_redis_until_it_is_destroyed(redis: "Redis | FakeRedis") -> None:
    """E6, upstream's issue 958: also with a client that answers bytes."""
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await database.create({"email": "ann@example.org", "hashed_password": "h"})
    manager = UserManager(database)
    strategy = RedisStrategy[User, uuid.UUID](redis, 3600, key_prefix=f"test {uuid.uuid4()} ")  # type: ignore[arg-type]  # also the fake

    token = await strategy.write_token(user)

    assert len(token) == 43
    assert 0 < await redis.ttl(strategy.key_prefix + token) <= 3600
    assert await strategy.read_token(token, manager) is user
    await strategy.destroy_token(token, user)
    assert await strategy.read_token(token, manager) is None


async def test_whatever_else_is_found_there_leads_to_nobody(redis: "Redis | FakeRedis") -> None:
    manager = UserManager(InMemoryUserDatabase(User))
    strategy = RedisStrategy[User, uuid.UUID](redis, key_prefix=f"test {uuid.uuid4()} ")  # type: ignore[arg-type]  # also the fake
    for value in ("nonsense", str(uuid.uuid4())):
        await redis.set(strategy.key_prefix + "token", value, ex=60)
        assert await strategy.read_token("token", manager) is None

    assert await strategy.read_token(None, manager) is None
    assert await strategy.read_token("unknown", manager) is None


async def test_hashed_tokens_cannot_be_read_from_the_keys(redis: "Redis | FakeRedis") -> None:
    """D22"""
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await database.create({"email": "ann@example.org", "hashed_password": "h"})
    manager = UserManager(database)
    prefix = f"test {uuid.uuid4()} "
    client: Any = redis
    clear = await RedisStrategy[User, uuid.UUID](client, 3600, key_prefix=prefix).write_token(user)
    strategy = RedisStrategy[User, uuid.UUID](client, 3600, key_prefix=prefix, hash_tokens=True)
    token = await strategy.write_token(user)

    assert await redis.get(prefix + token) is None
    assert await redis.get(prefix + token_digest(token)) is not None
    assert await strategy.read_token(token, manager) is user
    assert await strategy.read_token(token_digest(token), manager) is None
    assert await strategy.read_token(clear, manager) is user, "a token from before counts until it expires"
    for written in (token, clear):
        await strategy.destroy_token(written, user)
        assert await strategy.read_token(written, manager) is None


@pytest.mark.parametrize("hash_tokens", [False, True])
@pytest.mark.parametrize("lifetime_seconds", [60, None])
async def test_how_a_session_began_is_kept_beside_it(
    redis: "Redis | FakeRedis", hash_tokens: bool, lifetime_seconds: int | None
) -> None:
    client: Any = redis
    user = User("ann@example.org", hashed_password="h")
    prefix = f"test {uuid.uuid4()} "
    strategy = RedisStrategy[User, uuid.UUID](client, lifetime_seconds, key_prefix=prefix, hash_tokens=hash_tokens)
    authentication = Authentication(methods=("pwd", "otp"), time=datetime.now(timezone.utc))

    current = current_authentication.set(authentication)
    token = await strategy.write_token(user)
    current_authentication.reset(current)
    before = await strategy.write_token(user)

    assert await strategy.read_authentication(token) == authentication
    assert await strategy.read_authentication(before) is None
    stored = token_digest(token) if hash_tokens else token
    lifetime = await redis.ttl(f"{prefix}{stored}:authentication")
    assert lifetime == -1 if lifetime_seconds is None else 0 < lifetime <= lifetime_seconds
    await strategy.destroy_token(token, user)
    await strategy.destroy_token(before, user)
    if lifetime_seconds is None:  # the others expire by themselves
        assert await strategy.read_authentication(token) is None


# all sessions of a user


@pytest.fixture(params=["text", "bytes"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    client = await connect_redis(decode_responses=request.param == "text")
    yield client
    await client.aclose()


@pytest.fixture
def database() -> InMemoryUserDatabase[User, uuid.UUID]:
    return InMemoryUserDatabase(User)


@pytest.fixture
async def ann(database: InMemoryUserDatabase[User, uuid.UUID]) -> User:
    return await database.create({"email": "ann@example.org", "hashed_password": "h"})


Strategy = RedisStrategy[User, uuid.UUID]


async def readable(strategy: Strategy, database: Any, *tokens: str) -> list[bool]:
    manager = UserManager(database)
    return [await strategy.read_token(token, manager) is not None for token in tokens]


@pytest.mark.parametrize("hash_tokens", [False, True])
@pytest.mark.parametrize("lifetime_seconds", [60, None])
async def test_all_sessions_of_a_user_end_and_those_of_others_go_on(
    server: Redis, database: Any, ann: User, hash_tokens: bool, lifetime_seconds: int | None
) -> None:
    """Requirements 44 to 46."""
    bob = await database.create({"email": "bob@example.org", "hashed_password": "h"})
    prefix = f"test {uuid.uuid4()} "
    strategy = Strategy(server, lifetime_seconds, key_prefix=prefix, hash_tokens=hash_tokens)
    current = current_authentication.set(Authentication(methods=("pwd",), time=datetime.now(timezone.utc)))
    first, second, own, theirs = [await strategy.write_token(user) for user in (ann, ann, ann, bob)]
    current_authentication.reset(current)
    await strategy.destroy_token(first, ann)

    assert await strategy.destroy_all_tokens(ann, except_tokens=[own]) == 1

    assert await readable(strategy, database, first, second, own, theirs) == [False, False, True, True]
    assert await strategy.read_authentication(second) is None
    assert await strategy.destroy_all_tokens(ann, except_tokens=[own]) == 0
    assert await strategy.destroy_all_tokens(ann) == 1
    assert await readable(strategy, database, own, theirs) == [False, True]
    assert await strategy.destroy_all_tokens(bob) == 1
    left = [str(key) for key in await server.keys(f"*{prefix}*")]
    assert [key for key in left if not key.strip("'").endswith(":authentication")] == []
    assert left == [] if lifetime_seconds is None else len(left) == 1, "of the logout, which expires by itself"


async def test_a_session_from_before_its_digest_was_kept_can_be_exempt(server: Redis, database: Any, ann: User) -> None:
    prefix = f"test {uuid.uuid4()} "
    clear = await Strategy(server, 60, key_prefix=prefix).write_token(ann)
    strategy = Strategy(server, 60, key_prefix=prefix, hash_tokens=True)

    assert await strategy.destroy_all_tokens(ann, except_tokens=[clear]) == 0
    assert await readable(strategy, database, clear) == [True]


async def test_the_index_goes_with_the_last_of_its_tokens(server: Redis, ann: User) -> None:
    prefix = f"test {uuid.uuid4()} "
    index = f"fastapi_users_index_by_user:{prefix}{ann.id}"

    async def ttl_after_a_login(lifetime_seconds: int | None) -> int:
        await Strategy(server, lifetime_seconds, key_prefix=prefix).write_token(ann)
        return int(await server.ttl(index))

    assert 1000 < await ttl_after_a_login(1000) <= 1061
    assert 1000 < await ttl_after_a_login(10) <= 1061, "of the longest lifetime"
    assert 2000 < await ttl_after_a_login(2000) <= 2061
    assert await ttl_after_a_login(None) == -1
    assert await ttl_after_a_login(10) == -1
    await Strategy(server, None, key_prefix=prefix).destroy_all_tokens(ann)


async def test_the_index_forgets_what_has_expired(server: Redis, ann: User) -> None:
    prefix = f"test {uuid.uuid4()} "
    index = f"fastapi_users_index_by_user:{prefix}{ann.id}"
    with frozen_clock(datetime.now(timezone.utc)) as clock:
        strategy = Strategy(server, 3600, key_prefix=prefix)
        await strategy.write_token(ann)
        clock.advance(seconds=3600 + 61)
        await strategy.write_token(ann)

        assert await server.zcard(index) == 1
    await strategy.destroy_all_tokens(ann)


@pytest.mark.parametrize("key_prefix", ["", "fastapi_users_"])
async def test_no_token_leads_to_the_index(server: Redis, database: Any, ann: User, key_prefix: str) -> None:
    """Redis would answer that it is of another kind, which is a 500."""
    strategy = Strategy(server, 60, key_prefix=key_prefix)
    token = await strategy.write_token(ann)
    index = f"fastapi_users_index_by_user:{key_prefix}{ann.id}"
    assert await server.exists(index)

    assert await readable(strategy, database, index.removeprefix(key_prefix), token) == [False, True]
    await strategy.destroy_all_tokens(ann)


@pytest.mark.parametrize("moment", ["before it is entered", "before it is written", "after it is written"])
async def test_a_token_that_is_written_while_all_are_ended_does_not_escape(
    server: Redis, database: Any, ann: User, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It is dead, or it is in the index, where the next one who ends all finds it."""
    prefix = f"test {uuid.uuid4()} "
    strategy = Strategy(server, 60, key_prefix=prefix)
    before = await strategy.write_token(ann)
    ended: list[int] = []

    async def end_all() -> None:
        ended.append(await Strategy(server, 60, key_prefix=prefix).destroy_all_tokens(ann))

    enter, write = strategy._enter, server.set

    async def raced_enter(*args: Any) -> None:
        if moment == "before it is entered":
            await end_all()
        await enter(*args)

    async def raced_set(*args: Any, **options: Any) -> Any:
        if moment == "before it is written":
            await end_all()
        answer = await write(*args, **options)
        if moment == "after it is written":
            await end_all()
        return answer

    monkeypatch.setattr(strategy, "_enter", raced_enter)
    monkeypatch.setattr(server, "set", raced_set)
    token = await strategy.write_token(ann)

    assert ended == [2 if moment == "after it is written" else 1]
    survives = moment == "before it is entered"
    assert await readable(strategy, database, before, token) == [False, survives]
    monkeypatch.undo()
    assert await strategy.destroy_all_tokens(ann) == int(survives)
    assert await readable(strategy, database, token) == [False]


async def test_a_token_that_is_written_between_two_steps_of_the_end_is_ended_by_the_last(
    server: Redis, database: Any, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"test {uuid.uuid4()} "
    strategy = Strategy(server, 60, key_prefix=prefix)
    index = f"fastapi_users_index_by_user:{prefix}{ann.id}"
    delete = server.delete
    deleted: list[tuple[str, ...]] = []

    async def delete_and_be_late(*keys: str) -> Any:
        answer = await delete(*keys)
        if not deleted:  # entered before, written now
            await server.set(f"{prefix}late", str(ann.id), ex=60)
        deleted.append(keys)
        return answer

    await server.zadd(index, {"late": 2**33})
    monkeypatch.setattr(server, "delete", delete_and_be_late)

    assert await strategy.destroy_all_tokens(ann) == 0
    assert await readable(strategy, database, "late") == [False]


class Redisish(FakeRedis):
    """It could keep an index."""

    zadd = AsyncMock(side_effect=AssertionError)


@pytest.mark.parametrize(
    ("client", "options"),
    [(FakeRedis(decode_responses=True), {}), (Redisish(decode_responses=True), {"index_by_user": False})],
)
async def test_without_an_index_redis_is_asked_for_nothing_else(ann: User, client: Any, options: Any) -> None:
    """CONTRACT 9.5: any object with ``get``, ``set`` and ``delete`` will do."""
    strategy = Strategy(client, 60, **options)

    token = await strategy.write_token(ann)
    assert client.values == {f"fastapi_users_token:{token}": (str(ann.id), 60)}
    assert await strategy.destroy_all_tokens(ann) == 0
    await strategy.destroy_token(token, ann)
    assert client.values == {}
