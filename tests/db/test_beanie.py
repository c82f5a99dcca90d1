import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any, ClassVar, List  # noqa: UP035 -- Beanie takes list[…] for a class on Python 3.10

import anyio
import pytest
from beanie import Delete, Document, Indexed, PydanticObjectId, Save, Update, after_event, before_event, init_beanie
from beanie.exceptions import DocumentNotFound, RevisionIdWasChanged
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient
from pydantic import Field
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fastapi_users import BaseUserManager, FastAPIUsers, InvalidID, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import BaseOAuthAccount, BeanieBaseUser, BeanieUserDatabase, ObjectIDIDMixin
from fastapi_users.db.beanie import (
    BeanieAccessTokenDatabase,
    BeanieBaseAccessToken,
    BeanieBaseUserDocument,
    BeanieStore,
)
from fastapi_users.db.store import Increment, Store, at_least, one_of, other_than
from fastapi_users.exceptions import OAuthAccountAlreadyLinked, OAuthAccountNotExists
from fastapi_users.mail import Message
from fastapi_users.testing import AccessTokenDatabaseSuite, Outbox, StoreSuite, UserDatabaseSuite, weak_password_helper
from tests.mongo_server import mongo_server
from tests.services import MONGO_URL, connect_mongo
from tests.world import PASSWORD, SECRET, Provider

ANN = {"email": "ann@example.org", "hashed_password": "h"}
ACCOUNT = UserDatabaseSuite.account


class OAuthAccount(BaseOAuthAccount):
    pass


class User(BeanieBaseUser, Document):
    nickname: str | None = None
    oauth_accounts: List[OAuthAccount] = Field(default_factory=list)  # noqa: UP006 -- see the import

    class Settings(BeanieBaseUser.Settings):
        name = "users"


class AccessToken(BeanieBaseAccessToken, Document):
    pass


class WatchedToken(BeanieBaseAccessToken, Document):
    heard: ClassVar[List[str]] = []  # noqa: UP006 -- see the import

    class Settings(BeanieBaseAccessToken.Settings):
        name = "watched_tokens"

    @before_event(Delete)
    def hear(self) -> None:
        self.heard.append(self.token)


class KeptToken(BeanieBaseAccessToken, Document):
    class Settings(BeanieBaseAccessToken.Settings):
        name = "kept_tokens"

    async def delete(self, *args: Any, **kwargs: Any) -> None:
        """It is kept for ever."""


class LegacyUser(BeanieBaseUser, Document):
    """From a time when letter case counted."""

    class Settings(BeanieBaseUser.Settings):
        indexes = ()  # type: ignore[assignment]  # Beanie takes any sequence


class WatchedUser(User):
    """Keeps no nulls, and does something whenever it is saved."""

    saves: int = 0
    heard: List[str] = Field(default_factory=list, exclude=True)  # noqa: UP006 -- see the import

    class Settings(User.Settings):
        name = "watched_users"
        keep_nulls = False

    @before_event(Save)
    def count_it(self) -> None:
        self.saves += 1

    @after_event(Save)
    async def hear(self) -> None:
        self.heard.append(f"saved {self.saves}")

    @before_event(Update)
    def stumble(self) -> None:
        if self.nickname == "stumble":
            raise AttributeError("a fault of the application")


class RevisedUser(BeanieBaseUser, Document):
    class Settings(BeanieBaseUser.Settings):
        use_revision = True


class DirectUser(BeanieBaseUserDocument):
    pass


class Kind(Enum):
    SMALL = "small"


class Note(Document):
    """A document as a feature has them."""

    name: Annotated[str, Indexed(unique=True)]
    number: int
    moment: datetime | None = None
    owner: uuid.UUID | None = None
    kind: Kind | None = None


DOCUMENTS = [User, AccessToken, LegacyUser, WatchedUser, WatchedToken, KeptToken, RevisedUser, DirectUser, Note]

Users = BeanieUserDatabase[User]


