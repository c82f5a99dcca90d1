import uuid
from typing import Any

import pytest

from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.testing import AccessToken, InMemoryAccessTokenDatabase, InMemoryUserDatabase, User, frozen_clock
from tests.test_manager import UserManager

Strategy = DatabaseStrategy[User, uuid.UUID, AccessToken]


@pytest.fixture
def manager() -> UserManager:
    return UserManager(InMemoryUserDatabase(User))


@pytest.fixture
async def user(manager: UserManager) -> User:
    return await manager.user_db.create({"email": "ann@example.org", "hashed_password": "h"})


async def test_a_token_leads_to_its_user_until_it_is_destroyed(manager: UserManager, user: User) -> None:
    strategy = Strategy(InMemoryAccessTokenDatabase(AccessToken), 3600)
    with frozen_clock() as clock:
        token = await strategy.write_token(user)
        assert len(token) == 43
        clock.advance(seconds=3600)
        assert await strategy.read_token(token, manager) is user
        clock.advance(seconds=1)
        assert await strategy.read_token(token, manager) is None
        await strategy.destroy_token(token, user)

    assert strategy.database.access_tokens == {}  # type: ignore[attr-defined]  # of the one in memory


@pytest.mark.parametrize("lifetime_seconds", [None, 0])
async def test_without_a_lifetime_a_token_never_expires(
    manager: UserManager, user: User, lifetime_seconds: int | None
) -> None:
    strategy = Strategy(InMemoryAccessTokenDatabase(AccessToken), lifetime_seconds)
    with frozen_clock() as clock:
        token = await strategy.write_token(user)
        clock.advance(seconds=1e9)
        assert await strategy.read_token(token, manager) is user


async def test_whatever_is_no_token_leads_to_nobody(manager: UserManager, user: User) -> None:
    database = InMemoryAccessTokenDatabase(AccessToken)
    strategy = Strategy(database)
    await database.create({"token": "orphan", "user_id": uuid.uuid4()})
    await database.create({"token": "odd", "user_id": "nonsense"})

    for token in (None, "", "unknown", "orphan", "odd"):
        assert await strategy.read_token(token, manager) is None
    await strategy.destroy_token("unknown", user)


async def test_a_subclass_can_fill_more_columns(user: User) -> None:
    class Named(Strategy):
        def _create_access_token_dict(self, user: User) -> dict[str, Any]:
            return {**super()._create_access_token_dict(user), "token": f"of {user.email}"}

    assert await Named(InMemoryAccessTokenDatabase(AccessToken)).write_token(user) == "of ann@example.org"
