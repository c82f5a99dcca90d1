"""The suites that every adapter passes, and what many writers do at once, on every engine."""

import uuid
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from sqlalchemy import ForeignKey, String, create_engine, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, synonym
from sqlmodel import Field as SQLModelField
from sqlmodel import SQLModel

from fastapi_users import IntegerIDMixin, schemas
from fastapi_users.db.sqlalchemy import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTable,
    SQLAlchemyBaseOAuthAccountTable,
    SQLAlchemyBaseUserTable,
    SQLAlchemyStore,
    SQLAlchemyUserDatabase,
    find_duplicate_emails,
    find_duplicate_oauth_accounts,
)
from fastapi_users.testing import AccessTokenDatabaseSuite, StoreSuite, TransactionSuite, frozen_clock
from tests.services import DRIVERS, database
from tests.world import (
    LEGACY,
    PASSWORD,
    RECOMMENDED,
    AccessToken,
    Base,
    Note,
    OAuthAccount,
    RecommendedOAuthAccount,
    User,
    UserManager,
    World,
)


@pytest.fixture(params=list(DRIVERS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """The application on each engine, with the tables that existing applications have."""
    engine = request.param
    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine) as world:
        yield world


@pytest.fixture
async def session(world: World) -> AsyncIterator[Any]:
    if world.plain_engine is None:
        async with world.session_maker() as session:
            yield session
    else:
        with Session(world.plain_engine, expire_on_commit=False) as plain_session:
            yield plain_session


@pytest.fixture
def user_db(session: Any) -> Any:
    return SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)


class TestUsers(TransactionSuite):
    duplicate_error = IntegrityError


class TestStore(StoreSuite):
    duplicate_error = IntegrityError

    @pytest.fixture
    def store(self, user_db: Any) -> Any:
        store = user_db.store(Note)
        assert isinstance(store, SQLAlchemyStore)
        return store


class TestAccessTokens(AccessTokenDatabaseSuite):
    duplicate_error = IntegrityError

    @pytest.fixture
    def access_tokens(self, session: Any) -> Any:
        return SQLAlchemyAccessTokenDatabase(session, AccessToken)

    @pytest.fixture
    async def user_id(self, user_db: Any) -> uuid.UUID:
        user = await user_db.create({"email": "ann@example.org", "hashed_password": "h"})
        assert isinstance(user.id, uuid.UUID)
        return user.id


async def test_of_many_who_take_the_same_row_one_gets_it(world: World) -> None:
    taken: list[int] = []
    async with world.session_maker() as session:
        await SQLAlchemyStore(session, Note).create({"name": "ticket", "number": 0})

    async def take() -> None:
        async with world.session_maker() as session:
            taken.append(
                await SQLAlchemyStore(session, Note).update_where({"name": "ticket", "number": 0}, {"number": 1})
            )

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(take)

    assert sorted(taken) == [0] * 9 + [1]


async def register_many(world: World, spellings: list[str], count: int) -> list[int]:
    status_codes: list[int] = []

    async def register(email: str) -> None:
        answer = await world.client.post("/auth/register", json={"email": email, "password": PASSWORD})
        if answer.status_code == 400:
            assert answer.json() == {"detail": "REGISTER_USER_ALREADY_EXISTS"}
        status_codes.append(answer.status_code)

    async with anyio.create_task_group() as tasks:
        for index in range(count):
            tasks.start_soon(register, spellings[index % len(spellings)])
    return sorted(status_codes)


CASES = ["case@example.org", "CASE@example.org", "Case@example.org"]
UMLAUTS = ["j\u00fcrgen@example.org", "J\u00dcRGEN@example.org", "J\u00fcrgen@example.org"]