@pytest.fixture(params=[None, *filter(None, [MONGO_URL])], ids=lambda url: "MongoDB" if url else "wire server")
async def database(request: pytest.FixtureRequest) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    async with AsyncExitStack() as stack:
        client = await connect_mongo(request.param or await stack.enter_async_context(mongo_server()))
        stack.push_async_callback(client.close)
        database = client[f"fastapi_users_test_{os.getpid()}"]
        stack.push_async_callback(client.drop_database, database.name)
        await init_beanie(database, document_models=DOCUMENTS)
        yield database


@pytest.fixture
def user_db(database: Any) -> Users:
    return BeanieUserDatabase(User, OAuthAccount)


async def at_once(count: int, work: Callable[[], Awaitable[Any]]) -> list[Any]:
    results = []

    async def keep_result() -> None:
        results.append(await work())

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(keep_result)
    return sorted(results, key=str)


async def in_database(document: Document) -> Any:
    return await document.get_pymongo_collection().find_one({"_id": document.id})


class TestUsers(UserDatabaseSuite):
    duplicate_error = DuplicateKeyError

    @staticmethod
    def unknown_id() -> PydanticObjectId:
        return PydanticObjectId()


class TestAccessTokens(AccessTokenDatabaseSuite):
    duplicate_error = DuplicateKeyError

    @pytest.fixture
    def access_tokens(self, database: Any) -> BeanieAccessTokenDatabase[AccessToken]:
        return BeanieAccessTokenDatabase(AccessToken)

    @pytest.fixture
    def user_id(self) -> PydanticObjectId:
        return PydanticObjectId()

    async def test_a_subclass_keeps_its_own_way_to_delete(self, database: Any, user_id: PydanticObjectId) -> None:
        deleted: list[str] = []

        class Archive(BeanieAccessTokenDatabase[AccessToken]):
            async def delete(self, access_token: AccessToken) -> None:
                deleted.append(access_token.token)

        tokens = Archive(AccessToken)
        await tokens.create({"token": "T", "user_id": user_id})

        assert [await tokens.delete_by_token("T"), await tokens.delete_by_token("U")] == [1, 0]
        assert await tokens.delete_by_user(user_id) == 1
        assert await tokens.delete_by_user(user_id, except_tokens=["T"]) == 0
        assert deleted == ["T", "T"]

    @pytest.mark.parametrize("everywhere", [False, True])
    async def test_what_the_application_does_when_a_token_ends_is_done(
        self, database: Any, user_id: PydanticObjectId, everywhere: bool
    ) -> None:
        WatchedToken.heard.clear()
        for model, left in ((WatchedToken, 0), (KeptToken, 1)):
            tokens: BeanieAccessTokenDatabase[Any] = BeanieAccessTokenDatabase(model)
            await tokens.create({"token": "T", "user_id": user_id})

            assert await (tokens.delete_by_user(user_id) if everywhere else tokens.delete_by_token("T")) == 1
            assert await model.count() == left
        assert WatchedToken.heard == ["T"]

    async def test_times_are_read_as_mongodb_keeps_them(
        self, access_tokens: BeanieAccessTokenDatabase[AccessToken], user_id: PydanticObjectId
    ) -> None:
        token = await access_tokens.create({"token": "T", "user_id": user_id})
        assert token.created_at.tzinfo is timezone.utc

        moment = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
        assert await access_tokens.update(token, {"created_at": moment}) is token
        assert token.created_at == datetime(2030, 1, 1, 11, 0, 0, 123000)  # noqa: DTZ001 -- as MongoDB returns it


