"""Access tokens of providers, for the code of an application: refreshed when they have to be, and once."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx_oauth.oauth2 import OAuth2, OAuth2Token, RefreshTokenError
from sqlalchemy import delete

from fastapi_users.cipher import TokenCipher
from fastapi_users.exceptions import OAuthAccountNotExists, OAuthTokenNotAvailable
from fastapi_users.testing import InMemoryUserDatabase, frozen_clock
from fastapi_users.testing import OAuthAccount as InMemoryAccount
from fastapi_users.testing import User as InMemoryUser
from tests.services import DRIVERS, database
from tests.test_manager import UserManager as InMemoryManager
from tests.world import OAuthAccount, UserManager, World

NOW = 1_800_000_000


class Refreshing(OAuth2):
    """The provider, which takes each refresh token once."""

    def __init__(self) -> None:
        super().__init__("ID", "SECRET", "https://p.test/authorize", "https://p.test/token", name="provider")
        self.refreshed: list[str] = []
        self.gives_refresh_tokens = True

    async def refresh_token(self, refresh_token: str) -> OAuth2Token:
        await anyio.lowlevel.checkpoint()
        if refresh_token == "odd":
            return OAuth2Token({"error": "bad_refresh_token"})
        if refresh_token == "revoked" or (self.gives_refresh_tokens and refresh_token in self.refreshed):
            raise RefreshTokenError("invalid_grant")
        self.refreshed.append(refresh_token)
        number = len(self.refreshed)
        token = {"access_token": f"access {number}", "expires_at": NOW + 3600 * number}
        return OAuth2Token(token | ({"refresh_token": f"refresh {number}"} if self.gives_refresh_tokens else {}))


class EncryptingManager(UserManager):
    oauth_token_cipher = TokenCipher(["a secret of the cipher, longer than 32 bytes"])


async def insert_account(world: World, **fields: Any) -> uuid.UUID:
    user = await world.insert_user()
    account = {
        "oauth_name": "provider",
        "account_id": "1",
        "account_email": "ann@example.org",
        "access_token": "access 0",
        "refresh_token": "refresh 0",
        "expires_at": NOW - 1,
    }
    async with world.session_maker() as session:
        session.add(OAuthAccount(user_id=user.id, **{**account, **fields}))
        await session.commit()
    return user.id


async def access_token(world: World, user_id: uuid.UUID, client: Any, **options: Any) -> str:
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        token: str = await manager.get_oauth_access_token(await manager.get(user_id), client, **options)
        return token


@pytest.mark.parametrize("engine", list(DRIVERS))
@pytest.mark.parametrize("manager_class", [UserManager, EncryptingManager])
async def test_however_many_ask_an_expired_token_is_refreshed_once(
    engine: str, manager_class: type[Any], tmp_path: Path
) -> None:
    client, tokens = Refreshing(), list[str]()
    async with database(engine, tmp_path) as url, World.on(url, manager_class=manager_class) as world:
        user_id = await insert_account(world)

        async def ask() -> None:
            tokens.append(await access_token(world, user_id, client))

        with frozen_clock() as clock:
            clock.advance(seconds=NOW - clock.now.timestamp())
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(ask)
            assert tokens == ["access 1"] * 5
            assert await access_token(world, user_id, client) == "access 1"
            clock.advance(seconds=3600 - 59)
            assert await access_token(world, user_id, client) == "access 2"
            assert await access_token(world, user_id, client, min_lifetime_seconds=0) == "access 2"

    assert client.refreshed == ["refresh 0", "refresh 1"]


async def test_a_process_that_does_not_know_of_the_others_finds_what_they_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the database alone, and a user that was read before somebody else refreshed."""
    monkeypatch.setattr("fastapi_users.manager._lock_in_process", lambda account: anyio.Lock())
    user_id, client = await insert_account(world), Refreshing()
    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        async with world.session_maker() as session:
            manager = world.make_manager(session)
            user = await manager.get(user_id)
            await session.commit()
            assert await access_token(world, user_id, client) == "access 1"

            assert await manager.get_oauth_access_token(user, client) == "access 1"
    assert client.refreshed == ["refresh 0"]


