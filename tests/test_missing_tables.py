"""A table that is not in the database is found before the first request: at the start, and by the doctor."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.operations import Operations
from beanie import Document, init_beanie
from fastapi import FastAPI
from sqlalchemy import Connection, ForeignKey, MetaData, String, text
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from typer.testing import CliRunner

from fastapi_users import BaseUserManager
from fastapi_users.application import ApplicationError
from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import DatabaseStrategy, InMemoryDenylist, StoreDenylist
from fastapi_users.cli import cli
from fastapi_users.db import BaseUserDatabase, BeanieBaseUser, BeanieUserDatabase, SQLAlchemyUserDatabase
from fastapi_users.db.beanie import BeanieAccessTokenDatabase, BeanieBaseAccessToken
from fastapi_users.db.sqlalchemy import (
    SQLAlchemyBaseDeniedTokenTable,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseOneTimeSecretTable,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUniqueEmailMixin,
    SQLAlchemyUniqueOAuthAccountMixin,
)
from fastapi_users.db.store import find_missing
from fastapi_users.doctor import find_missing_tables, find_unguarded_columns, require_tables
from fastapi_users.testing import InMemoryUserDatabase
from tests.mongo_server import mongo_server
from tests.programs import in_folder
from tests.services import connect_mongo, database
from tests.world import SECRET, AccessToken, OneTimeSecret, User, UserManager, World

ENGINES = ["sqlite", "sqlite, plain session", "postgresql, asyncpg", "mariadb, aiomysql"]
MIGRATE = 'alembic revision --autogenerate -m "{}" && alembic upgrade head'


class Manager(UserManager):
    one_time_secret_model = OneTimeSecret


class OtherBase(DeclarativeBase): ...


class DeniedToken(SQLAlchemyBaseDeniedTokenTable, OtherBase): ...


class NoTable(SQLAlchemyBaseOneTimeSecretTable):
    """Somebody forgot the declarative base."""


class MongoUser(BeanieBaseUser, Document): ...


class MongoToken(BeanieBaseAccessToken, Document): ...


class NoDocument(BeanieBaseUser):
    """Somebody forgot the document."""


@pytest.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with (
        database(request.param, tmp_path) as url,
        World.on(url, plain="plain" in request.param, manager_class=Manager) as world,
    ):
        yield world


def starts(world: World) -> Any:
    """As a server starts it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await require_tables(world.fastapi_users, app)
        yield

    app = FastAPI(lifespan=lifespan)
    return app.router.lifespan_context(app)


async def execute(world: World, *statements: str) -> None:
    async with world.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_an_application_whose_tables_are_there_starts(world: World) -> None:
    async with starts(world):
        await world.insert_user()
        assert await world.log_in()


async def test_a_table_that_is_missing_keeps_it_from_starting_and_is_named(world: World) -> None:
    await execute(world, "DROP TABLE accesstoken", "DROP TABLE one_time_secret")

    with pytest.raises(ApplicationError) as refused:
        await starts(world).__aenter__()

    assert str(refused.value) == (
        "The database has no table 'one_time_secret'. The database has no table 'accesstoken'. "
        f"Write: {MIGRATE.format('one_time_secret')}  # or, for a first look, Base.metadata.create_all"
    )


async def test_a_column_that_is_missing_is_named(world: World) -> None:
    quote = "`" if world.engine.dialect.name == "mysql" else '"'
    await execute(world, f"ALTER TABLE {quote}user{quote} DROP COLUMN nickname")

    with pytest.raises(ApplicationError) as refused:
        await starts(world).__aenter__()

    assert str(refused.value) == f"The table 'user' has no 'nickname'. Write: {MIGRATE.format('user')}"


async def test_tables_are_looked_for_in_the_schema_of_the_tenant(tmp_path: Path) -> None:
    async with database("postgresql, asyncpg", tmp_path) as url:
        engine = create_async_engine(url, execution_options={"schema_translate_map": {None: "tenant"}})
        async with engine.begin() as connection:
            await connection.execute(text("CREATE SCHEMA tenant"))
        async with AsyncSession(engine) as session:
            users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
            assert [missing.model for missing in await users.find_missing()] == [User]
        async with engine.begin() as connection:
            await connection.run_sync(User.metadata.create_all)
        async with AsyncSession(engine) as session:
            assert await find_missing(SQLAlchemyUserDatabase[User, uuid.UUID](session, User)) == []
        await engine.dispose()


