"""Whose an account at a provider is: linking by address, two users and one account, and all of it at the same moment."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fastapi_users import BaseUserManager
from fastapi_users.db import BaseUserDatabase, SQLAlchemyUserDatabase
from fastapi_users.events import Event, OAuthAccountLinked, OAuthAccountUnlinked, Subscribers
from fastapi_users.exceptions import OAuthAccountAlreadyLinked, UserAlreadyExists
from fastapi_users.manager import ending_sessions
from fastapi_users.testing import InMemoryUserDatabase, weak_password_helper
from fastapi_users.testing import OAuthAccount as AccountInMemory
from fastapi_users.testing import User as UserInMemory
from tests.router.test_oauth import begin, finish
from tests.services import DRIVERS, database
from tests.test_manager import UserManager as PlainManager
from tests.world import LEGACY, PASSWORD, RECOMMENDED, User, UserManager, World

ANN = "ann@example.org"
TROJAN: dict[str, Any] = {
    "oauth_name": "other",
    "access_token": "T",
    "account_id": "mallory",
    "account_email": "mallory@example.org",
    "expires_at": None,
    "refresh_token": None,
}


class Manager(UserManager):
    async def get_oauth_user_fields(self, oauth_name: str, profile: Any) -> dict[str, Any]:
        named = {"nickname": f"{profile['name']} of {oauth_name}"} if "name" in profile else {}
        return {**named, **profile.get("more", {})}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The application that links by address."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=Manager, associate_by_email=True) as world:
        yield world


@asynccontextmanager
async def managing(world: World) -> AsyncIterator[Any]:
    """The manager of one request, on a session of its own."""
    async with AsyncExitStack() as stack:
        if world.plain_engine is None:
            yield world.make_manager(await stack.enter_async_context(world.session_maker()))
        else:
            session: Any = stack.enter_context(Session(world.plain_engine, expire_on_commit=False))
            yield world.make_manager(session)


async def add_account(world: World, user: User, account: dict[str, Any]) -> None:
    async with managing(world) as manager:
        await manager.user_db.add_oauth_account(await manager.get(user.id), dict(account))


async def accounts_of(world: World, user: User) -> list[tuple[str, str, str]]:
    found: Any = await world.reload(user)
    return sorted((own.oauth_name, own.account_id, own.access_token) for own in found.oauth_accounts)


async def count_accounts(world: World, table: Any) -> int:
    async with world.session_maker() as session:
        return int((await session.execute(select(func.count()).select_from(table))).scalar_one())


async def log_in_through_the_provider(world: World) -> int:
    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
    return answer.status_code


async def can_log_in(world: World) -> bool:
    answer = await world.client.post("/auth/jwt/login", data={"username": ANN, "password": PASSWORD})
    return answer.status_code == 200


# linking by address


async def test_the_owner_of_an_address_takes_over_what_another_one_registered(world: World) -> None:
    """D6, CONTRACT 16 row 27: Mallory registered Ann's address, linked an account of his own, and waits."""
    user = await world.insert_user()
    await add_account(world, user, TROJAN)
    await world.client.post("/auth/forgot-password", json={"email": ANN})

    assert await log_in_through_the_provider(world) == 204

    assert (await world.client.get("/users/me")).json()["id"] == str(user.id)
    assert not await can_log_in(world)
    assert await accounts_of(world, user) == [("provider", "account-1", "PROVIDER-TOKEN")]
    body = {"token": world.outbox.token(to=ANN), "password": PASSWORD}
    answer = await world.client.post("/auth/reset-password", json=body)
    assert answer.json() == {"detail": "RESET_PASSWORD_BAD_TOKEN"}
    found = await world.reload(user)
    assert found is not None
    assert not found.is_verified
    assert [hook for hook, *_ in world.hooks] == ["logged in"]


