import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users.db.sqlalchemy import (
    GUID,
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyUserDatabase,
    TIMESTAMPAware,
    now_utc,
)
from tests.world import AccessToken, OAuthAccount, User, World

ACCOUNT = {
    "oauth_name": "provider",
    "access_token": "old",
    "account_id": "1",
    "account_email": "ann@example.org",
    "expires_at": None,
    "refresh_token": None,
}
Users = SQLAlchemyUserDatabase[User, uuid.UUID]
DIALECTS: dict[str, Any] = {module.dialect.name: module.dialect() for module in (sqlite, mysql, postgresql)}


@pytest.fixture
async def session(world: World) -> AsyncIterator[AsyncSession]:
    async with world.session_maker() as session:
        yield session


@pytest.fixture
def users(session: AsyncSession) -> Users:
    return SQLAlchemyUserDatabase(session, User, OAuthAccount)


async def test_a_user_is_created_found_changed_and_deleted(users: Users, world: World) -> None:
    user = await users.create({"email": "Ann@example.org", "hashed_password": "h", "nickname": "Ann"})

    assert isinstance(user.id, uuid.UUID)
    assert (user.is_active, user.is_superuser, user.is_verified, user.oauth_accounts) == (True, False, False, [])
    assert await users.get(user.id) is user
    assert await users.get(uuid.uuid4()) is None
    assert await users.update(user, {"nickname": None, "is_verified": True}) is user
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert (reloaded.nickname, reloaded.is_verified) == (None, True)
    await users.delete(user)
    assert await world.reload(user) is None


async def test_an_address_is_found_in_every_letter_case_and_never_as_a_pattern(users: Users) -> None:
    user = await users.create({"email": "Ann@example.org", "hashed_password": "h"})

    for email in ("Ann@example.org", "ann@example.org", "ANN@EXAMPLE.ORG"):
        assert await users.get_by_email(email) is user
    for email in ("ann%", "%@example.org", "Ann_example.org", ""):
        assert await users.get_by_email(email) is None


async def test_what_the_database_refuses_comes_through(users: Users, session: AsyncSession) -> None:
    await users.create({"email": "ann@example.org", "hashed_password": "h"})

    with pytest.raises(IntegrityError):
        await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await session.rollback()


async def test_accounts_are_linked_found_and_changed(users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})

    assert await users.add_oauth_account(user, ACCOUNT) is user
    assert await users.add_oauth_account(user, {**ACCOUNT, "oauth_name": "other"}) is user
    assert sorted(account.oauth_name for account in user.oauth_accounts) == ["other", "provider"]
    assert await users.get_by_oauth_account("provider", "1") is user
    assert await users.get_by_oauth_account("provider", "2") is None
    account = user.oauth_accounts[0]
    assert await users.update_oauth_account(user, account, {"access_token": "new"}) is user
    assert account.access_token == "new"


async def test_without_an_account_table_there_are_no_accounts(session: AsyncSession) -> None:
    users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    user: Any = User()
    calls = [
        users.get_by_oauth_account("provider", "1"),
        users.add_oauth_account(user, ACCOUNT),
        users.update_oauth_account(user, OAuthAccount(), {}),
    ]

    for call in calls:
        with pytest.raises(NotImplementedError, match="OAuthAccount"):
            await call


async def test_a_subclass_filters_every_look_up(session: AsyncSession, users: Users) -> None:
    class Named(Users):
        async def _get_user(self, statement: Select[Any]) -> User | None:
            return await super()._get_user(statement.where(User.nickname.is_not(None)))

    named = Named(session, User, OAuthAccount)
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await users.add_oauth_account(user, ACCOUNT)

    for nickname, found in ((None, None), ("Ann", user)):
        await users.update(user, {"nickname": nickname})
        assert await named.get(user.id) is found
        assert await named.get_by_email("ann@example.org") is found
        assert await named.get_by_oauth_account("provider", "1") is found


async def test_access_tokens_are_found_while_they_are_young(session: AsyncSession, users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    tokens = SQLAlchemyAccessTokenDatabase(session, AccessToken)

    token = await tokens.create({"token": "T", "user_id": user.id})

    assert token.created_at.tzinfo is not None
    assert await tokens.get_by_token("T") is token
    assert await tokens.get_by_token("U") is None
    assert await tokens.get_by_token("T", token.created_at) is token
    assert await tokens.get_by_token("T", token.created_at + timedelta(seconds=1)) is None
    yesterday = now_utc() - timedelta(days=1)
    assert (await tokens.update(token, {"created_at": yesterday})).created_at == yesterday
    await tokens.delete(token)
    assert await tokens.get_by_token("T") is None


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_a_guid_is_text_on_the_way_in_and_a_uuid_on_the_way_out(dialect: Any) -> None:
    value = uuid.uuid4()
    for accepted in (value, str(value), value.hex):
        assert GUID().process_bind_param(accepted, dialect) == str(value)
    for stored in (value, str(value)):
        assert GUID().process_result_value(stored, dialect) == value
    assert GUID().process_bind_param(None, dialect) is None
    assert GUID().process_result_value(None, dialect) is None


def test_a_guid_uses_the_type_of_the_database_where_there_is_one() -> None:
    assert GUID().compile(dialect=DIALECTS["postgresql"]) == "UUID"
    assert GUID().compile(dialect=DIALECTS["sqlite"]) == "CHAR(36)"


def test_a_time_gets_its_zone_back_where_the_database_keeps_none() -> None:
    naive, aware = datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=timezone.utc)  # noqa: DTZ001 -- as SQLite returns it
    for name in ("sqlite", "mysql"):
        assert TIMESTAMPAware().process_result_value(naive, DIALECTS[name]) == aware
        assert TIMESTAMPAware().process_result_value(None, DIALECTS[name]) is None
    assert TIMESTAMPAware().process_result_value(aware, DIALECTS["postgresql"]) is aware