@pytest.mark.parametrize("tables", [LEGACY, RECOMMENDED], ids=["legacy tables", "recommended tables"])
@pytest.mark.parametrize("spellings", [CASES, UMLAUTS], ids=["letter case", "beyond ASCII"])
@pytest.mark.parametrize("engine", list(DRIVERS))
async def test_of_fifty_registrations_of_one_address_one_succeeds(
    engine: str, spellings: list[str], tables: dict[str, Any], tmp_path: Path
) -> None:
    """D1, D2, CONTRACT 16 row 16: the others got a 500, and with another spelling a user each."""
    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine, **tables) as world:
        assert await register_many(world, spellings, 50) == [201] + [400] * 49

        async with world.session_maker() as session:
            assert len((await session.execute(select(tables["user_table"].email))).all()) == 1
            assert await find_duplicate_emails(session, tables["user_table"]) == []
        assert len(world.hooks) == 1


async def test_an_address_that_only_the_database_takes_for_another_is_no_500(world: World) -> None:
    """MariaDB's collations ignore accents; the others keep the two apart."""
    assert await register_many(world, ["jurgen@example.org"], 1) == [201]

    expected = [400] if world.engine.dialect.name == "mysql" else [201]
    assert await register_many(world, ["j\u00fcrgen@example.org"], 1) == expected


async def test_a_collation_that_tells_letter_case_apart_changes_nothing(tmp_path: Path) -> None:
    async with database("mariadb, aiomysql", tmp_path) as url, World.on(url) as world:
        async with world.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE user MODIFY email VARCHAR(320) COLLATE utf8mb4_bin NOT NULL"))

        assert await register_many(world, ["ann@example.org"], 1) == [201]
        assert await register_many(world, ["Ann@example.org"], 1) == [400]
        assert await world.log_in("ANN@example.org")
        assert await register_many(world, ["\u00e1nn@example.org"], 1) == [201]


async def test_of_many_changes_to_one_address_one_succeeds(world: World) -> None:
    """D1"""
    headers = []
    for index in range(6):
        await world.insert_user(f"user{index}@example.org")
        headers.append(await world.log_in(f"user{index}@example.org"))
    status_codes: list[int] = []

    async def change(index: int) -> None:
        email = CASES[index % len(CASES)]
        answer = await world.client.patch("/users/me", json={"email": email}, headers=headers[index])
        status_codes.append(answer.status_code)

    async with anyio.create_task_group() as tasks:
        for index in range(6):
            tasks.start_soon(change, index)

    assert sorted(status_codes) == [200] + [400] * 5