async def test_what_ends_with_such_a_link_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    changed: list[set[str]] = []
    monkeypatch.setattr(Manager, "subscribers", subscribers := Subscribers())

    @subscribers.in_transaction(OAuthAccountLinked, OAuthAccountUnlinked)
    async def note(event: Event, user_manager: Any) -> None:
        told.append(event)

    async def credentials_changed(self: Any, user: Any, credentials: set[str], request: Any) -> None:
        changed.append(credentials)
        await BaseUserManager._seam_credentials_changed(self, user, credentials, request)

    monkeypatch.setattr(Manager, "_seam_credentials_changed", credentials_changed)
    user = await world.insert_user()
    await add_account(world, user, TROJAN)
    ended: list[Any] = []

    async def end_sessions(user: Any) -> None:
        ended.append(user)

    async with managing(world) as manager:
        with ending_sessions(end_sessions):
            await manager.oauth_callback("provider", "T", "1", ANN, associate_by_email=True)

    assert [(event.name, event.user_id, event.data["account_id"]) for event in told] == [
        ("oauth_account_unlinked", user.id, "mallory"),
        ("oauth_account_linked", user.id, "1"),
    ]
    assert changed == [{"password", "oauth"}]
    assert [ended_user.id for ended_user in ended] == [user.id]


async def test_a_link_that_fails_takes_nothing_from_anybody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await world.insert_user()
    await add_account(world, user, TROJAN)

    async def fail(self: Any, user: Any, create_dict: dict[str, Any]) -> Any:
        raise ConnectionError

    monkeypatch.setattr(SQLAlchemyUserDatabase, "add_oauth_account", fail)
    with pytest.raises(ConnectionError):
        await log_in_through_the_provider(world)

    assert await can_log_in(world)
    assert await accounts_of(world, user) == [("other", "mallory", "T")]


async def test_who_verified_the_address_keeps_everything(world: World) -> None:
    user = await world.insert_user(is_verified=True)
    await add_account(world, user, TROJAN)

    assert await log_in_through_the_provider(world) == 204

    assert await can_log_in(world)
    assert [account for _, account, _ in await accounts_of(world, user)] == ["mallory", "account-1"]


@pytest.mark.parametrize("is_verified", [True, False])
async def test_a_strict_policy_links_only_who_verified_the_address(world: World, is_verified: bool) -> None:
    """D6. Of the provider's side the route takes care."""
    user = await world.insert_user(is_verified=is_verified)
    refusal: Any = None

    async with managing(world) as manager:
        try:
            await manager.oauth_callback(
                "provider", "T", "1", ANN, associate_by_email=True, link_policy="verified", profile=None
            )
        except UserAlreadyExists as error:
            refusal = error

    assert (refusal is None) == is_verified
    assert len(await accounts_of(world, user)) == is_verified
    assert await can_log_in(world)


# what a profile tells


async def test_a_profile_fills_columns_of_a_new_user_and_of_no_other(world: World) -> None:
    async with managing(world) as manager:
        for name in ("Ann", "Somebody else"):
            user = await manager.oauth_callback("provider", "T", "1", ANN, profile={"name": name})
            assert user.nickname == "Ann of provider"
        bob = await manager.oauth_callback("provider", "T", "2", "bob@example.org")

    assert bob.nickname is None


async def test_an_adapter_may_give_nothing_back_for_an_account_that_it_changed() -> None:
    """E15, upstream's issue 1184: an AttributeError in the router."""

    class Silent(InMemoryUserDatabase[UserInMemory, uuid.UUID]):
        async def update_oauth_account(self, user: Any, oauth_account: Any, update_dict: dict[str, Any]) -> Any:
            await super().update_oauth_account(user, oauth_account, update_dict)

    manager: Any = PlainManager(Silent(UserInMemory, AccountInMemory), weak_password_helper())
    user = await manager.oauth_callback("provider", "T", "1", ANN)

    assert await manager.oauth_callback("provider", "NEW", "1", ANN) is user
    assert user.oauth_accounts[0].access_token == "NEW"


async def test_the_library_reads_nothing_from_a_profile_by_itself() -> None:
    manager = PlainManager(InMemory(), weak_password_helper())

    user = await manager.oauth_callback("provider", "T", "1", ANN, profile={"is_superuser": True})

    assert not user.is_superuser


@pytest.mark.parametrize(
    "field", ["id", "email", "hashed_password", "is_active", "is_superuser", "is_verified", "oauth_accounts"]
)
async def test_a_profile_sets_no_privileges(world: World, field: str) -> None:
    async with managing(world) as manager:
        with pytest.raises(ValueError, match=f"must not set {field}"):
            await manager.oauth_callback("provider", "T", "1", ANN, profile={"name": "Ann", "more": {field: True}})

        assert await manager.user_db.get_by_email(ANN) is None


