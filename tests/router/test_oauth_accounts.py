import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx import Response as Answer

from fastapi_users.db import BaseUserDatabase
from fastapi_users.events import Event, OAuthAccountUnlinked, Subscribers
from fastapi_users.exceptions import LastLoginMethod, OAuthAccountNotExists
from fastapi_users.manager import ending_sessions
from fastapi_users.router import get_oauth_accounts_router
from fastapi_users.testing import frozen_clock
from tests.router.test_oauth import LOGGED_OUT, begin, finish
from tests.services import DRIVERS, database
from tests.world import OAuthAccount, User, UserManager, World

ACCOUNTS = "/account/oauth-accounts"


class Manager(UserManager):
    knows_password = False

    async def has_usable_password(self, user: User) -> bool:
        return self.knows_password or await super().has_usable_password(user)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=Manager) as world:
        get_user_manager: Any = world.fastapi_users.get_user_manager
        for prefix, options in (("/fresh", {"fresh": 600}), ("/verified", {"requires_verification": True})):
            router = get_oauth_accounts_router(get_user_manager, world.fastapi_users.authenticator, **options)
            world.app.include_router(router, prefix=prefix)
        yield world


async def link(world: World, headers: dict[str, str], *account_ids: str) -> list[dict[str, Any]]:
    for account_id in account_ids:
        world.provider.account = (account_id, f"{account_id}@example.org")
        answer = await finish(world.client, "associate", headers, state=await begin(world.client, "associate", headers))
        assert answer.status_code == 200
    return await listed(world, headers)


async def listed(world: World, headers: dict[str, str]) -> list[dict[str, Any]]:
    answer = await world.client.get(ACCOUNTS, headers=headers)
    assert answer.status_code == 200
    accounts: list[dict[str, Any]] = sorted(answer.json(), key=lambda account: str(account["account_id"]))
    return accounts


async def unlink(world: World, headers: dict[str, str], account: dict[str, Any], under: str = "/account") -> Answer:
    return await world.client.delete(f"{under}/oauth-accounts/{account['id']}", headers=headers)


async def test_the_own_accounts_are_listed_without_their_tokens(world: World) -> None:
    await world.insert_user("bob@example.org")
    await link(world, await world.log_in("bob@example.org"), "bobs")
    await world.insert_user()

    (account,) = await link(world, await world.log_in(), "one")

    assert account == {
        "id": str(uuid.UUID(account["id"])),
        "oauth_name": "provider",
        "account_id": "one",
        "account_email": "one@example.org",
        "expires_at": 2_000_000_000,
    }


async def test_an_account_is_unlinked_and_logs_in_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    monkeypatch.setattr(Manager, "subscribers", subscribers := Subscribers())

    @subscribers.in_transaction(OAuthAccountUnlinked)
    async def note(event: Event, user_manager: Any) -> None:
        told.append(event)

    user = await world.insert_user()
    headers = await world.log_in()
    one, two = await link(world, headers, "one", "two")
    world.hooks.clear()

    assert (await unlink(world, headers, one)).status_code == 204

    assert await listed(world, headers) == [two]
    assert world.hooks == [("updated", "ann@example.org", {})]
    assert [(event.user_id, event.data) for event in told] == [
        (user.id, {"oauth_name": "provider", "account_id": "one"})
    ]
    world.provider.account = ("one", "ann@example.org")
    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
    assert answer.json() == {"detail": "OAUTH_USER_ALREADY_EXISTS"}


async def test_the_last_account_stays_unless_the_application_knows_of_a_password(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.insert_user()
    headers = await world.log_in()
    (account,) = await link(world, headers, "one")

    answer = await unlink(world, headers, account)

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_LAST_LOGIN_METHOD"})
    assert await listed(world, headers) == [account]
    monkeypatch.setattr(Manager, "knows_password", True)
    assert (await unlink(world, headers, account)).status_code == 204
    assert await listed(world, headers) == []


async def test_an_account_of_nobody_or_of_somebody_else_is_not_found(world: World) -> None:
    await world.insert_user("bob@example.org")
    bobs = await link(world, await world.log_in("bob@example.org"), "one", "two")
    await world.insert_user()
    headers = await world.log_in()
    (own, _) = await link(world, headers, "three", "four")

    for id in (bobs[0]["id"], str(uuid.uuid4()), "x", own["id"].upper(), own["id"].replace("-", "")):
        answer = await unlink(world, headers, {"id": id})
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert len(await listed(world, headers)) == 2
    assert len(await listed(world, await world.log_in("bob@example.org"))) == 2


async def test_strangers_and_where_it_matters_the_unverified_stay_outside(world: World) -> None:
    await world.insert_user()
    for headers, under, status_code in ((LOGGED_OUT, "/account", 401), (await world.log_in(), "/verified", 403)):
        assert (await world.client.get(f"{under}/oauth-accounts", headers=headers)).status_code == status_code
        assert (await unlink(world, headers, {"id": "x"}, under)).status_code == status_code


async def test_to_unlink_one_a_session_may_have_to_be_fresh(world: World) -> None:
    await world.insert_user()
    with frozen_clock() as clock:
        headers = await world.log_in()
        one, _ = await link(world, headers, "one", "two")
        clock.advance(seconds=601)

        answer = await unlink(world, headers, one, "/fresh")
        assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "REAUTHENTICATION_REQUIRED")
        assert (await world.client.get("/fresh/oauth-accounts", headers=headers)).status_code == 200
        assert (await unlink(world, await world.log_in(), one, "/fresh")).status_code == 204


