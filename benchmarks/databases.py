"""Databases for one run. Servers are those of the tests: by default on this machine, left out where they do not answer."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

POSTGRESQL = make_url(os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


@asynccontextmanager
async def postgresql(name: str) -> AsyncIterator[URL]:
    """:raises OSError: nobody answers."""
    server = POSTGRESQL.set(drivername="postgresql+asyncpg")
    database = f"fastapi_users_benchmark_{os.getpid()}_{name}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {database}"))
            try:
                yield server.set(database=database)
            finally:
                await connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
    finally:
        await engine.dispose()


@asynccontextmanager
async def sqlite(name: str) -> AsyncIterator[URL]:
    with TemporaryDirectory() as folder:
        yield make_url(f"sqlite+aiosqlite:///{Path(folder) / name}.db")


DATABASES: dict[str, Callable[[str], AbstractAsyncContextManager[URL]]] = {"SQLite": sqlite, "PostgreSQL": postgresql}


async def available() -> list[str]:
    return [name for name, database in DATABASES.items() if await _answers(name, database)]


async def _answers(name: str, database: Callable[[str], AbstractAsyncContextManager[URL]]) -> bool:
    try:
        async with database("available"):
            return True
    except OSError as error:
        print(f"{name} does not answer, and is left out: {error}")
        return False


def redis_url() -> str | None:
    """``None`` where nobody answers."""
    address = urlsplit(REDIS)
    try:
        create_connection((address.hostname or "127.0.0.1", address.port or 6379), timeout=1).close()
    except OSError as error:
        print(f"Redis does not answer, and is left out: {error}")
        return None
    return REDIS