# one account, one user


async def test_linking_the_same_account_again_changes_its_tokens_only(world: World) -> None:
    """D7, row 8 of CONTRACT 16."""
    user = await world.insert_user()
    headers = await world.log_in()
    for access_token in ("FIRST", "SECOND"):
        world.provider.token["access_token"] = access_token
        answer = await finish(world.client, "associate", headers, state=await begin(world.client, "associate", headers))
        assert answer.status_code == 200

    assert await accounts_of(world, user) == [("provider", "account-1", "SECOND")]
    assert world.hooks[-2:] == [("updated", ANN, {})] * 2


async def test_an_account_of_another_user_is_not_linked(world: World) -> None:
    """D7: upstream answers 500 to both of them, for good."""
    ann = await world.insert_user()
    bob = await world.insert_user("bob@example.org")
    async with managing(world) as manager:
        await manager.oauth_associate_callback(await manager.get(ann.id), "provider", "T", "1", ANN)

    async with managing(world) as manager:
        refused = await manager.get(bob.id)
        with pytest.raises(OAuthAccountAlreadyLinked):
            await manager.oauth_associate_callback(refused, "provider", "BOBS", "1", ANN)
        assert refused.email == "bob@example.org"

    assert await accounts_of(world, ann) == [("provider", "1", "T")]
    assert await accounts_of(world, bob) == []
    assert len(world.hooks) == 1


async def test_a_crash_between_user_and_account_leaves_neither(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """D12: upstream leaves a user without the account, and the address is locked out."""

    async def fail(self: Any, user: Any, create_dict: dict[str, Any]) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(SQLAlchemyUserDatabase, "add_oauth_account", fail)
        with pytest.raises(ConnectionError):
            await log_in_through_the_provider(world)

    async with managing(world) as manager:
        assert await manager.user_db.get_by_email(ANN) is None
    assert await log_in_through_the_provider(world) == 204


async def test_who_links_behind_the_back_of_the_library_is_stopped_by_the_constraint(tmp_path: Path) -> None:
    """D7: with the constraint of new tables, a script or an older version in parallel makes no second row either."""

    class Blind(SQLAlchemyUserDatabase[Any, uuid.UUID]):
        looks = 0

        async def get_by_oauth_account(self, oauth: str, account_id: str) -> Any:
            self.looks += 1
            return None if self.looks == 1 else await super().get_by_oauth_account(oauth, account_id)

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **RECOMMENDED) as world:
        ann, bob = await world.insert_user(), await world.insert_user("bob@example.org")
        await add_account(world, ann, TROJAN)
        for user, refusal in ((bob, OAuthAccountAlreadyLinked), (ann, IntegrityError)):
            async with managing(world) as manager:
                manager.user_db = Blind(
                    manager.user_db.session, RECOMMENDED["user_table"], RECOMMENDED["oauth_account_table"]
                )
                linking = await manager.get(user.id)
                with pytest.raises(refusal):
                    await manager.oauth_associate_callback(linking, "other", "T", "mallory", ANN)
                assert linking.email == user.email

        assert await count_accounts(world, RECOMMENDED["oauth_account_table"]) == 1


# at the same moment, on every engine


@asynccontextmanager
async def many_worlds(engine: str, tables: dict[str, Any], tmp_path: Path) -> AsyncIterator[World]:
    async with (
        database(engine, tmp_path) as url,
        World.on(url, plain="plain" in engine, manager_class=Manager, **tables) as world,
    ):
        yield world


on_every_engine = pytest.mark.parametrize("engine", list(DRIVERS))
with_all_tables = pytest.mark.parametrize("tables", [LEGACY, RECOMMENDED], ids=["legacy tables", "recommended tables"])


async def at_once(*works: Callable[[], Awaitable[Any]]) -> list[Any]:
    results: list[Any] = [None] * len(works)

    async def keep_result(index: int) -> None:
        results[index] = await works[index]()

    async with anyio.create_task_group() as tasks:
        for index in range(len(works)):
            tasks.start_soon(keep_result, index)
    return results


