"""The lines for Alembic in docs/migration-from-15.md make of tables that version 15 made those that are declared today."""

import uuid
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, delete, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users.db import SQLAlchemyBaseOAuthAccountTableUUID, SQLAlchemyBaseUserTableUUID
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyBaseAccessTokenTableUUID
from tests.services import database
from tests.test_docs import DOCS, run

T = TypeVar("T")

PAGE = vars(run(DOCS / "migration-from-15.md"))
NEW_INDEXES = {"ix_user_email_lower", "ix_oauth_account_user_id", "ix_accesstoken_user_id"}


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    pass


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


# The page declares the two tables that change.
RECOMMENDED: MetaData = PAGE["Base"].metadata
Base.metadata.tables["accesstoken"].to_metadata(RECOMMENDED)


def make_tables_of_version_15(connection: Connection) -> None:
    metadata = MetaData()
    for table in Base.metadata.sorted_tables:
        copy = table.to_metadata(metadata)
        copy.indexes = {index for index in copy.indexes if index.name not in NEW_INDEXES}
    metadata.create_all(connection)


@pytest.fixture(params=["sqlite", "postgresql, asyncpg", "mariadb, aiomysql"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with database(request.param, tmp_path) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(make_tables_of_version_15)
        yield engine
        await engine.dispose()


async def run_sync(engine: AsyncEngine, function: Callable[[Connection], T]) -> T:
    with warnings.catch_warnings():  # SQLAlchemy and Alembic each say of SQLite that they cannot read this index
        warnings.filterwarnings("ignore", message=".*expression-based index '?ix_user_email_lower")
        async with engine.begin() as connection:
            return await connection.run_sync(function)


async def upgrade(engine: AsyncEngine, *steps: Callable[[], None]) -> None:
    def take_steps(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            for step in steps:
                step()

    await run_sync(engine, take_steps)


async def left_to_do(engine: AsyncEngine, metadata: MetaData) -> list[Any]:
    """What autogenerate would write into a migration."""
    options = {"include_object": PAGE["include_object"]} if engine.dialect.name == "mysql" else {}
    return await run_sync(
        engine, lambda connection: compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    )


async def test_the_indexes_leave_autogenerate_nothing_to_do(engine: AsyncEngine) -> None:
    found = {(kind, index.name) for kind, index in await left_to_do(engine, Base.metadata)}
    on_lower_email = {"ix_user_email_lower"} if engine.dialect.name == "postgresql" else set()
    assert found == {
        ("add_index", name) for name in {"ix_oauth_account_user_id", "ix_accesstoken_user_id"} | on_lower_email
    }

    await upgrade(engine, PAGE["add_indexes"])

    assert await left_to_do(engine, Base.metadata) == []


async def test_unique_indexes_and_wide_columns_leave_autogenerate_nothing_to_do(engine: AsyncEngine) -> None:
    await upgrade(engine, PAGE["add_indexes"], PAGE["make_unique"], PAGE["widen"])

    assert await left_to_do(engine, RECOMMENDED) == []


async def test_duplicates_are_found_before_and_refused_afterwards(
    engine: AsyncEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = uuid.UUID(int=1), uuid.UUID(int=2)
    is_mariadb = engine.dialect.name == "mysql"
    shared = {"oauth_name": "github", "access_token": "T", "account_email": "ann@example.org"}
    users: list[dict[str, Any]] = [
        {"id": ann, "email": "ann@example.org"},
        {"id": bob, "email": "bob@example.org" if is_mariadb else "Ann@example.org"},
    ]
    async with AsyncSession(engine) as session:
        await session.execute(insert(User), [{**user, "hashed_password": "!"} for user in users])
        await session.execute(
            insert(OAuthAccount), [{**shared, "user_id": user_id, "account_id": "aB"} for user_id in (bob, ann)]
        )
        await session.execute(insert(OAuthAccount), {**shared, "user_id": ann, "account_id": "Ab"})
        await session.commit()

        await PAGE["print_duplicates"](session)
        on_emails = "" if is_mariadb else "users Ann@example.org ann@example.org\n"
        assert capsys.readouterr().out == f"{on_emails}github aB of users {ann} {bob}\n"

        await session.execute(delete(User).where(User.__table__.c.id == bob))
        await session.execute(delete(OAuthAccount).where(OAuthAccount.__table__.c.user_id == bob))
        await session.commit()
    await upgrade(engine, PAGE["add_indexes"], PAGE["make_unique"])

    async with AsyncSession(engine) as session:
        with pytest.raises(IntegrityError):
            await session.execute(insert(OAuthAccount), {**shared, "user_id": ann, "account_id": "aB"})
        await session.rollback()
        with pytest.raises(IntegrityError):
            await session.execute(insert(User), {"email": "ANN@example.org", "hashed_password": "!"})