@pytest.mark.parametrize("engine", list(DRIVERS))
async def test_of_two_removals_at_the_same_moment_one_leaves_the_other_account(engine: str, tmp_path: Path) -> None:
    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine) as world:
        await world.insert_user()
        headers = await world.log_in()
        status_codes: list[int] = []

        async def remove(account: dict[str, Any]) -> None:
            status_codes.append((await unlink(world, headers, account)).status_code)

        async with anyio.create_task_group() as tasks:
            for account in await link(world, headers, "one", "two"):
                tasks.start_soon(remove, account)

        assert sorted(status_codes) == [204, 400]
        assert len(await listed(world, headers)) == 1


async def test_a_refused_removal_leaves_the_user_readable(world: World) -> None:
    user = await world.insert_user()
    (account,) = await link(world, await world.log_in(), "one")

    async with world.session_maker() as session:
        manager = world.make_manager(session)
        own = await manager.get(user.id)
        for account_id, refusal in ((account["id"], LastLoginMethod), (uuid.uuid4(), OAuthAccountNotExists)):
            with pytest.raises(refusal):
                await manager.oauth_remove_account(own, account_id)
            assert [own.email, *(linked.account_id for linked in own.oauth_accounts)] == [user.email, "one"]


async def test_a_removal_is_a_change_of_credentials(world: World) -> None:
    user = await world.insert_user()
    one, _ = await link(world, await world.log_in(), "one", "two")
    ended: list[Any] = []

    async def end_sessions(user: Any) -> None:
        ended.append(user)

    async with world.session_maker() as session:
        manager = world.make_manager(session)
        own = await manager.get(user.id)
        with ending_sessions(end_sessions):
            assert await manager.oauth_remove_account(own, uuid.UUID(one["id"])) is own

    assert ended == [own]


async def test_an_account_that_is_gone_meanwhile_is_not_found(world: World) -> None:
    user = await world.insert_user()
    one, _ = await link(world, await world.log_in(), "one", "two")
    async with world.session_maker() as session, world.session_maker() as other_session:
        manager, other_manager = world.make_manager(session), world.make_manager(other_session)
        own, same = await manager.get(user.id), await other_manager.get(user.id)
        await other_manager.oauth_remove_account(same, one["id"])

        with pytest.raises(OAuthAccountNotExists):
            await manager.oauth_remove_account(own, one["id"])


async def test_an_account_that_upstream_linked_to_two_users_can_be_unlinked_by_both(world: World) -> None:
    """D7: what happened before."""
    emails = ["ann@example.org", "bob@example.org"]
    async with world.session_maker() as session:
        for email in emails:
            user = await world.insert_user(email)
            for account_id in ("shared", email):
                session.add(
                    OAuthAccount(
                        user_id=user.id,
                        oauth_name="provider",
                        access_token="T",
                        account_id=account_id,
                        account_email=email,
                    )
                )
        await session.commit()

    for email in emails:
        headers = await world.log_in(email)
        (shared,) = [account for account in await listed(world, headers) if account["account_id"] == "shared"]
        assert (await unlink(world, headers, shared)).status_code == 204
        assert [account["account_id"] for account in await listed(world, headers)] == [email]


async def test_an_adapter_that_unlinks_nothing_says_so() -> None:
    database: Any = BaseUserDatabase()

    with pytest.raises(NotImplementedError, match=r"BaseUserDatabase has no delete_oauth_account\(user"):
        await database.delete_oauth_account(None, None)