def associating(world: World, user: User) -> Callable[[], Awaitable[str]]:
    async def associate() -> str:
        async with managing(world) as manager:
            own = await manager.get(user.id)
            try:
                await manager.oauth_associate_callback(own, "provider", "T", "1", ANN)
            except OAuthAccountAlreadyLinked:
                return "refused"
            return "linked"

    return associate


@on_every_engine
@with_all_tables
async def test_of_several_users_who_link_the_same_account_one_gets_it(
    engine: str, tables: dict[str, Any], tmp_path: Path
) -> None:
    """D7, in parallel."""
    async with many_worlds(engine, tables, tmp_path) as world:
        users = [await world.insert_user(f"{name}@example.org") for name in ("ann", "bob", "cleo", "dora")]

        results = await at_once(*(associating(world, user) for user in users))

        assert sorted(results) == ["linked", "refused", "refused", "refused"]
        winner = users[results.index("linked")]
        assert await accounts_of(world, winner) == [("provider", "1", "T")]
        assert await count_accounts(world, tables["oauth_account_table"]) == 1


@on_every_engine
@with_all_tables
async def test_a_user_who_links_the_same_account_five_times_at_once_has_one_row(
    engine: str, tables: dict[str, Any], tmp_path: Path
) -> None:
    """Row 12 of the requirements."""
    async with many_worlds(engine, tables, tmp_path) as world:
        user = await world.insert_user()

        assert await at_once(*[associating(world, user)] * 5) == ["linked"] * 5
        assert await accounts_of(world, user) == [("provider", "1", "T")]
        assert await count_accounts(world, tables["oauth_account_table"]) == 1


@on_every_engine
@pytest.mark.parametrize("is_verified", [True, False])
async def test_logins_that_link_the_same_account_by_address_at_once_make_one_row(
    engine: str, is_verified: bool, tmp_path: Path
) -> None:
    """D12: all of them succeed, and what the registrant held ends once."""
    async with many_worlds(engine, LEGACY, tmp_path) as world:
        user = await world.insert_user(is_verified=is_verified)

        async def log_in() -> uuid.UUID:
            async with managing(world) as manager:
                owner = await manager.oauth_callback("provider", "T", "1", ANN, associate_by_email=True)
                assert isinstance(owner.id, uuid.UUID)
                return owner.id

        assert await at_once(*[log_in] * 4) == [user.id] * 4
        assert await accounts_of(world, user) == [("provider", "1", "T")]
        assert await can_log_in(world) == is_verified


@on_every_engine
@pytest.mark.parametrize(
    "root_id", [None, uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)], ids=["alone", "after", "before"]
)
async def test_first_logins_with_one_account_and_several_addresses_make_one_user(
    engine: str, root_id: uuid.UUID | None, tmp_path: Path
) -> None:
    """D12: the address changed at the provider between two tabs. The new rows come after the first one of the table, or
    before it, where a lock on that would deadlock on MariaDB.
    """
    async with many_worlds(engine, LEGACY, tmp_path) as world:
        if root_id is not None:
            await world.insert_user("root@example.org", id=root_id)

        def logging_in(email: str) -> Callable[[], Awaitable[uuid.UUID]]:
            async def log_in() -> uuid.UUID:
                async with managing(world) as manager:
                    user = await manager.oauth_callback("provider", "T", "1", email)
                    assert isinstance(user.id, uuid.UUID)
                    return user.id

            return log_in

        owners = await at_once(*(logging_in(f"{name}@example.org") for name in ("ann", "bob", "cleo", "dora")))

        assert len(set(owners)) == 1
        assert await count_accounts(world, User) == (1 if root_id is None else 2)
        assert await count_accounts(world, LEGACY["oauth_account_table"]) == 1


# adapters of applications


class InMemory(BaseUserDatabase[UserInMemory, uuid.UUID]):
    """An adapter as they are written for upstream: nothing but the eight methods. Keeps what was linked too late."""

    def __init__(self, *users: UserInMemory) -> None:
        self.users = list(users)
        self.meanwhile: list[Callable[[], None]] = []

    async def get_by_email(self, email: str) -> UserInMemory | None:
        return next((user for user in self.users if user.email == email), None)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UserInMemory | None:
        same = (oauth, account_id)
        found = [
            user
            for user in self.users
            if any((account.oauth_name, account.account_id) == same for account in user.oauth_accounts)
        ]
        for happen in self.meanwhile:
            happen()
        self.meanwhile.clear()
        return found[0] if found else None

    async def create(self, create_dict: dict[str, Any]) -> UserInMemory:
        self.users.append(user := UserInMemory(**create_dict))
        return user

    async def update(self, user: UserInMemory, update_dict: dict[str, Any]) -> UserInMemory:
        vars(user).update(update_dict)
        return user

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        user.oauth_accounts.append(AccountInMemory(**create_dict))
        return user


