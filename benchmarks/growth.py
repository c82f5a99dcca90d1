"""How the time of an adapter's call grows with the table, from a thousand to a million rows.

Users, with an access token and an OAuth account each, in the tables that every application of ours has.
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from statistics import median
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from benchmarks import databases
from benchmarks.harness import OURS, Bench, Figure
from fastapi_users import BaseUserManager, UUIDIDMixin, schemas
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.testing import weak_password_helper
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID

SMALL, LARGE = 1_000, 1_000_000
ROUNDS, CALLS = 3, 20


class Base(DeclarativeBase):
    pass


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="joined")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


Users = SQLAlchemyUserDatabase[User, uuid.UUID]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    pass


def key_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


async def fill(engine: AsyncEngine, rows: int) -> None:
    if engine.dialect.name == "sqlite":
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
        source = "n"
        key = "substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(h, 13, 4) || '-' || substr(h, 17, 4) || '-' || substr(h, 21)"
        key = key.replace("h,", "printf('%032x', i),")
        now, true, false = "datetime('now')", "1", "0"
    else:
        numbers, source = "", f"generate_series(1, {rows}) AS n(i)"
        key, now, true, false = "lpad(to_hex(i), 32, '0')::uuid", "now()", "true", "false"
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        for statement in (
            (
                'INSERT INTO "user" (id, email, hashed_password, is_active, is_superuser, is_verified) '
                f"{numbers}SELECT {key}, 'User' || i || '@example.org', 'hash', {true}, {false}, {false} FROM {source}"
            ),
            f"INSERT INTO accesstoken (token, created_at, user_id) {numbers}SELECT 'token' || i, {now}, {key} FROM {source}",
            (
                "INSERT INTO oauth_account (id, oauth_name, access_token, account_id, account_email, user_id) "
                f"{numbers}SELECT {key}, 'provider', 'x', 'account' || i, 'x', {key} FROM {source}"
            ),
        ):
            await connection.execute(text(statement))
    await run_alone(engine, "ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE")


async def run_alone(engine: AsyncEngine, statement: str) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))


class Table(NamedTuple):
    engine: AsyncEngine
    rows: int


@asynccontextmanager
async def filled(database: str, rows: int) -> AsyncIterator[Table]:
    async with databases.DATABASES[database](f"with_{rows}") as url:
        engine = create_async_engine(url)
        try:
            await fill(engine, rows)
            yield Table(engine, rows)
        finally:
            await engine.dispose()


async def settle(table: Table) -> None:
    """What was filled in at once is on the disk before calls are timed, and not written beside them for minutes."""
    if table.engine.dialect.name == "postgresql":
        await run_alone(table.engine, "CHECKPOINT")


async def get_by_email_as_stored(session: AsyncSession, number: int) -> None:
    assert await Users(session, User).get_by_email(f"User{number}@example.org") is not None


async def get_by_email_in_another_case(session: AsyncSession, number: int) -> None:
    assert await Users(session, User).get_by_email(f"USER{number}@example.org") is not None


async def get_a_user_with_accounts(session: AsyncSession, number: int) -> None:
    assert await Users(session, User).get(key_of(number)) is not None


async def read_a_token(session: AsyncSession, number: int) -> None:
    strategy = DatabaseStrategy[User, uuid.UUID, AccessToken](
        SQLAlchemyAccessTokenDatabase(session, AccessToken), 86400
    )
    manager = UserManager(Users(session, User), weak_password_helper())
    assert await strategy.read_token(f"token{number}", manager) is not None


async def get_by_oauth_account(session: AsyncSession, number: int) -> None:
    users = Users(session, User, OAuthAccount)
    assert await users.get_by_oauth_account("provider", f"account{number}") is not None


async def register(session: AsyncSession, number: int) -> None:
    manager = UserManager(Users(session, User), weak_password_helper())
    await manager.create(schemas.BaseUserCreate(email=f"new{uuid.uuid4().hex}@example.org", password="x"))


async def delete_a_user(session: AsyncSession, number: int) -> None:
    users = Users(session, User, OAuthAccount)
    user = await users.get(key_of(number))
    assert user is not None
    await users.delete(user)


async def clean_up_tokens(session: AsyncSession, number: int) -> None:
    long_ago = datetime.now(timezone.utc) - timedelta(days=365)
    await SQLAlchemyAccessTokenDatabase(session, AccessToken).delete_created_before(long_ago)


Case = Callable[[AsyncSession, int], Awaitable[None]]

CASES: list[Case] = [
    get_by_email_as_stored,
    get_by_email_in_another_case,
    get_a_user_with_accounts,
    read_a_token,
    get_by_oauth_account,
    register,
    clean_up_tokens,
    delete_a_user,
]


async def growths(small: Table, large: Table, *, rounds: int, calls: int) -> dict[str, list[float]]:
    """By case, how many times longer a call takes on the large table, of each round.

    Calls take turns on the two tables, since the disk and the other work of a machine change within seconds.
    """
    measured: dict[str, list[float]] = {}
    for case in CASES:
        for table in (small, large):
            await seconds_of(case, table, 0)  # what the first one makes
        for number in range(rounds):
            taken: dict[Table, list[float]] = {small: [], large: []}
            for call in range(1 + number * calls, 1 + (number + 1) * calls):
                for table in (small, large) if call % 2 else (large, small):
                    taken[table].append(await seconds_of(case, table, call))
            measured.setdefault(case.__name__, []).append(median(taken[large]) / median(taken[small]))
    return measured


async def seconds_of(case: Case, table: Table, call: int) -> float:
    async with AsyncSession(table.engine, expire_on_commit=False) as session:
        start = time.perf_counter()
        await case(session, 1 + (call + 1) * 7919 % table.rows)
        return time.perf_counter() - start


async def measure(bench: Bench) -> list[Figure]:
    """Of ours only: version 15 scans its tables, which takes hours for what takes minutes here."""
    small, large, rounds, calls = bench.scaled((SMALL, LARGE, ROUNDS, CALLS), (10, 20, 1, 2))
    figures = []
    for database in await databases.available():
        async with filled(database, small) as few, filled(database, large) as many:
            await settle(many)
            measured = await growths(few, many, rounds=rounds, calls=calls)
        for case, ratios in measured.items():
            name = f"{case.replace('_', ' ')}, {database}: {large:,} ÷ {small:,} users"
            figures.append(Figure(name, {OURS: ratios}, target=4 if case == "delete_a_user" else 2))
    return figures
