"""Who changes the password while somebody logs in with the old one ends that login too, whoever is faster."""

import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
from httpx import AsyncClient, Response
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users.authentication import RedisStrategy
from fastapi_users.authentication.strategy.base import ProvenCredentials
from fastapi_users.authentication.strategy.db import AccessTokenDatabase
from fastapi_users.db import BaseUserDatabase
from fastapi_users.db.sqlalchemy import SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import weak_password_helper
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests import world as world_module
from tests.services import DRIVERS, connect_redis, database
from tests.test_sessions_end import Application
from tests.world import PASSWORD, AccessToken, User, UserManager, World

CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}

Change = Callable[[Any], Any]
CHANGES: dict[str, Change] = {
    "password": lambda users: update(users).values(hashed_password="another"),
    "address": lambda users: update(users).values(email="Ann@example.org"),
    "deactivation": lambda users: update(users).values(is_active=False),
    "deletion": delete,
}


class Gate(PasswordHelper):
    """A right password is found to be right, and what is done with that waits until the gate is opened."""

    def __init__(self) -> None:
        super().__init__(weak_password_helper().password_hash)
        self.is_reached, self.is_open = threading.Event(), threading.Event()

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        verified = super().verify_and_update(plain_password, hashed_password)
        self.is_reached.set()
        assert self.is_open.wait(60)
        return verified


def waiting_at(gate: Gate) -> type[UserManager]:
    class Manager(UserManager):
        def __init__(self, user_db: SQLAlchemyUserDatabase[User, uuid.UUID], world: World) -> None:
            super().__init__(user_db, world)
            self.password_helper = gate

    return Manager


async def log_in_meanwhile(
    client: AsyncClient, path: str, gate: Gate, change: Callable[[], Awaitable[None]]
) -> Response:
    answers: list[Response] = []

    async def log_in() -> None:
        answers.append(await client.post(path, data=CREDENTIALS))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log_in)
        assert await anyio.to_thread.run_sync(gate.is_reached.wait, 300)
        await change()
        gate.is_open.set()
    [answer] = answers
    return answer


async def apply(world: World, change: Change) -> None:
    async with world.session_maker() as session:
        await session.execute(change(User))
        await session.commit()


async def tokens(world: World) -> list[str]:
    async with world.session_maker() as session:
        return [row.token for row in await session.scalars(select(AccessToken))]


@asynccontextmanager
async def world_with(gate: Gate, engine: str, folder: Path) -> AsyncIterator[World]:
    async with (
        database(engine, folder) as url,
        World.on(url, plain="plain" in engine, manager_class=waiting_at(gate)) as world,
    ):
        await world.insert_user()
        yield world


def assert_refused(answer: Response) -> None:
    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("engine", list(DRIVERS))
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_password_that_counts_no_more_when_it_is_verified_logs_nobody_in(
    engine: str, change: Change, tmp_path: Path
) -> None:
    gate = Gate()
    async with world_with(gate, engine, tmp_path) as world:
        answer = await log_in_meanwhile(world.client, "/auth/cookie/login", gate, lambda: apply(world, change))

        assert_refused(answer)
        assert await tokens(world) == []
        assert world.hooks == []


@pytest.mark.parametrize("engine", list(DRIVERS))
async def test_what_else_changes_refuses_no_login(engine: str, tmp_path: Path) -> None:
    gate = Gate()

    async with world_with(gate, engine, tmp_path) as world:

        async def change() -> None:
            await apply(world, lambda users: update(users).values(nickname="Annie"))

        answer = await log_in_meanwhile(world.client, "/auth/cookie/login", gate, change)

        assert answer.status_code == 204
        assert (await world.client.get("/users/me")).json()["nickname"] == "Annie"


WAITING = {
    "postgresql, asyncpg": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    " AND datname = current_database()",
    "mariadb, aiomysql": "SELECT count(*) FROM information_schema.innodb_lock_waits"
    " JOIN information_schema.innodb_trx ON trx_id = requesting_trx_id"
    " JOIN information_schema.processlist ON id = trx_mysql_thread_id WHERE db = database()",
}


