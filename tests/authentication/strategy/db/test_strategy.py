import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

from fastapi_users.authentication.strategy import AccessTokenDatabase, Authentication, DatabaseStrategy
from fastapi_users.exceptions import InsecureSettingWarning
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


async def test_without_a_lifetime_a_token_never_expires(manager: UserManager, user: User) -> None:
    strategy = Strategy(InMemoryAccessTokenDatabase(AccessToken))
    with frozen_clock() as clock:
        token = await strategy.write_token(user)
        clock.advance(seconds=1e9)
        assert await strategy.read_token(token, manager) is user


async def test_a_lifetime_of_0_is_told_of_once_and_works_as_ever(manager: UserManager, user: User) -> None:
    """D15: a strategy is made for every request."""
    database = InMemoryAccessTokenDatabase(AccessToken)
    with pytest.warns(InsecureSettingWarning, match=r"DatabaseStrategy\.lifetime_seconds is 0") as told:
        strategies = [Strategy(database, 0) for _ in range(2)]

    assert len(told) == 1
    with frozen_clock() as clock:
        token = await strategies[0].write_token(user)
        clock.advance(seconds=1e9)
        assert await strategies[1].read_token(token, manager) is user


@pytest.mark.parametrize("lifetime_seconds", [None, 0, -1])
def test_strict_demands_a_lifetime(lifetime_seconds: int | None) -> None:
    """D15, requirement 41."""
    database = InMemoryAccessTokenDatabase(AccessToken)
    assert Strategy(database, 1, strict=True).lifetime_seconds == 1
    with pytest.raises(ValueError, match="lifetime_seconds"):
        Strategy(database, lifetime_seconds, strict=True)


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


async def test_hashed_tokens_cannot_be_read_from_the_table(manager: UserManager, user: User) -> None:
    """D22"""
    database = InMemoryAccessTokenDatabase(AccessToken)
    strategy = Strategy(database, 3600, hash_tokens=True)
    token = await strategy.write_token(user)
    (stored,) = database.access_tokens

    assert (len(token), len(stored)) == (43, 43)
    assert await strategy.read_token(token, manager) is user
    assert await strategy.read_token(stored, manager) is None
    await strategy.destroy_token(token, user)
    assert database.access_tokens == {}


async def test_tokens_from_before_they_were_hashed_count_until_they_expire(manager: UserManager, user: User) -> None:
    """D22"""
    database = InMemoryAccessTokenDatabase(AccessToken)
    with frozen_clock() as clock:
        first, second = [await Strategy(database, 3600).write_token(user) for _ in range(2)]
        strategy = Strategy(database, 3600, hash_tokens=True)
        assert await strategy.read_token(first, manager) is user
        await strategy.destroy_token(first, user)
        assert await strategy.read_token(first, manager) is None
        clock.advance(seconds=3601)
        assert await strategy.read_token(second, manager) is None


async def test_expired_tokens_are_cleaned_up(user: User) -> None:
    database = InMemoryAccessTokenDatabase(AccessToken)
    strategy = Strategy(database, 3600)
    with frozen_clock() as clock:
        await strategy.write_token(user)
        clock.advance(seconds=3601)
        fresh = await strategy.write_token(user)

        assert await Strategy(database).cleanup() == 0
        assert await strategy.cleanup() == 1
        assert list(database.access_tokens) == [fresh]


class FourMethods(AccessTokenDatabase[AccessToken]):
    """An adapter with what upstream asks for and nothing else."""

    def __init__(self) -> None:
        self.memory = InMemoryAccessTokenDatabase(AccessToken)

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AccessToken | None:
        return await self.memory.get_by_token(token, max_age)

    async def create(self, create_dict: dict[str, Any]) -> AccessToken:
        return await self.memory.create(create_dict)

    async def delete(self, access_token: AccessToken) -> None:
        await self.memory.delete(access_token)


