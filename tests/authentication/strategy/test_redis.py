import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users.authentication import RedisStrategy
from fastapi_users.authentication.strategy.base import Authentication, current_authentication, token_digest
from fastapi_users.testing import InMemoryUserDatabase, User
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