async def test_who_stops_waiting_does_not_lose_the_next_refresh_token(world: World) -> None:
    """Of a provider that takes each one once: a cancelled request must not leave a spent one behind."""
    user_id, has_asked, may_answer = await insert_account(world), anyio.Event(), anyio.Event()

    class Slow(Refreshing):
        async def refresh_token(self, refresh_token: str) -> OAuth2Token:
            token = await super().refresh_token(refresh_token)
            has_asked.set()
            await may_answer.wait()
            return token

    client = Slow()
    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(access_token, world, user_id, client)
            await has_asked.wait()
            tasks.cancel_scope.cancel()
            may_answer.set()

        assert await access_token(world, user_id, client) == "access 1"
    assert client.refreshed == ["refresh 0"]


async def test_an_account_that_was_unlinked_meanwhile_gives_no_token(world: World) -> None:
    user_id = await insert_account(world)
    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        async with world.session_maker() as session:
            manager = world.make_manager(session)
            user = await manager.get(user_id)
            await session.commit()
            async with world.session_maker() as other:
                await other.execute(delete(OAuthAccount))
                await other.commit()

            with pytest.raises(OAuthAccountNotExists):
                await manager.get_oauth_access_token(user, Refreshing())


@pytest.mark.parametrize("expires_at", [None, NOW + 61])
async def test_a_token_that_still_counts_is_given_as_it_is(world: World, expires_at: int | None) -> None:
    user_id, client = await insert_account(world, expires_at=expires_at), Refreshing()
    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        assert await access_token(world, user_id, client) == "access 0"
    assert client.refreshed == []


async def test_a_provider_may_keep_its_refresh_token(world: World) -> None:
    user_id, client = await insert_account(world), Refreshing()
    client.gives_refresh_tokens = False
    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        assert await access_token(world, user_id, client) == "access 1"
        clock.advance(seconds=3600)
        assert await access_token(world, user_id, client) == "access 2"
    assert client.refreshed == ["refresh 0", "refresh 0"]


@pytest.mark.parametrize("refresh_token", [None, "revoked", "odd"])
async def test_a_token_that_cannot_be_refreshed_is_a_refusal(world: World, refresh_token: str | None) -> None:
    user_id = await insert_account(world, refresh_token=refresh_token)

    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        with pytest.raises(OAuthTokenNotAvailable):
            await access_token(world, user_id, Refreshing())
        clock.advance(seconds=-30)  # when it still counts, though not for long
        assert await access_token(world, user_id, Refreshing()) == "access 0"


async def test_the_account_is_that_of_the_provider_and_the_id_asked_for(world: World) -> None:
    user_id, other = await insert_account(world, expires_at=None), Refreshing()
    other.name = "other"

    assert await access_token(world, user_id, Refreshing(), account_id="1") == "access 0"
    for client, options in ((Refreshing(), {"account_id": "2"}), (other, {})):
        with pytest.raises(OAuthAccountNotExists):
            await access_token(world, user_id, client, **options)


class EightMethods:
    """An adapter that is just an object."""

    def __init__(self, database: Any) -> None:
        self.database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)


@pytest.mark.parametrize("adapt", [lambda database: database, EightMethods])
async def test_other_adapters_refresh_as_well(adapt: Any) -> None:
    database = InMemoryUserDatabase[InMemoryUser, uuid.UUID](InMemoryUser, InMemoryAccount)
    user: Any = await database.create({"email": "ann@example.org", "hashed_password": "h"})
    account: Mapping[str, Any] = {
        "oauth_name": "provider",
        "account_id": "1",
        "account_email": "ann@example.org",
        "access_token": "access 0",
        "refresh_token": "refresh 0",
        "expires_at": NOW - 1,
    }
    await database.add_oauth_account(user, dict(account))
    manager: Any = InMemoryManager(adapt(database))

    with frozen_clock() as clock:
        clock.advance(seconds=NOW - clock.now.timestamp())
        assert await manager.get_oauth_access_token(user, Refreshing()) == "access 1"
    assert user.oauth_accounts[0].refresh_token == "refresh 1"