@asynccontextmanager
async def session_of(folder: Path) -> AsyncIterator[AsyncSession]:
    """With the tables of the World."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'test.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(User.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session
    await engine.dispose()


def manager_on(user_db: Any, **settings: Any) -> BaseUserManager[Any, Any]:
    kind: Any = type("Manager", (BaseUserManager,), settings)
    manager: BaseUserManager[Any, Any] = kind(user_db)
    return manager


async def test_the_list_of_ended_tokens_is_looked_for(tmp_path: Path) -> None:
    async with session_of(tmp_path) as session:
        users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
        strategies = [
            JWTStrategy[User, uuid.UUID](SECRET, 3600, revoke=revoke)
            for revoke in (StoreDenylist(users.store(DeniedToken)), InMemoryDenylist())
        ]
        [found] = await find_missing_tables(manager_on(users), strategies * 2)

    assert found.problem == "The database has no table 'denied_token'."
    assert found.place.startswith("DeniedToken (")


async def test_a_mixin_that_is_no_table_is_found(tmp_path: Path) -> None:
    async with session_of(tmp_path) as session:
        users = SQLAlchemyUserDatabase[Any, Any](session, User)
        [secrets] = await find_missing_tables(manager_on(users, one_time_secret_model=NoTable), [])
        users = SQLAlchemyUserDatabase[Any, Any](session, NoTable)
        [of_users] = await find_missing_tables(manager_on(users), [])

    assert secrets.problem == of_users.problem == "NoTable is no table of SQLAlchemy."
    assert secrets.line.startswith("class NoTable(SQLAlchemyBase…Table, Base), with the declarative base")
    assert (secrets.place.split()[0], of_users.place.split()[0]) == ("Manager", "SQLAlchemyUserDatabase")


async def test_an_adapter_without_a_store_is_found_where_one_is_needed() -> None:
    users = BaseUserDatabase[Any, Any]()
    [found] = await find_missing_tables(manager_on(users, one_time_secret_model=OneTimeSecret), [])

    assert found.problem == "one_time_secret_model needs rows of its own, and BaseUserDatabase has no store(model)."
    assert found.line == "def store(self, model): …  # in BaseUserDatabase"
    assert await find_missing_tables(manager_on(users), []) == []


async def test_what_is_no_table_of_ours_is_left_alone() -> None:
    """The model of version 9, which is one of Pydantic, and a store that takes the place of a model."""
    users = InMemoryUserDatabase[Any, Any](User)
    manager = manager_on(users, sessions_model=object())
    manager.user_db_model = User  # type: ignore[attr-defined]  # of version 9
    manager.profile_model = User  # type: ignore[attr-defined]  # of the application

    assert await find_missing_tables(manager, [DatabaseStrategy[Any, Any, Any](AccessToken, 60)]) == []  # type: ignore[arg-type]  # an adapter that cannot tell


async def test_documents_that_beanie_was_not_told_of_are_found() -> None:
    manager = manager_on(BeanieUserDatabase[Any](MongoUser), one_time_secret_model=NoDocument)
    strategy = DatabaseStrategy[Any, Any, Any](BeanieAccessTokenDatabase[Any](MongoToken), 60)

    before = await find_missing_tables(manager, [strategy])
    async with mongo_server() as url:
        client = await connect_mongo(url)
        await init_beanie(client["missing_tables"], document_models=[MongoUser, MongoToken])
        after = await find_missing_tables(manager, [strategy])
        await client.close()

    assert [(finding.problem, finding.line) for finding in before if finding not in after] == [
        ("Beanie was not told of MongoUser.", "await init_beanie(…, document_models=[…, MongoUser])"),
        ("Beanie was not told of MongoToken.", "await init_beanie(…, document_models=[…, MongoToken])"),
    ]
    assert [finding.problem for finding in after] == ["NoDocument is no document of Beanie."]
    assert after[0].line.startswith("class NoDocument(BeanieBase…, Document), with")


PROGRAM = """
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
import uuid

engine = create_async_engine("sqlite+aiosqlite:///./test.db")
class Base(DeclarativeBase): ...
class User(SQLAlchemyBaseUserTableUUID, Base): ...
class UserManager(UUIDIDMixin, BaseUserManager):
    reset_password_token_secret = verification_token_secret = "0123456789" * 4
async def get_user_manager():
    async with AsyncSession(engine) as session:
        yield UserManager(SQLAlchemyUserDatabase(session, User))
    await engine.dispose()