class TestStore(StoreSuite):
    duplicate_error = DuplicateKeyError

    @pytest.fixture
    def store(self, user_db: Users) -> Store[Note]:
        store = user_db.store(Note)
        assert isinstance(store, BeanieStore)
        return store

    async def test_of_many_who_take_the_same_row_one_gets_it(self, store: Store[Note]) -> None:
        await store.create({"name": "ticket", "number": 0})

        taken = await at_once(20, lambda: store.update_where({"name": "ticket", "number": 0}, {"number": 1}))

        assert taken == [0] * 19 + [1]

    async def test_no_count_is_lost(self, store: Store[Note]) -> None:
        note = await store.create({"name": "counter", "number": 0})

        await at_once(20, lambda: store.update_where({"id": note.id}, {"number": Increment(), "kind": Kind.SMALL}))

        [counted] = await store.list({"kind": Kind.SMALL})
        assert counted.number == 20

    async def test_values_are_compared_as_beanie_stores_them(self, store: Store[Note]) -> None:
        owner, moment = uuid.uuid4(), datetime(2030, 1, 1, tzinfo=timezone.utc)
        note = await store.create({"name": "a", "number": 1, "owner": owner, "kind": Kind.SMALL, "moment": moment})
        await store.create({"name": "b", "number": 2})

        for where in (
            {"id": note.id},
            {"id": one_of([note.id])},
            {"owner": owner},
            {"owner": one_of([owner])},
            {"owner": other_than(uuid.uuid4())},
            {"kind": Kind.SMALL},
            {"moment": moment},
            {"moment": at_least(moment)},
        ):
            [found] = await store.list(where)
            assert (found.id, found.owner, found.kind) == (note.id, owner, Kind.SMALL)
        newer = uuid.uuid4()
        assert await store.update_where({"id": note.id}, {"owner": newer, "moment": None}) == 1
        assert (await store.list({}, order_by="-id"))[-1].owner == newer

    async def test_a_value_from_outside_is_no_operator_and_a_field_has_to_exist(self, store: Store[Note]) -> None:
        await store.create({"name": "a", "number": 1})

        assert await store.get({"name": {"$ne": ""}}) is None
        with pytest.raises(KeyError):
            await store.get({"nmae": None})


async def test_an_update_leaves_the_other_fields_to_others(user_db: Users) -> None:
    mine = await user_db.create({**ANN, "nickname": "Ann"})
    theirs = await user_db.get(mine.id)
    assert theirs is not None
    await user_db.update(theirs, {"is_active": False})

    assert await user_db.update(mine, {"nickname": None}) is mine

    stored = await in_database(mine)
    assert (stored["nickname"], stored["is_active"]) == (None, False)
    assert (mine.nickname, mine.is_active) == (None, False)


async def test_a_deleted_user_does_not_come_back(user_db: Users) -> None:
    user = await user_db.create(ANN)
    await user_db.delete(user)

    assert await user_db.update(user, {}) is user
    with pytest.raises(DocumentNotFound):
        await user_db.update(user, {"is_verified": True})
    with pytest.raises(DocumentNotFound):
        await user_db.add_oauth_account(user, dict(ACCOUNT))
    assert await user_db.get_by_email(user.email) is None


async def test_a_field_that_does_not_exist_is_refused(user_db: Users) -> None:
    user = await user_db.create(ANN)

    with pytest.raises(ValueError, match="no field"):
        await user_db.update(user, {"password": "stray"})
    assert "password" not in await in_database(user)


async def test_a_document_tells_its_fields() -> None:
    class OpenUser(User, extra="allow"):
        pass

    assert [BeanieUserDatabase(User).has_field(name) for name in ("nickname", "role")] == [True, False]
    assert BeanieUserDatabase(OpenUser).has_field("role")


async def test_the_events_of_a_document_happen_and_are_written(database: Any) -> None:
    users = BeanieUserDatabase(WatchedUser, OAuthAccount)
    user = await users.create(ANN)

    await users.update(user, {"nickname": "Ann"})
    assert (user.saves, user.heard) == (1, ["saved 1"])
    await users.add_oauth_account(user, dict(ACCOUNT))
    await users.update_oauth_account(user, user.oauth_accounts[0], {"access_token": "new"})

    stored = await in_database(user)
    assert (stored["saves"], stored["nickname"], stored["oauth_accounts"][0]["access_token"]) == (3, "Ann", "new")
    with pytest.raises(AttributeError, match="a fault of the application"):
        await users.update(user, {"nickname": "stumble"})