async def test_an_adapter_with_the_four_methods_only_is_enough(manager: UserManager, user: User) -> None:
    database = FourMethods()  # type: ignore[abstract]  # not even the fourth is called
    strategy = Strategy(database, 3600, hash_tokens=True)
    token = await strategy.write_token(user)

    assert await strategy.read_token(token, manager) is user
    await strategy.destroy_token("unknown", user)
    await strategy.destroy_token(token, user)
    assert database.memory.access_tokens == {}
    with pytest.raises(NotImplementedError, match="delete_created_before"):
        await strategy.cleanup()


class Lenient(InMemoryAccessTokenDatabase[AccessToken]):
    """Compares like some collations, which skip soft hyphens."""

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AccessToken | None:
        return await super().get_by_token(token.replace("\u00ad", ""), max_age)


async def test_a_stolen_digest_opens_nothing_whatever_the_database_compares(manager: UserManager, user: User) -> None:
    database = Lenient(AccessToken)
    token = await Strategy(database, hash_tokens=True).write_token(user)
    (digest,) = database.access_tokens

    for hash_tokens in (True, False):
        strategy = Strategy(database, hash_tokens=hash_tokens)
        for stolen in (digest, f"\u00ad{digest}"):
            assert await strategy.read_token(stolen, manager) is None
    assert await Strategy(database, hash_tokens=True).read_token(token, manager) is user


async def test_a_session_began_when_its_row_was_made(user: User) -> None:
    strategy = Strategy(InMemoryAccessTokenDatabase(AccessToken), 3600)
    with frozen_clock() as clock:
        began = clock.now
        token = await strategy.write_token(user)
        clock.advance(seconds=60)

        assert await strategy.read_authentication(token) == Authentication(methods=(), time=began)
    assert await strategy.read_authentication("unknown") is None


async def test_a_time_without_a_zone_is_taken_for_utc(user: User) -> None:
    """MongoDB returns it like that."""
    database = InMemoryAccessTokenDatabase(AccessToken)
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 -- that is what is tested
    await database.create({"token": "t", "user_id": user.id, "created_at": naive})

    authentication = await Strategy(database).read_authentication("t")

    assert authentication == Authentication(methods=(), time=naive.replace(tzinfo=timezone.utc))


async def test_all_sessions_of_a_user_end_and_those_of_others_go_on(manager: UserManager, user: User) -> None:
    strategy = Strategy(InMemoryAccessTokenDatabase(AccessToken), hash_tokens=True)
    bob = await manager.user_db.create({"email": "bob@example.org", "hashed_password": "h"})
    tokens = [await strategy.write_token(owner) for owner in (user, user, bob)]

    assert await strategy.destroy_all_tokens(user) == 2

    assert [await strategy.read_token(token, manager) for token in tokens] == [None, None, bob]


async def test_the_session_that_ends_the_others_goes_on(manager: UserManager, user: User) -> None:
    """Requirement 45, for a digest and for a row from before there were any."""
    database = InMemoryAccessTokenDatabase(AccessToken)
    for hash_tokens in (False, True):
        own = await Strategy(database, hash_tokens=hash_tokens).write_token(user)
        strategy = Strategy(database, hash_tokens=True)
        others = [await strategy.write_token(user) for _ in range(2)]

        assert await strategy.destroy_all_tokens(user, except_tokens=[own]) == 2

        assert [await strategy.read_token(token, manager) for token in (own, *others)] == [user, None, None]
        assert await strategy.destroy_all_tokens(user) == 1


async def test_an_adapter_of_the_application_is_told_of_exceptions_only_where_there_are_some(user: User) -> None:
    class Own(InMemoryAccessTokenDatabase[AccessToken]):
        async def delete_by_user(self, user_id: Any) -> int:  # type: ignore[override]  # as one may have written it
            return await super().delete_by_user(user_id)

    assert await Strategy(Own(AccessToken)).destroy_all_tokens(user) == 0


async def test_an_adapter_that_deletes_by_token_only_ends_nothing_at_once(user: User) -> None:
    class Plain:
        """As it is written for upstream."""

    database: Any = Plain()

    assert await Strategy(database).destroy_all_tokens(user) == 0
