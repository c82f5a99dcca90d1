"""Servers that a machine may or may not run. Tests that need one are skipped, visibly, where it does not answer."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from pymongo.uri_parser import parse_uri
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoRedis
from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

# Of several processes that run the tests each has a database of its own, which its tests may empty.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _database_of_worker(redis_url: str) -> str:
    """The first one has the database that is named, the next ones those before."""
    parts = urlsplit(redis_url)
    number = int(parts.path.strip("/") or 15) - _WORKER
    assert number >= 0, f"Redis has no database {number}: run the tests with less processes"
    return parts._replace(path=f"/{number}").geturl()


REDIS_URL = _database_of_worker(os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15"))
POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
MARIADB_URL = os.environ.get("TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql")
MONGO_URL = os.environ.get("TEST_MONGO_URL")  # beside tests/mongo_server.py, which is always there

ANSWERED: set[str] = set()
MISSING: set[str] = set()

OWN_DATABASE = f"fastapi_users_test_{os.getpid()}"

# Each driver with the one for a plain Session, where that is tested too.
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite, plain session": "sqlite+pysqlite",
    "postgresql, asyncpg": "postgresql+asyncpg",
    "postgresql, psycopg": "postgresql+psycopg",
    "postgresql, plain session": "postgresql+psycopg",
    "mariadb, aiomysql": "mysql+aiomysql",
}


@asynccontextmanager
async def database(engine: str, folder: Path) -> AsyncIterator[URL]:
    """An empty database for one test, on one of the ``DRIVERS``."""
    driver = DRIVERS[engine]
    if driver.startswith("sqlite"):
        ANSWERED.add(engine)
        yield make_url(f"{driver}:///{folder / 'test.db'}")
        return
    server = make_url(POSTGRES_URL if driver.startswith("postgresql") else MARIADB_URL).set(drivername=driver)
    await _create_database(server)
    ANSWERED.add(engine)
    yield server.set(database=OWN_DATABASE)
    await _execute(server, f"DROP DATABASE {OWN_DATABASE}")


async def _create_database(server: URL) -> None:
    try:
        await _execute(server, f"DROP DATABASE IF EXISTS {OWN_DATABASE}")
    except Exception as error:  # noqa: BLE001 -- every driver has another one for a server that does not answer
        unavailable(server.get_backend_name(), server.render_as_string(), error)
    await _execute(server, f"CREATE DATABASE {OWN_DATABASE}")


async def _execute(server: URL, statement: str) -> None:
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def connect_redis(url: str = REDIS_URL, *, decode_responses: bool) -> Redis:
    client = Redis.from_url(url, decode_responses=decode_responses)
    try:
        await client.ping()
    except NoRedis as error:
        await client.aclose()
        unavailable("redis", url, error)
    ANSWERED.add("redis")
    return client


async def connect_mongo(url: str) -> AsyncMongoClient[dict[str, Any]]:
    for host, port in parse_uri(url)["nodelist"]:
        try:  # and not by a ping: the driver leaves sockets open that nobody answered
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            unavailable("mongodb", url, error)
        writer.close()
        await writer.wait_closed()
    ANSWERED.add("mongodb" if url == MONGO_URL else "mongodb's protocol over mongomock")
    return AsyncMongoClient[dict[str, Any]](url)


def unavailable(service: str, url: str, error: Exception) -> NoReturn:
    """Skip, unless ``REQUIRE_SERVICES=1`` says that the machine has them all."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        raise RuntimeError(f"{service} was expected at {url}, and does not answer") from error
    MISSING.add(service)
    pytest.skip(f"{service} does not answer at {url}")