async def test_of_many_updates_on_the_same_condition_one_is_made(user_db: Users) -> None:
    user = await user_db.create(ANN)

    async def change() -> bool:
        own_copy = await user_db.get(user.id)
        assert own_copy is not None
        return await user_db.update_where(own_copy, {"hashed_password": "h"}, {"hashed_password": "new"}) is own_copy

    assert await at_once(10, change) == [False] * 9 + [True]


async def test_an_update_of_the_application_is_called_on_a_condition_too(database: Any) -> None:
    class Extended(BeanieUserDatabase[User]):
        async def update(self, user: User, update_dict: dict[str, Any]) -> User:
            return await super().update(user, {**update_dict, "nickname": "updated"})

    users = Extended(User)
    user, bob = await users.create(ANN), await users.create({**ANN, "email": "bob@example.org"})

    assert await users.update_where(user, {"hashed_password": "other"}, {"is_verified": True}) is None
    assert (user.nickname, user.is_verified) == (None, False)
    assert await users.update_where(user, {"hashed_password": "h"}, {"is_verified": True}) is user
    stored = await in_database(user)
    assert (stored["nickname"], stored["is_verified"]) == ("updated", True)
    assert (await users.update(bob, {})).nickname == "updated"


async def test_the_events_of_a_document_happen_on_a_condition_too(database: Any) -> None:
    users = BeanieUserDatabase(WatchedUser, OAuthAccount)
    user = await users.create(ANN)

    assert await users.update_where(user, {"hashed_password": "other"}, {"nickname": "Ann"}) is None
    assert user.heard == []
    assert await users.update_where(user, {"hashed_password": "h", "id": user.id}, {"nickname": "Ann"}) is user
    assert user.heard == [f"saved {user.saves}"]
    assert (await in_database(user))["nickname"] == "Ann"
    with pytest.raises(AttributeError, match="a fault of the application"):
        await users.update_where(user, {"hashed_password": "h"}, {"nickname": "stumble"})


async def test_a_user_who_is_gone_is_not_updated_on_a_condition(user_db: Users) -> None:
    user = await user_db.create(ANN)
    await user_db.delete(user)

    assert await user_db.update_where(user, {"hashed_password": "h"}, {"is_verified": True}) is None


async def test_a_document_without_nulls_stays_without(database: Any) -> None:
    users = BeanieUserDatabase(WatchedUser, OAuthAccount)
    user = await users.create({**ANN, "nickname": "Ann"})
    await users.add_oauth_account(user, {**ACCOUNT, "refresh_token": "R"})

    await users.update(user, {"nickname": None})
    await users.update_oauth_account(user, user.oauth_accounts[0], {"refresh_token": None})

    stored = await in_database(user)
    assert "nickname" not in stored
    assert "refresh_token" not in stored["oauth_accounts"][0]
    assert (user.nickname, user.oauth_accounts[0].refresh_token) == (None, None)


async def test_a_document_with_revisions_refuses_an_old_copy(database: Any) -> None:
    users = BeanieUserDatabase(RevisedUser)
    user = await users.create(ANN)
    old_copy = await users.get(user.id)
    assert old_copy is not None

    await users.update(user, {"is_verified": True})
    await users.update(user, {"is_superuser": True})
    with pytest.raises(RevisionIdWasChanged):
        await users.update(old_copy, {"is_active": False})
    assert await users.update_where(old_copy, {"hashed_password": "h"}, {"is_active": False}) is None
    assert await users.update_where(user, {"hashed_password": "h"}, {"is_active": False}) is user
    await users.update(user, {"is_verified": False})


async def test_a_document_may_derive_from_the_one_that_is_there(database: Any) -> None:
    users = BeanieUserDatabase(DirectUser)
    user = await users.create(ANN)

    assert await users.get_by_email("ANN@example.org") == user