def trojan() -> AccountInMemory:
    return AccountInMemory(**TROJAN)


async def test_an_adapter_that_unlinks_nothing_refuses_to_link_where_there_is_something_to_unlink() -> None:
    """D6: better no login than one beside Mallory's."""
    user = UserInMemory(ANN, "h", oauth_accounts=[trojan()])
    manager = PlainManager(InMemory(user), weak_password_helper())

    with pytest.raises(UserAlreadyExists):
        await manager.oauth_callback("provider", "T", "1", ANN, associate_by_email=True)
    assert (user.hashed_password, len(user.oauth_accounts)) == ("h", 1)

    user.oauth_accounts.clear()
    assert await manager.oauth_callback("provider", "T", "1", ANN, associate_by_email=True) is user
    assert user.hashed_password != "h"


async def test_an_adapter_that_reserves_nothing_is_looked_at_and_called_as_upstream_calls_it() -> None:
    """D7: another user's is refused; an own one gets a row more, as every adapter of an application expects."""
    ann, bob = UserInMemory(ANN, "h", oauth_accounts=[trojan()]), UserInMemory("bob@example.org", "h")
    manager = PlainManager(InMemory(ann, bob), weak_password_helper())

    with pytest.raises(OAuthAccountAlreadyLinked):
        await manager.oauth_associate_callback(bob, "other", "T", "mallory", ANN)
    assert bob.oauth_accounts == []
    await manager.oauth_associate_callback(ann, "other", "T", "mallory", ANN)
    assert len(ann.oauth_accounts) == 2


async def test_a_login_that_another_tab_has_just_finished_logs_in() -> None:
    """D12: the account is nobody's at the first look, and the address somebody's at the second."""
    users = InMemory()
    users.meanwhile.append(lambda: users.users.append(UserInMemory(ANN, "h", oauth_accounts=[trojan()])))
    manager = PlainManager(users, weak_password_helper())

    user = await manager.oauth_callback("other", "T", "mallory", ANN)

    assert users.users == [user]


async def test_an_account_that_nobody_got_in_the_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Beanie does it, when two users link it at the same moment."""

    async def lose(self: Any, user: Any, create_dict: dict[str, Any]) -> Any:
        raise OAuthAccountAlreadyLinked

    monkeypatch.setattr(InMemory, "add_oauth_account", lose)
    ann = UserInMemory(ANN, "h")
    manager = PlainManager(InMemory(ann), weak_password_helper())

    with pytest.raises(OAuthAccountAlreadyLinked):
        await manager.oauth_associate_callback(ann, "other", "T", "mallory", ANN)
    for email in (ANN, "new@example.org"):
        with pytest.raises(UserAlreadyExists):
            await manager.oauth_callback("other", "T", "mallory", email, associate_by_email=True)


async def test_whatever_error_a_database_has_for_a_lost_race_the_login_of_the_faster_tab_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D12: MariaDB ends one of two transactions that wait for each other."""
    winner = UserInMemory("new@example.org", "h")

    async def deadlock(self: Any, user: Any, create_dict: dict[str, Any]) -> Any:
        self.users[:] = [winner]
        winner.oauth_accounts.append(trojan())
        raise TimeoutError

    monkeypatch.setattr(InMemory, "add_oauth_account", deadlock)
    manager = PlainManager(InMemory(), weak_password_helper())

    assert await manager.oauth_callback("other", "T", "mallory", ANN) is winner


async def test_an_error_of_the_application_is_no_lost_race(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Any, event: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(PlainManager, "_seam_event", fail)
    manager = PlainManager(InMemory(), weak_password_helper())

    with pytest.raises(TimeoutError):
        await manager.oauth_callback("other", "T", "mallory", ANN)