users = FastAPIUsers(get_user_manager, [])
"""


def test_the_doctor_tells_of_it_unless_it_shall_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tableless.py").write_text(PROGRAM, "utf-8")
    monkeypatch.chdir(tmp_path)
    with in_folder(tmp_path, "tableless"):
        asked = CliRunner().invoke(cli, ["--app", "tableless:users", "doctor"])
        unasked = CliRunner().invoke(cli, ["--app", "tableless:users", "doctor", "--no-database"])

    assert (asked.exit_code, unasked.exit_code) == (1, 1)
    assert asked.output.startswith(
        "User (tableless.py:11)\n  The database has no table 'user'.\n"
        f"  Write: {MIGRATE.format('user')}  # or, for a first look, Base.metadata.create_all\n"
    )
    assert unasked.output.startswith("UserManager (tableless.py:12)\n  Every password is accepted.\n")


class GuardedBase(DeclarativeBase): ...


class GuardedAccount(SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, GuardedBase): ...


class GuardedUser(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, GuardedBase):
    oauth_accounts: Mapped[list[GuardedAccount]] = relationship(lazy="joined")


class FreeBase(DeclarativeBase): ...


class FreeAccount(SQLAlchemyBaseOAuthAccountTableUUID, FreeBase): ...


class FreeUser(SQLAlchemyBaseUserTableUUID, FreeBase):
    oauth_accounts: Mapped[list[FreeAccount]] = relationship(lazy="joined")


class CaselessBase(DeclarativeBase): ...


class CaselessUser(SQLAlchemyBaseUserTableUUID, CaselessBase):
    email: Mapped[str] = mapped_column(
        String(320).with_variant(String(320, "NOCASE"), "sqlite").with_variant(CITEXT(), "postgresql"),
        unique=True,
        index=True,
    )


class FarBase(DeclarativeBase):
    metadata = MetaData(schema="club")


class FarAccount(SQLAlchemyBaseOAuthAccountTableUUID, FarBase):
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("club.user.id"))


class FarUser(SQLAlchemyBaseUserTableUUID, FarBase):
    oauth_accounts: Mapped[list[FarAccount]] = relationship(lazy="joined")


SAME_ADDRESS = "The database takes the same email for two users."
OTHER_LETTER_CASE = "The database takes the same email in another letter case for two users."
SAME_ACCOUNT = "The database takes the same account at a provider for two users."
LOWER_INDEX = (
    'op.drop_index("ix_user_email_lower", "user", if_exists=True); '
    'op.create_index("ix_user_email_lower", "user", [sa.text("lower(email)")], unique=True)'
)
EMAIL_INDEX = (
    'op.drop_index("ix_user_email", "user", if_exists=True); '
    'op.create_index("ix_user_email", "user", ["email"], unique=True)'
)
ACCOUNT_CONSTRAINT = (
    "op.create_unique_constraint(\"uq_oauth_account_account\", \"oauth_account\", ['account_id', 'oauth_name'])"
)


@pytest.fixture(params=[engine for engine in ENGINES if "plain" not in engine])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with database(request.param, tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


async def unguarded(engine: AsyncEngine, user_model: Any, account_model: Any, *statements: str) -> dict[str, str]:
    """In a database made from one pair of models, and looked at with the same or another."""
    async with engine.begin() as connection:
        await connection.run_sync(GuardedBase.metadata.drop_all)
        await connection.run_sync((GuardedBase if statements else user_model).metadata.create_all)
        for statement in statements:
            await connection.execute(text(statement))
    async with AsyncSession(engine) as session:
        manager = manager_on(SQLAlchemyUserDatabase[Any, Any](session, user_model, account_model))
        return {finding.problem: finding.line for finding in await find_unguarded_columns(manager)}


async def test_what_the_database_itself_keeps_unique_needs_nothing(engine: AsyncEngine) -> None:
    assert await unguarded(engine, GuardedUser, GuardedAccount) == {}


async def test_without_the_mixins_they_are_recommended(engine: AsyncEngine) -> None:
    found = await unguarded(engine, FreeUser, FreeAccount)

    # MariaDB compares without regard to letter case in the index of the column itself.
    assert found.pop(OTHER_LETTER_CASE, None) == (
        None
        if engine.dialect.name == "mysql"
        else f"class FreeUser(SQLAlchemyUniqueEmailMixin, …), and in a migration {LOWER_INDEX}"
    )
    assert found == {
        SAME_ACCOUNT: f"class FreeAccount(SQLAlchemyUniqueOAuthAccountMixin, …), and in a migration {ACCOUNT_CONSTRAINT}"
    }


async def test_indexes_that_were_left_behind_are_named(engine: AsyncEngine) -> None:
    quote = "`" if engine.dialect.name == "mysql" else '"'
    on = f" ON {quote}user{quote}"
    of_table = on if engine.dialect.name == "mysql" else ""
    # Not of all rows, where the database knows of such.
    partial = (
        "" if engine.dialect.name == "mysql" else f"CREATE UNIQUE INDEX active{on} (lower(email)) WHERE (is_active)"
    )
    found = await unguarded(
        engine,
        GuardedUser,
        None,
        f"DROP INDEX ix_user_email{of_table}",
        *([f"DROP INDEX ix_user_email_lower{of_table}", partial] if partial else []),
    )

    assert found.pop(OTHER_LETTER_CASE, None) == (LOWER_INDEX if partial else None)
    assert found == {SAME_ADDRESS: EMAIL_INDEX}


async def test_other_indexes_do_as_well(engine: AsyncEngine) -> None:
    if engine.dialect.name == "mysql":
        statements = ["DROP INDEX ix_user_email ON `user`", "ALTER TABLE `user` ADD UNIQUE (email)"]
    else:
        statements = ["DROP INDEX ix_user_email_lower", 'CREATE UNIQUE INDEX other ON "user" (lower("email"))']

    assert await unguarded(engine, GuardedUser, GuardedAccount, *statements) == {}


async def test_a_column_that_ignores_letter_case_needs_no_second_index(engine: AsyncEngine) -> None:
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.execute(text("CREATE EXTENSION citext"))

    assert await unguarded(engine, CaselessUser, None) == {}


async def test_an_index_on_more_columns_guards_no_address(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    statements = ["DROP INDEX ix_user_email_lower"]
    statements += ['CREATE UNIQUE INDEX one ON "user" (email COLLATE NOCASE, id COLLATE NOCASE)']

    assert await unguarded(engine, GuardedUser, None, *statements) == {OTHER_LETTER_CASE: LOWER_INDEX}
    await engine.dispose()


async def test_the_lines_are_about_the_table_of_its_schema(tmp_path: Path) -> None:
    async with database("postgresql, asyncpg", tmp_path) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE SCHEMA club"))
        found = await unguarded(engine, FarUser, FarAccount)
        assert found.keys() == {OTHER_LETTER_CASE, SAME_ACCOUNT}
        async with engine.begin() as connection:
            await connection.execute(text("DROP INDEX club.ix_club_user_email"))
            # An index that is not unique, which the line takes away.
            await connection.execute(text('CREATE INDEX ix_club_user_email ON club."user" (email)'))
        found = await unguarded(engine, FarUser, FarAccount)
        assert found.keys() == {SAME_ADDRESS, OTHER_LETTER_CASE, SAME_ACCOUNT}

        async with engine.begin() as connection:
            await connection.run_sync(migrate, [line.split("in a migration ")[-1] for line in found.values()])
        assert await unguarded(engine, FarUser, FarAccount) == {}
        await engine.dispose()


def migrate(connection: Connection, lines: list[str]) -> None:
    operations = Operations(MigrationContext.configure(connection))
    for line in lines:
        exec(line, {"op": operations, "sa": sqlalchemy})  # noqa: S102 -- as the doctor says


async def test_of_a_view_nothing_is_known(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    statements = ['ALTER TABLE "user" RENAME TO people', 'CREATE VIEW "user" AS SELECT * FROM people']
    statements += ["ALTER TABLE oauth_account RENAME TO links", "CREATE VIEW oauth_account AS SELECT * FROM links"]

    assert await unguarded(engine, GuardedUser, GuardedAccount, *statements) == {}
    await engine.dispose()


async def test_the_doctor_asks_for_indexes_once_the_tables_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tableless.py").write_text(PROGRAM, "utf-8")
    monkeypatch.chdir(tmp_path)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(FreeBase.metadata.create_all)
    await engine.dispose()
    with in_folder(tmp_path, "tableless"):
        result = await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, ["--app", "tableless:users", "doctor"]))

    assert result.output.startswith(
        f"User (tableless.py:11)\n  {OTHER_LETTER_CASE}\n  Write: class User(SQLAlchemyUniqueE"
    )