async def test_of_spellings_in_old_data_always_the_same_is_found(database: Any) -> None:
    """D2"""
    users = BeanieUserDatabase(LegacyUser)
    older = await users.create({**ANN, "email": "ann@example.org"})
    newer = await users.create({**ANN, "email": "ANN@example.org"})

    assert await users.get_by_email("ann@example.org") == older
    assert await users.get_by_email("ANN@example.org") == newer
    assert await users.get_by_email("Ann@example.org") == older


async def test_another_mailbox_that_the_index_takes_for_the_same_is_not_found_and_not_free(user_db: Users) -> None:
    user = await user_db.create({**ANN, "email": "strasse@example.org"})

    assert await user_db.get_by_email("stra\u00dfe@example.org") is None
    assert not await user_db.reserve_email("stra\u00dfe@example.org", None)
    assert await user_db.reserve_email("Strasse@example.org", user.id)
    assert await user_db.reserve_email("bob@example.org", None)


async def test_accounts_that_are_added_at_the_same_time_all_stay(user_db: Users) -> None:
    user = await user_db.create(ANN)
    names = iter(range(10))

    async def add() -> bool:
        own_copy = await user_db.get(user.id)
        return await user_db.add_oauth_account(own_copy, {**ACCOUNT, "account_id": str(next(names))}) is own_copy

    assert await at_once(10, add) == [True] * 10
    stored = await in_database(user)
    assert sorted(account["account_id"] for account in stored["oauth_accounts"]) == [str(name) for name in range(10)]


async def test_an_account_is_changed_wherever_it_stands_and_nothing_else(user_db: Users) -> None:
    user = await user_db.create(ANN)
    for changes in ({}, {"account_id": "2"}):
        await user_db.add_oauth_account(user, {**ACCOUNT, **changes})
    twice = [*user.oauth_accounts, OAuthAccount.model_validate(ACCOUNT)]  # as upstream allowed
    await user_db.update(user, {"oauth_accounts": twice})
    others_copy = await user_db.get(user.id)
    account = user.oauth_accounts[0]

    assert await user_db.update_oauth_account(user, account, {}) is user
    assert await user_db.update_oauth_account(user, account, {"access_token": "new"}) is user

    assert account.access_token == "new"
    assert [linked.access_token for linked in user.oauth_accounts] == ["new", "access", "new"]
    assert others_copy is not None
    await user_db.update(user, {"oauth_accounts": user.oauth_accounts[1:2]})
    await user_db.update_oauth_account(others_copy, others_copy.oauth_accounts[0], {"access_token": "newer"})
    assert [linked.account_id for linked in others_copy.oauth_accounts] == ["2"]


async def test_of_many_who_add_the_same_account_one_row_stays(user_db: Users) -> None:
    user = await user_db.create(ANN)

    async def add() -> None:
        await user_db.add_oauth_account(await user_db.get(user.id), ACCOUNT)

    await at_once(5, add)
    assert len((await in_database(user))["oauth_accounts"]) == 1


async def test_of_two_users_who_add_the_same_account_at_most_one_has_it(user_db: Users) -> None:
    """D7. MongoDB locks nothing, so that both may be refused, but never both have it."""
    users = [await user_db.create({**ANN, "email": f"{name}@example.org"}) for name in ("ann", "bob", "cleo")]
    left = iter(users)

    async def add() -> bool:
        try:
            await user_db.add_oauth_account(next(left), ACCOUNT)
        except OAuthAccountAlreadyLinked:
            return False
        return True

    added = sum(await at_once(3, add))

    stored = [account for user in users for account in (await in_database(user))["oauth_accounts"]]
    assert len(stored) == added <= 1
    late = await user_db.create({**ANN, "email": "late@example.org"})
    await user_db.update(users[0], {"oauth_accounts": [OAuthAccount.model_validate(ACCOUNT)]})
    with pytest.raises(OAuthAccountAlreadyLinked):
        await user_db.add_oauth_account(late, ACCOUNT)
    assert late.oauth_accounts == []
    assert (await in_database(late))["oauth_accounts"] == []