class OwnUpdate(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """As applications extend it."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        return await super().update(user, {**update_dict, "nickname": "updated"})


async def use_one_reset_token_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await world.insert_user()
    await world.client.post("/auth/forgot-password", json={"email": user.email})
    token, arrived, all_arrived = world.outbox.token(to=user.email), list[str](), anyio.Event()

    async def wait_for_the_others(self: Any, password: str, user: Any) -> None:
        arrived.append(password)
        if len(arrived) == 6:
            all_arrived.set()
        await all_arrived.wait()

    monkeypatch.setattr(UserManager, "validate_password", wait_for_the_others)
    answers: dict[str, tuple[int, Any]] = {}

    async def reset(password: str) -> None:
        answer = await world.client.post("/auth/reset-password", json={"token": token, "password": password})
        answers[password] = (answer.status_code, answer.json())

    async with anyio.create_task_group() as tasks:
        for index in range(6):
            tasks.start_soon(reset, f"password {index}")

    lost = (400, {"detail": "RESET_PASSWORD_BAD_TOKEN"})
    assert sorted(answers.values()) == [(200, None)] + [lost] * 5
    (winner,) = [password for password, answer in answers.items() if answer != lost]
    assert world.hooks == [("reset", user.email)]
    assert await world.log_in(password=winner)


@pytest.mark.parametrize("adapter", [SQLAlchemyUserDatabase, OwnUpdate], ids=["our update", "one of the application"])
async def test_of_six_uses_of_a_reset_token_one_counts(
    world: World, adapter: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requirement 24."""
    monkeypatch.setattr("tests.world.SQLAlchemyUserDatabase", adapter)

    await use_one_reset_token_at_once(world, monkeypatch)

    async with world.session_maker() as session:
        (user,) = (await session.execute(select(User))).unique().scalars()
        assert user.nickname == ("updated" if adapter is OwnUpdate else None)


@pytest.mark.parametrize("adapter", [SQLAlchemyUserDatabase, OwnUpdate], ids=["our update", "one of the application"])
@pytest.mark.parametrize("engine", ["postgresql, asyncpg", "postgresql, psycopg"])
async def test_it_does_so_too_where_the_database_has_an_error_for_the_others(
    engine: str, adapter: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.world.SQLAlchemyUserDatabase", adapter)
    async with database(engine, tmp_path) as url, World.on(url) as world:
        world.session_maker = async_sessionmaker(
            world.engine.execution_options(isolation_level="REPEATABLE READ"), expire_on_commit=False
        )
        await use_one_reset_token_at_once(world, monkeypatch)


async def test_of_many_first_logins_with_one_account_all_succeed_and_make_one_user(world: World) -> None:
    """D12"""
    status_codes: list[int] = []

    async def log_in() -> None:
        async with world.new_client() as client:
            answer = await client.get("/oauth/authorize")
            state = answer.json()["authorization_url"].partition("state=")[2].partition("&")[0]
            status_codes.append((await client.get(f"/oauth/callback?code=CODE&state={state}")).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(log_in)

    assert status_codes == [204] * 4
    async with world.session_maker() as session:
        assert len((await session.execute(select(User))).unique().all()) == 1
        assert len((await session.execute(select(OAuthAccount))).all()) == 1


async def test_outside_of_a_transaction_an_account_is_kept_for_nobody(world: World) -> None:
    async with world.session_maker() as session:
        assert await world.make_manager(session).user_db.reserve_oauth_account("provider", "account-1")


DEADLOCKS = {
    "postgresql, asyncpg": "DO $$ BEGIN RAISE EXCEPTION 'a deadlock' USING ERRCODE = '40P01'; END $$",
    "postgresql, psycopg": "DO $$ BEGIN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001'; END $$",
    "mariadb, aiomysql": "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",
}


@pytest.mark.parametrize("engine", list(DEADLOCKS))
@pytest.mark.parametrize("times", [2, 3])
async def test_a_user_whom_the_database_gave_up_for_another_one_is_written_again(
    engine: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB chooses one of many first logins at once to end a deadlock, and says nothing of who else was faster."""
    tries: list[str] = []

    class Unlucky(SQLAlchemyUserDatabase[User, uuid.UUID]):
        async def create(self, create_dict: dict[str, Any]) -> User:
            user = await super().create(create_dict)
            tries.append(user.email)
            if len(tries) <= times:
                await self.session.execute(text(DEADLOCKS[engine]))
            return user

    monkeypatch.setattr("tests.world.SQLAlchemyUserDatabase", Unlucky)
    async with database(engine, tmp_path) as url, World.on(url) as world:
        register = world.client.post("/auth/register", json={"email": "ann@example.org", "password": PASSWORD})
        with pytest.raises(DBAPIError) if times == 3 else nullcontext():
            answer = await register
            assert answer.status_code == 201, answer.text

        async with world.session_maker() as session:
            users = (await session.execute(select(User))).unique().all()
    assert (len(tries), len(users)) == (3, 3 - times)


class OfPsycopg2(Exception):
    """Which is not installed: it is for the plain session only."""

    pgcode = "40P01"


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [
        (DBAPIError("", {}, OfPsycopg2()), True),
        (DBAPIError("", {}, Exception(1020, "Record has changed since last read")), True),
        (DBAPIError("", {}, Exception(["of no known kind"])), False),
        (DBAPIError("", {}, Exception()), False),
        (OSError(1213), False),
    ],
    ids=["psycopg2", "MariaDB's snapshot", "a list", "nothing", "another error"],
)
async def test_what_a_driver_says_of_a_conflict_is_understood(
    world: World, error: Exception, is_worth_it: bool
) -> None:
    async with world.session_maker() as session:
        assert world.make_manager(session).user_db.is_worth_another_try(error) == is_worth_it


async def test_a_duplicate_in_another_column_of_the_application_is_not_called_a_taken_address(world: World) -> None:
    """CONTRACT 16 row 25: the error of the database stays what it is."""
    async with world.engine.begin() as connection:
        await connection.execute(text("CREATE UNIQUE INDEX one_nickname ON " + quoted(world, "user") + " (nickname)"))
    await world.insert_user("bob@example.org", nickname="Ann")

    with pytest.raises(IntegrityError):
        await world.client.post(
            "/auth/register", json={"email": "ann@example.org", "password": PASSWORD, "nickname": "Ann"}
        )


async def test_a_user_with_accounts_is_deleted_as_upstreams_documentation_declares_them(world: World) -> None:
    """CONTRACT 16 row 14"""
    user = await world.insert_user("ann@example.org")
    async with world.session_maker() as session:
        users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        found = await users.get(user.id)
        await users.add_oauth_account(found, dict(TransactionSuite.account))
    await world.insert_user("root@example.org", is_superuser=True)

    answer = await world.client.delete(f"/users/{user.id}", headers=await world.log_in("root@example.org"))

    assert answer.status_code == 204
    async with world.session_maker() as session:
        assert (await session.execute(select(OAuthAccount))).all() == []


@pytest.mark.parametrize("engine", list(DRIVERS))
async def test_long_tokens_and_far_times_fit_in_the_recommended_tables(engine: str, tmp_path: Path) -> None:
    """E16"""
    in_2038 = 2**31 + 1
    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine, **RECOMMENDED) as world:
        world.provider.token = {"access_token": "a" * 5000, "refresh_token": "r" * 5000, "expires_at": in_2038}

        with frozen_clock(datetime(2035, 1, 1, tzinfo=timezone.utc)):
            answer = await world.client.get("/oauth/authorize")
            state = answer.json()["authorization_url"].partition("state=")[2].partition("&")[0]
            assert (await world.client.get(f"/oauth/callback?code=CODE&state={state}")).status_code == 204

        async with world.session_maker() as session:
            (account,) = (await session.execute(select(RecommendedOAuthAccount))).scalars()
            assert (len(account.access_token), len(account.refresh_token or ""), account.expires_at) == (
                5000,
                5000,
                in_2038,
            )


def quoted(world: World, table: str) -> str:
    return world.engine.dialect.identifier_preparer.quote(table)


async def test_rows_that_differ_in_letter_case_only_do_not_break_login(tmp_path: Path) -> None:
    """D2, CONTRACT 16 row 15: of old rows the exact spelling counts, else always the same one; upstream answers 500."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        await world.insert_user("case@example.org", "lower case")
        await world.insert_user("CASE@example.org", "upper case")

        async def logs_in(email: str, password: str) -> bool:
            answer = await world.client.post("/auth/jwt/login", data={"username": email, "password": password})
            return answer.status_code == 200

        assert await logs_in("case@example.org", "lower case")
        assert await logs_in("CASE@example.org", "upper case")
        assert await logs_in("Case@example.org", "upper case")
        assert not await logs_in("Case@example.org", "lower case")
        async with world.session_maker() as session:
            assert await find_duplicate_emails(session, User) == [["CASE@example.org", "case@example.org"]]


async def test_accounts_that_were_linked_twice_are_found(world: World) -> None:
    """CONTRACT 16 row 8: as upstream let them be."""
    emails = ["ann@example.org", "bob@example.org"]
    ids = [(await world.insert_user(email)).id for email in emails]
    accounts = [
        *((user_id, "provider", "shared") for user_id in ids),
        *((ids[0], "provider", "repeated") for _ in range(2)),
        *((ids[0], "provider", account_id) for account_id in ("aB", "Ab", "own")),
        (ids[0], "other", "own"),
    ]
    async with world.session_maker() as session:
        assert await find_duplicate_oauth_accounts(session, OAuthAccount) == []
        session.add_all(
            OAuthAccount(
                user_id=user_id, oauth_name=name, account_id=account_id, access_token="T", account_email=emails[0]
            )
            for user_id, name, account_id in accounts
        )
        await session.commit()

        groups = await find_duplicate_oauth_accounts(session, OAuthAccount)
        assert sorted([row.account_id for row in group] for group in groups) == [["repeated"] * 2, ["shared"] * 2]
        (shared,) = (group for group in groups if group[0].account_id == "shared")
        assert {row.user_id for row in shared} == {*ids}
        owner = await SQLAlchemyUserDatabase(session, User, OAuthAccount).get_by_oauth_account("provider", "shared")
        assert owner is not None
        assert shared[0].user_id == owner.id


class ConnectionLost(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """Loses its connection between the two writes of a first OAuth login."""

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        process = (await self.session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        killer = create_engine(self.session.get_bind().engine.url.set(drivername="postgresql+psycopg"))
        with killer.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({process})"))
        killer.dispose()
        return await super().add_oauth_account(user, create_dict)


async def test_a_connection_that_is_cut_between_two_writes_leaves_no_half_made_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D12"""
    monkeypatch.setattr("tests.world.SQLAlchemyUserDatabase", ConnectionLost)
    async with database("postgresql, asyncpg", tmp_path) as url, World.on(url) as world:
        answer = await world.client.get("/oauth/authorize")
        state = answer.json()["authorization_url"].partition("state=")[2].partition("&")[0]

        with pytest.raises(DBAPIError):
            await world.client.get(f"/oauth/callback?code=CODE&state={state}")

        async with world.session_maker() as session:
            assert (await session.execute(select(User))).unique().all() == []


@pytest.mark.parametrize("engine", list(DRIVERS))
async def test_values_that_no_column_can_hold_are_not_there(engine: str, tmp_path: Path) -> None:
    """NUL in a form or a cookie, and ids beyond the column, are answered like any other value that is not there."""

    class Numbers(DeclarativeBase):
        pass

    class Numbered(SQLAlchemyBaseUserTable[int], Numbers):
        id: Mapped[int] = mapped_column(primary_key=True)

    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine) as world:
        answer = await world.client.post("/auth/jwt/login", data={"username": "a\0@example.org", "password": "x"})
        assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
        answer = await world.client.get("/users/me", headers={"Cookie": 'fastapiusersauth="\\000"'})
        assert answer.status_code == 401

        async with world.engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Numbers.metadata.create_all)
        async with world.session_maker() as session:
            users = SQLAlchemyUserDatabase[Any, int](session, Numbered)
            user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
            assert (await users.get(user.id)) is user
            assert [await users.get(id) for id in (-1, 2**31, 2**62)] == [None] * 3


async def test_sqlmodel_classes_are_user_tables(tmp_path: Path) -> None:
    class Person(SQLModel, table=True):
        id: uuid.UUID = SQLModelField(default_factory=uuid.uuid4, primary_key=True)
        email: str = SQLModelField(unique=True, index=True)
        hashed_password: str
        is_active: bool = True
        is_superuser: bool = False
        is_verified: bool = False

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(cast("Any", Person).__table__.create)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        users = SQLAlchemyUserDatabase[Person, uuid.UUID](session, Person)
        user = await users.create({"email": "Ann@example.org", "hashed_password": "h"})

        assert await users.get(user.id) is user
        assert await users.get_by_email("ann@example.org") is user
        assert (await users.update(user, {"is_verified": True})).is_verified
        assert await users.reserve_email("ANN@example.org", None) is False
        await users.delete(user)
        assert await users.get(user.id) is None
    await engine.dispose()


class Renamed(DeclarativeBase):
    """Columns that have names of their own in the database; the id has one in the class too."""


class RenamedAccount(SQLAlchemyBaseOAuthAccountTable[int], Renamed):
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column("number", String(320))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.user_id", ondelete="cascade"))


class RenamedUser(SQLAlchemyBaseUserTable[int], Renamed):
    user_id: Mapped[int] = mapped_column(primary_key=True)
    id = synonym("user_id")
    email: Mapped[str] = mapped_column("mail", String(320), unique=True)
    oauth_accounts: Mapped[list[RenamedAccount]] = relationship(lazy="joined")


class RenamedToken(SQLAlchemyBaseAccessTokenTable[int], Renamed):
    user_id: Mapped[int] = mapped_column(ForeignKey("user.user_id", ondelete="cascade"))


class Aliased(DeclarativeBase):
    """The other way round: what the library asks for is another name of what is there."""


class AliasedUser(SQLAlchemyBaseUserTable[int], Aliased):
    id: Mapped[int] = mapped_column(primary_key=True)
    mail: Mapped[str] = mapped_column(String(320), unique=True)
    email = synonym("mail")


class AliasedToken(SQLAlchemyBaseAccessTokenTable[int], Aliased):
    owner_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="cascade"))
    user_id = synonym("owner_id")


class IntegerManager(IntegerIDMixin, UserManager):  # type: ignore[misc]  # whose users have other ids
    pass


OWN_NAMES: dict[str, dict[str, Any]] = {
    "renamed": {
        "user_table": RenamedUser,
        "oauth_account_table": RenamedAccount,
        "access_token_table": RenamedToken,
    },
    "aliased": {"user_table": AliasedUser, "oauth_account_table": None, "access_token_table": AliasedToken},
}


@pytest.mark.parametrize("names", list(OWN_NAMES))
@pytest.mark.parametrize("engine", ["sqlite", "postgresql, asyncpg", "mariadb, aiomysql"])
async def test_columns_may_have_other_names_than_the_library_asks_for(engine: str, names: str, tmp_path: Path) -> None:
    user_schemas = (schemas.BaseUser[int], schemas.BaseUserCreate, schemas.BaseUserUpdate)
    tables = {**OWN_NAMES[names], "user_schemas": user_schemas, "manager_class": IntegerManager}
    async with database(engine, tmp_path) as url, World.on(url, **tables) as world:
        ann = {"email": "ann@example.org", "password": PASSWORD}
        registered = await world.client.post("/auth/register", json=ann)
        assert registered.status_code == 201
        again = await world.client.post("/auth/register", json={**ann, "email": "Ann@example.org"})
        assert again.json() == {"detail": "REGISTER_USER_ALREADY_EXISTS"}

        form = {"username": "ANN@example.org", "password": PASSWORD}
        assert (await world.client.post("/auth/cookie/login", data=form)).status_code == 204
        assert (await world.client.get("/users/me")).json()["email"] == "ann@example.org"
        assert (await world.client.patch("/users/me", json={"email": "new@example.org"})).status_code == 200
        assert (await world.client.post("/auth/cookie/logout")).status_code == 204
        for _ in range(2 if tables["oauth_account_table"] else 0):
            answer = await world.client.get("/oauth/authorize")
            state = parse_qs(urlsplit(answer.json()["authorization_url"]).query)["state"][0]
            back = await world.client.get("/oauth/callback", params={"code": "CODE", "state": state})
            assert back.status_code == 204
            assert (await world.client.get("/users/me")).json()["email"] == "ann@example.org"

        await world.insert_user("root@example.org", is_superuser=True)
        headers, of_ann = await world.log_in("root@example.org"), f"/users/{registered.json()['id']}"
        assert (await world.client.get(of_ann, headers=headers)).json()["email"] == "new@example.org"
        assert (await world.client.delete(of_ann, headers=headers)).status_code == 204
        assert (await world.client.get(of_ann, headers=headers)).status_code == 404