@pytest.mark.parametrize("engine", list(WAITING))
async def test_a_login_waits_for_a_change_that_is_under_way(engine: str, tmp_path: Path) -> None:
    """It would otherwise read the old password and store its token after all others were ended."""
    gate = Gate()
    async with (
        world_with(gate, engine, tmp_path) as world,
        world.session_maker() as session,
        anyio.create_task_group() as tasks,
    ):

        async def commit_when_awaited() -> None:
            async with world.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                waiting = 0
                while not waiting:
                    await anyio.sleep(
                        0.2
                    )  # MariaDB tells no news to whoever asks more often than each tenth of a second
                    waiting = (await connection.execute(text(WAITING[engine]))).scalar() or 0
            await session.commit()

        async def begin() -> None:
            await session.execute(CHANGES["password"](User))
            tasks.start_soon(commit_when_awaited)

        with anyio.fail_after(600):
            assert_refused(await log_in_meanwhile(world.client, "/auth/cookie/login", gate, begin))
        assert await tokens(world) == []


@pytest.mark.parametrize("index_by_user", [True, False])
async def test_a_token_in_redis_goes_again(
    index_by_user: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisStrategy, "index_by_user", property(lambda _: index_by_user, lambda *_: None))
    gate, redis = Gate(), await connect_redis(decode_responses=True)
    await redis.flushdb()
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        application = Application(world, redis, waiting_at(gate))
        await world.insert_user()
        async with application.new_client() as client:

            async def change() -> None:
                await apply(world, CHANGES["password"])

            assert_refused(await log_in_meanwhile(client, "/redis_cookie/login", gate, change))
        assert await redis.keys() == []
    await redis.aclose()


class OwnWay(SQLAlchemyAccessTokenDatabase[AccessToken]):
    """Of an application."""

    async def create(self, create_dict: dict[str, Any]) -> AccessToken:
        return await super().create(create_dict)


class Plain(AccessTokenDatabase[AccessToken]):
    """The four methods of version 15."""

    def __init__(self, session: Any, access_token_table: type[AccessToken]) -> None:
        self.inner = SQLAlchemyAccessTokenDatabase(session, access_token_table)

    async def create(self, create_dict: dict[str, Any]) -> AccessToken:
        return await self.inner.create(create_dict)

    async def delete(self, access_token: AccessToken) -> None:
        await self.inner.delete(access_token)


@pytest.mark.parametrize("adapter", [OwnWay, Plain])
async def test_an_adapter_of_an_application_stores_the_token_and_takes_it_back(
    adapter: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(world_module, "SQLAlchemyAccessTokenDatabase", adapter)
    async with world_with(gate, "sqlite", tmp_path) as world:
        answer = await log_in_meanwhile(
            world.client, "/auth/cookie/login", gate, lambda: apply(world, CHANGES["password"])
        )

        assert_refused(answer)
        assert await tokens(world) == []
        gate.is_open.set()
        await world.insert_user("bob@example.org")
        answer = await world.client.post("/auth/cookie/login", data={**CREDENTIALS, "username": "bob@example.org"})
        assert answer.status_code == 204
        assert len(await tokens(world)) == 1


async def test_an_application_that_looks_on_sees_the_token_as_it_is_stored(tmp_path: Path) -> None:
    """A listener would find a subquery in the place of the id."""
    gate, seen = Gate(), []

    def look(_mapper: Any, _connection: Any, access_token: AccessToken) -> None:
        seen.append(access_token.user_id)

    event.listen(AccessToken, "before_insert", look)
    try:
        async with world_with(gate, "sqlite", tmp_path) as world:
            answer = await log_in_meanwhile(
                world.client, "/auth/cookie/login", gate, lambda: apply(world, CHANGES["password"])
            )
            assert_refused(answer)
            assert await tokens(world) == []
    finally:
        event.remove(AccessToken, "before_insert", look)
    assert [type(user_id) for user_id in seen] == [uuid.UUID]


async def test_an_error_of_the_database_is_no_change_of_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda *_: "the same token")
    gate = Gate()
    gate.is_open.set()
    async with world_with(gate, "sqlite", tmp_path) as world:
        assert (await world.client.post("/auth/cookie/login", data=CREDENTIALS)).status_code == 204
        with pytest.raises(IntegrityError):
            await world.client.post("/auth/cookie/login", data=CREDENTIALS)


async def test_an_adapter_that_asks_the_database_for_each_user_is_asked_once_more() -> None:
    class Users(BaseUserDatabase[Any, int]):
        async def get(self, id: int) -> Any:
            return SimpleNamespace(email="ann@example.org") if id == 1 else None

    credentials = ProvenCredentials(user_db=Users(), user_id=1, fields={"email": "ann@example.org"})
    assert await credentials.still_count()
    # Such users are in another database.
    assert await SQLAlchemyAccessTokenDatabase(AsyncSession(), AccessToken).create_for(credentials, {}) is None
    assert not await Users().holds(1, {"email": "bob@example.org"})
    assert not await Users().holds(2, {})