async def test_the_name_of_one_account_and_the_id_of_another_are_nobodys(user_db: Users) -> None:
    """CONTRACT 16 row 9"""
    user = await user_db.create(ANN)
    await user_db.add_oauth_account(user, {**ACCOUNT})
    await user_db.add_oauth_account(user, {**ACCOUNT, "oauth_name": "other", "account_id": "2"})

    assert await user_db.get_by_oauth_account("provider", "2") is None
    assert await user_db.get_by_oauth_account("other", "2") == user


async def test_without_an_account_model_there_are_no_accounts() -> None:
    """E14: the error says what is missing."""
    users = BeanieUserDatabase(User)
    calls = [
        users.get_by_oauth_account("provider", "1"),
        users.add_oauth_account(None, {}),
        users.update_oauth_account(None, None, {}),
        users.delete_oauth_account(None, None),
    ]

    for call in calls:
        with pytest.raises(NotImplementedError, match="OAuthAccount"):
            await call


def test_an_object_id_is_read_from_its_text() -> None:
    mixin, id = ObjectIDIDMixin(), PydanticObjectId("62736e11bae73a7a990f7df1")

    assert [mixin.parse_id(value) for value in (id, str(id), str(id).upper(), id.binary)] == [id] * 4
    for value in (None, "", "abc", 12346, uuid.uuid4(), "62736e11bae73a7a990f7d  ", "\uff16" * 24):
        with pytest.raises(InvalidID):
            mixin.parse_id(value)


class UserRead(schemas.BaseUser[PydanticObjectId]):
    nickname: str | None = None


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = None


class UserManager(ObjectIDIDMixin, BaseUserManager[User, PydanticObjectId]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    outbox: Outbox

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        await self.outbox.send(Message(to=user.email, subject="Verify", text=f"Your token: {token}"))


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
async def client(user_db: Users, outbox: Outbox) -> AsyncIterator[AsyncClient]:
    """An application on MongoDB, as its documentation shows it."""

    def get_user_manager() -> UserManager:
        manager = UserManager(BeanieUserDatabase(User, OAuthAccount), weak_password_helper())
        manager.outbox = outbox
        return manager

    def get_strategy() -> DatabaseStrategy[User, PydanticObjectId, AccessToken]:
        return DatabaseStrategy(BeanieAccessTokenDatabase(AccessToken), 3600)

    backend = AuthenticationBackend[User, PydanticObjectId]("database", BearerTransport("login"), get_strategy)
    users = FastAPIUsers[User, PydanticObjectId](get_user_manager, [backend])
    app = FastAPI()
    app.include_router(users.get_auth_router(backend))
    app.include_router(users.get_register_router(UserRead, schemas.BaseUserCreate))
    app.include_router(users.get_verify_router(UserRead))
    app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users")
    app.include_router(users.get_oauth_router(Provider(), backend, SECRET), prefix="/oauth")
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        yield client


async def register(client: AsyncClient, email: str = "ann@example.org") -> int:
    answer = await client.post("/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201 or answer.json() == {"detail": "REGISTER_USER_ALREADY_EXISTS"}
    return answer.status_code


async def log_in(client: AsyncClient, email: str = "ann@example.org") -> dict[str, str]:
    answer = await client.post("/login", data={"username": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_an_account_goes_its_way_through_the_routes(client: AsyncClient, outbox: Outbox) -> None:
    """E1, CONTRACT 16 row 4, for the ``null`` in place of a password."""
    assert await register(client, "Ann@example.org") == 201
    assert await register(client, "ann@EXAMPLE.org") == 400
    headers = await log_in(client, "aNN@example.org")

    assert (await client.post("/request-verify-token", json={"email": "ANN@example.org"})).status_code == 202
    answer = await client.post("/verify", json={"token": outbox.token("Ann@example.org")})
    assert answer.json()["is_verified"]
    change = {"email": "ann@example.org", "nickname": "Ann", "password": None}
    changed = (await client.patch("/users/me", json=change, headers=headers)).json()
    assert (changed["email"], changed["nickname"]) == ("ann@example.org", "Ann")
    assert str(PydanticObjectId(changed["id"])) == changed["id"]

    assert await register(client, "bob@example.org") == 201
    taken = await client.patch("/users/me", json={"email": "Bob@example.org"}, headers=headers)
    assert taken.json() == {"detail": "UPDATE_USER_EMAIL_ALREADY_EXISTS"}
    assert (await client.post("/logout", headers=headers)).status_code == 204
    assert (await client.get("/users/me", headers=headers)).status_code == 401


async def test_a_superuser_deletes_a_user(client: AsyncClient, user_db: Users) -> None:
    await register(client, "root@example.org")
    await register(client, "ann@example.org")
    root = await user_db.get_by_email("root@example.org")
    ann = await user_db.get_by_email("ann@example.org")
    assert root is not None
    assert ann is not None
    await user_db.update(root, {"is_superuser": True})
    headers, anns_headers = await log_in(client, "root@example.org"), await log_in(client, "ann@example.org")

    assert (await client.get(f"/users/{ann.id}", headers=headers)).json()["email"] == "ann@example.org"
    assert (await client.delete(f"/users/{ann.id}", headers=headers)).status_code == 204
    assert (await client.get(f"/users/{ann.id}", headers=headers)).status_code == 404
    assert (await client.get("/users/none", headers=headers)).status_code == 404
    assert (await client.get("/users/me", headers=anns_headers)).status_code == 401


async def test_of_many_registrations_of_one_address_one_succeeds(client: AsyncClient) -> None:
    """D1, CONTRACT 16 row 16"""
    spellings = iter(["ann@example.org", "Ann@example.org"] * 10)

    assert await at_once(20, lambda: register(client, next(spellings))) == [201] + [400] * 19
    assert await User.count() == 1


async def test_an_address_that_the_index_takes_for_another_is_taken(client: AsyncClient) -> None:
    assert await register(client, "strasse@example.org") == 201
    assert await register(client, "stra\u00dfe@example.org") == 400


async def test_a_provider_logs_in_the_same_user_again(client: AsyncClient, user_db: Users) -> None:
    for _ in range(2):
        answer = await client.get("/oauth/authorize")
        state = answer.json()["authorization_url"].partition("state=")[2].partition("&")[0]
        assert (await client.get("/oauth/callback", params={"code": "CODE", "state": state})).status_code == 200

    user = await user_db.get_by_oauth_account("provider", "account-1")
    assert user is not None
    assert [account.access_token for account in user.oauth_accounts] == ["PROVIDER-TOKEN"]


async def test_the_account_whose_token_is_refreshed_is_the_stored_one(user_db: BeanieUserDatabase[User]) -> None:
    user = await user_db.create({**ANN})
    for account_id in ("1", "2"):
        await user_db.add_oauth_account(user, {**ACCOUNT, "account_id": account_id})
    stale = await user_db.get(user.id)
    assert stale is not None
    await user_db.update_oauth_account(user, user.oauth_accounts[1], {"access_token": "newer"})

    owner, account = await user_db.lock_oauth_account(stale, stale.oauth_accounts[1])
    assert (owner.id, account.account_id, account.access_token) == (user.id, "2", "newer")

    await user_db.delete_oauth_account(user, user.oauth_accounts[1])
    with pytest.raises(OAuthAccountNotExists):
        await user_db.lock_oauth_account(stale, stale.oauth_accounts[1])
    await user_db.delete(user)
    with pytest.raises(OAuthAccountNotExists):
        await user_db.lock_oauth_account(stale, stale.oauth_accounts[0])
