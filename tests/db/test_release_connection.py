"""While a password is hashed, the connection to the database is others': with one connection, on every engine."""

import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import bindparam, create_engine, event, inspect, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.events import Subscribers
from fastapi_users.testing import weak_password_helper
from tests.services import DRIVERS, database
from tests.world import PASSWORD, Note, OAuthAccount, OneTimeSecret, User, UserManager, World

ANN, BOB = "ann@example.org", "bob@example.org"
ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 30}


class GatedHelper:
    """Hashes as long as the test wants it to."""

    def __init__(self) -> None:
        self.helper = weak_password_helper()
        self.is_hashing = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def hash(self, password: str) -> str:
        self.wait()
        return self.helper.hash(password)

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        self.wait()
        return self.helper.verify_and_update(plain_password, hashed_password)

    def generate(self) -> str:
        return self.helper.generate()

    def wait(self) -> None:
        self.is_hashing.set()
        assert self.may_end.wait(30)

    async def hashing(self) -> None:
        with anyio.fail_after(30):
            while not self.is_hashing.is_set():  # noqa: ASYNC110 -- of a thread
                await anyio.sleep(0.001)


gated_helper = GatedHelper()


class Manager(UserManager):
    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.password_helper = gated_helper


class ManagerInTransactions(Manager):
    subscribers = Subscribers()
    one_time_secret_model = OneTimeSecret


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> GatedHelper:
    helper = GatedHelper()
    monkeypatch.setattr(f"{__name__}.gated_helper", helper)
    return helper


@pytest.fixture(params=list(DRIVERS))
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[Manager, ManagerInTransactions])
async def world(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path, helper: GatedHelper
) -> AsyncIterator[World]:
    async with (
        database(engine, tmp_path) as url,
        World.on(
            url,
            plain="plain" in engine,
            pool_options=ONE_CONNECTION,
            manager_class=request.param,
            associate_by_email=True,
        ) as world,
    ):
        yield world
        helper.may_end.set()


Ask = Callable[[], Any]


async def log_in(world: World, headers: dict[str, str]) -> Ask:
    return lambda: world.client.post("/auth/jwt/login", data={"username": ANN, "password": PASSWORD})


async def log_in_with_a_wrong_password(world: World, headers: dict[str, str]) -> Ask:
    return lambda: world.client.post("/auth/jwt/login", data={"username": ANN, "password": "wrong"})


async def log_in_as_nobody(world: World, headers: dict[str, str]) -> Ask:
    return lambda: world.client.post("/auth/jwt/login", data={"username": "nobody@example.org", "password": "wrong"})


async def prove_it(world: World, headers: dict[str, str]) -> Ask:
    return lambda: world.client.post("/auth/jwt/reauthenticate", json={"password": PASSWORD}, headers=headers)


async def register(world: World, headers: dict[str, str]) -> Ask:
    return lambda: world.client.post("/auth/register", json={"email": "new@example.org", "password": PASSWORD})


async def reset(world: World, headers: dict[str, str]) -> Ask:
    await world.client.post("/auth/forgot-password", json={"email": BOB})
    body = {"token": world.outbox.token(to=BOB), "password": PASSWORD}
    return lambda: world.client.post("/auth/reset-password", json=body)


async def update_oneself(world: World, headers: dict[str, str]) -> Ask:
    own = await world.log_in(BOB)
    return lambda: world.client.patch("/users/me", json={"password": PASSWORD}, headers=own)


async def update_another(world: World, headers: dict[str, str]) -> Ask:
    bob = (await world.client.get("/users/me", headers=await world.log_in(BOB))).json()
    return lambda: world.client.patch(f"/users/{bob['id']}", json={"password": PASSWORD}, headers=headers)


async def come_through_a_provider(world: World, headers: dict[str, str], email: str = "eve@example.org") -> Ask:
    world.provider.account = (email, email)
    answer = await world.client.get("/oauth/authorize")
    state = parse_qs(urlsplit(answer.json()["authorization_url"]).query)["state"][0]
    return lambda: world.client.get("/oauth/callback", params={"code": "CODE", "state": state})


async def link_by_address(world: World, headers: dict[str, str]) -> Ask:
    return await come_through_a_provider(world, headers, BOB)


OPERATIONS = {
    log_in: 200,
    log_in_with_a_wrong_password: 400,
    log_in_as_nobody: 400,
    prove_it: 200,
    register: 201,
    reset: 200,
    update_another: 200,
    update_oneself: 200,
    come_through_a_provider: 204,
    link_by_address: 204,
}


async def test_with_one_connection_a_protected_read_is_answered_while_a_password_is_hashed(
    world: World, helper: GatedHelper
) -> None:
    await world.insert_user(ANN, is_superuser=True)
    await world.insert_user(BOB)
    for operation, status in OPERATIONS.items():
        headers = await world.log_in()
        ask = await operation(world, headers)
        helper.is_hashing.clear()
        helper.may_end.clear()
        answers: list[Any] = []

        async def ask_and_keep(ask: Ask = ask, answers: list[Any] = answers) -> None:
            answers.append(await ask())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_and_keep)
            await helper.hashing()
            with anyio.fail_after(20):
                read = await world.new_client().get("/users/me", headers=headers)
            helper.may_end.set()

        assert (read.status_code, read.json()["email"]) == (200, ANN), operation
        assert answers[0].status_code == status, (operation, answers[0].text)


# when it is given back, and what stays loaded


@pytest.fixture
async def database_of_ann(engine: str, tmp_path: Path) -> AsyncIterator[World]:
    async with database(engine, tmp_path) as url, World.on(url, plain="plain" in engine) as world:
        await world.insert_user(ANN)
        yield world


class OneSession:
    """Of either kind, whose session is used alike."""

    def __init__(self, world: World, **options: Any) -> None:
        self.is_plain = world.plain_engine is not None
        self.session: Any = (
            Session(world.plain_engine, **options) if self.is_plain else AsyncSession(world.engine, **options)
        )
        self.user_db = SQLAlchemyUserDatabase[User, uuid.UUID](self.session, User, OAuthAccount)
        self.statements: list[str] = []
        self.engine = world.plain_engine or world.engine.sync_engine

    @classmethod
    @asynccontextmanager
    async def on(cls, world: World, **options: Any) -> AsyncIterator["OneSession"]:
        one = cls(world, **options)
        event.listen(one.engine, "before_cursor_execute", one.note)
        yield one
        event.remove(one.engine, "before_cursor_execute", one.note)
        await one.do("close")

    def note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(statement)

    async def do(self, method: str, *arguments: Any) -> Any:
        called = getattr(self.session, method)(*arguments)
        return called if self.is_plain else await called

    @property
    def is_held(self) -> bool:
        pool: Any = self.engine.pool
        return bool(pool.checkedout())


@pytest.mark.parametrize("expires", [True, False])
async def test_the_user_stays_loaded_without_being_read_again(database_of_ann: World, expires: bool) -> None:
    async with OneSession.on(database_of_ann, expire_on_commit=expires) as one:
        user: Any = await one.user_db.get_by_email(ANN)
        assert one.is_held
        one.statements.clear()

        await one.user_db.release_connection()

        assert (one.is_held, one.session.in_transaction()) == (False, False)
        assert (user.email, user.is_active, user.oauth_accounts) == (ANN, True, [])
        assert one.statements == []
        await one.user_db.update(user, {"nickname": "A"})
        assert [statement.split()[0] for statement in one.statements][:1] == ["UPDATE"]
        assert await one.user_db.get(user.id) is user


async def test_what_the_application_has_not_committed_is_kept(database_of_ann: World) -> None:
    """Its own statements and reads, whichever way they went, and what waits in the session to be written."""
    name = cast("Any", inspect(User)).local_table.name
    quoted = database_of_ann.engine.dialect.identifier_preparer.quote(name)

    async def write(one: OneSession, user: Any) -> None:
        await one.do("execute", update(User).values(nickname="A"))

    async def write_text(one: OneSession, user: Any) -> None:
        await one.do("execute", text(f"UPDATE {quoted} SET nickname = 'A'"))  # noqa: S608 -- a name of ours

    async def write_on_the_connection(one: OneSession, user: Any) -> None:
        connection = await one.do("connection")
        executed = connection.execute(update(User).values(nickname="A"))
        await (anyio.lowlevel.checkpoint() if one.is_plain else executed)

    async def flush(one: OneSession, user: Any) -> None:
        user.nickname = "A"
        await one.do("flush")

    async def change(one: OneSession, user: Any) -> None:
        user.nickname = "A"

    async def write_before(one: OneSession) -> None:
        await one.do("execute", update(User).values(nickname="A"))

    for use in (write, write_text, write_on_the_connection, flush, change, write_before):
        async with OneSession.on(database_of_ann, expire_on_commit=False) as one:
            if use is write_before:
                await write_before(one)
            user: Any = await one.user_db.get_by_email(ANN)
            if use is not write_before:
                await cast("Any", use)(one, user)

            await one.user_db.release_connection()

            assert one.is_held, use
            await one.do("commit")
            user_now: Any = await database_of_ann.reload(user)
            assert user_now.nickname == "A", use
            await one.user_db.update(user, {"nickname": None})
            await one.do("execute", update(User).values(nickname=None))
            await one.do("commit")


async def test_a_write_keeps_it_however_the_driver_is_called(database_of_ann: World) -> None:
    table = cast("Any", inspect(User)).local_table
    quoted = database_of_ann.engine.dialect.identifier_preparer.quote(table.name)
    one_write = f"UPDATE {quoted} SET nickname = 'A'"  # noqa: S608 -- a name of ours
    write_to = update(table).where(table.c.email == bindparam("whose")).values(nickname="A")

    def run_it(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        context.dialect.do_execute_no_params(cursor, statement)
        return True  # the application has done it: no other listener of its kind is called after this one

    ways: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "many": (write_to, [{"whose": ANN}, {"whose": BOB}], {}),
        "no parameters": (text(one_write), None, {"no_parameters": True}),
        "by a listener": (text(one_write), None, {}),
    }
    for way, (statement, parameters, options) in ways.items():
        async with OneSession.on(database_of_ann) as one:
            await one.user_db.get_by_email(ANN)
            if way == "by a listener":
                event.listen(one.engine, "do_execute", run_it)
            connection = await one.do("connection")
            executed = connection.execute(statement, parameters, execution_options=options)
            await (anyio.lowlevel.checkpoint() if one.is_plain else executed)

            await one.user_db.release_connection()

            assert one.is_held, way


async def test_rows_that_wait_to_be_inserted_or_deleted_keep_it(database_of_ann: World) -> None:
    async with OneSession.on(database_of_ann) as one:
        await one.user_db.get_by_email(ANN)
        note = Note(name="a", number=1)
        one.session.add(note)
        await one.user_db.release_connection()
        assert (one.is_held, note in one.session) == (True, True)
        await one.do("commit")

        await one.do("refresh", note)
        await one.do("commit")
        await one.user_db.get_by_email(ANN)
        await one.do("delete", note)
        await one.user_db.release_connection()
        assert one.is_held
        await one.do("commit")
        assert await one.user_db.store(Note).list({}) == []


async def test_a_lock_of_the_application_keeps_it(database_of_ann: World) -> None:
    class Locking(SQLAlchemyUserDatabase[User, uuid.UUID]):
        async def _get_user(self, statement: Any) -> User | None:
            return await super()._get_user(statement.with_for_update(of=User))

    async with OneSession.on(database_of_ann) as one:
        user_db = Locking(one.session, User, OAuthAccount)
        assert await user_db.get_by_email(ANN) is not None
        await user_db.release_connection()
        assert one.is_held


async def test_transactions_that_the_application_has_begun_itself_keep_it(database_of_ann: World) -> None:
    async with OneSession.on(database_of_ann) as one:
        transaction = one.session.begin()
        await (anyio.lowlevel.checkpoint() if one.is_plain else transaction)
        await one.user_db.get_by_email(ANN)
        await one.user_db.release_connection()
        assert one.is_held
        await one.do("rollback")

        await one.user_db.get_by_email(ANN)
        savepoint = one.session.begin_nested()
        await (anyio.lowlevel.checkpoint() if one.is_plain else savepoint)
        await one.user_db.release_connection()
        assert one.is_held


async def test_a_connection_that_the_application_gave_the_session_stays_its_own(database_of_ann: World) -> None:
    async with database_of_ann.engine.connect() as connection, AsyncSession(connection) as session:
        user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        await user_db.get_by_email(ANN)
        await user_db.release_connection()
        assert session.in_transaction()


async def test_a_connection_with_options_of_the_application_is_kept(database_of_ann: World) -> None:
    """Another schema, another isolation: the next connection would not have them."""
    for options in ({"schema_translate_map": {"other": None}}, {"isolation_level": "SERIALIZABLE"}):
        async with OneSession.on(database_of_ann) as one:
            await one.do("connection", None, options)
            await one.user_db.get_by_email(ANN)
            assert not one.user_db.may_commit()

            await one.user_db.release_connection()

            assert one.is_held
            connection = await one.do("connection")
            connection = getattr(connection, "sync_connection", connection)
            assert connection.get_execution_options().items() >= options.items()


async def test_options_of_the_engine_do_not_keep_it(database_of_ann: World) -> None:
    engine = database_of_ann.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        await user_db.get_by_email(ANN)
        await user_db.release_connection()
        assert not session.in_transaction()


async def test_an_application_may_keep_it(database_of_ann: World) -> None:
    class Keeping(SQLAlchemyUserDatabase[User, uuid.UUID]):
        releases_connections = False

    async with OneSession.on(database_of_ann) as one:
        user_db = Keeping(one.session, User, OAuthAccount)
        await user_db.get_by_email(ANN)
        await user_db.release_connection()
        assert one.is_held


async def test_reads_of_the_library_inside_its_own_transaction_do_not_keep_it_but_writes_do(
    database_of_ann: World,
) -> None:
    async with OneSession.on(database_of_ann, expire_on_commit=False) as one:
        async with one.user_db.transaction():
            user: Any = await one.user_db.get_by_email(ANN)
            await one.user_db.store(Note).list({})
            await one.user_db.release_connection()
            assert not one.is_held
            await one.user_db.update(user, {"nickname": "A"})
            await one.user_db.release_connection()
            assert one.is_held
        user_now: Any = await database_of_ann.reload(user)
        assert user_now.nickname == "A"


async def test_there_may_be_nothing_to_give_back(database_of_ann: World) -> None:
    async with OneSession.on(database_of_ann) as one:
        await one.user_db.release_connection()  # no transaction
        one.session.add(Note(name="a", number=1))  # one without a connection
        await one.user_db.release_connection()
        assert len(one.session.new) == 1

    await SQLAlchemyUserDatabase[User, uuid.UUID](MagicMock(), User).release_connection()
    await BaseUserDatabase[User, uuid.UUID]().release_connection()


async def test_a_connection_that_broke_meanwhile_goes_back_all_the_same(
    database_of_ann: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*arguments: Any) -> None:
        raise OSError("gone")

    async with OneSession.on(database_of_ann) as one:
        user = await one.user_db.get_by_email(ANN)
        with monkeypatch.context() as patch:
            patch.setattr(one.engine.dialect, "do_rollback", break_down)
            with pytest.raises(OSError, match="gone"):
                await one.user_db.release_connection()
        assert not one.is_held
        assert await one.user_db.get_by_email(ANN) is user


def test_a_registry_of_sessions_gives_back_that_of_its_thread(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    User.metadata.create_all(engine)
    registry = scoped_session(sessionmaker(engine))
    user_db = SQLAlchemyUserDatabase[User, uuid.UUID](registry, User, OAuthAccount)

    async def look_and_give_back() -> None:
        assert await user_db.get_by_email(ANN) is None
        assert registry().in_transaction()
        await user_db.release_connection()
        assert not registry().in_transaction()

    anyio.run(look_and_give_back)
    registry.remove()
    engine.dispose()


async def test_a_user_who_registers_with_a_tenant_is_in_its_schema(tmp_path: Path) -> None:
    """Where each request chooses the schema by an option of its connection."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}") as world:

        @event.listens_for(world.engine.sync_engine.pool, "connect")
        def attach(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"ATTACH '{tmp_path / 'tenant.db'}' AS tenant")
            cursor.close()

        await world.engine.dispose()
        tenant = {"schema_translate_map": {None: "tenant"}}
        async with world.engine.connect() as connection:
            await connection.execution_options(**tenant)
            await connection.run_sync(User.metadata.create_all)
            await connection.commit()
        new_session = world.session_maker

        @asynccontextmanager
        async def session_of_the_tenant() -> AsyncIterator[AsyncSession]:
            async with new_session() as session:
                await session.connection(execution_options=tenant)
                yield session

        world.session_maker = cast("Any", session_of_the_tenant)
        answer = await world.client.post("/auth/register", json={"email": ANN, "password": PASSWORD})
        assert answer.status_code == 201
        await world.log_in(ANN)

        async with world.engine.connect() as connection:
            for schema, emails in ("main", []), ("tenant", [ANN]):
                rows = await connection.execute(text(f'SELECT email FROM {schema}."user"'))  # noqa: S608 -- ours
                assert rows.scalars().all() == emails, schema


# what changes during the hash


@pytest.fixture
async def sqlite_world(tmp_path: Path, helper: GatedHelper) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}", manager_class=Manager) as world:
        yield world


async def test_of_two_resets_during_each_others_hash_one_counts(sqlite_world: World, helper: GatedHelper) -> None:
    await sqlite_world.insert_user(BOB)
    first, second = await reset(sqlite_world, {}), await reset(sqlite_world, {})
    helper.may_end.clear()
    statuses: list[int] = []

    async def ask_and_keep(ask: Ask) -> None:
        statuses.append((await ask()).status_code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_and_keep, first)
        tasks.start_soon(ask_and_keep, second)
        await helper.hashing()
        helper.may_end.set()

    assert sorted(statuses) == [200, 400]


async def log_in_while_the_password_is_changed(world: World, helper: GatedHelper) -> Any:
    """The answer to a login whose hash has to wait until another one was written."""
    ask = await log_in(world, {})
    helper.may_end.clear()
    answers: list[Any] = []

    async def ask_and_keep() -> None:
        answers.append(await ask())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_and_keep)
        await helper.hashing()
        async with world.session_maker() as session:
            await session.execute(update(User).values(hashed_password="changed"))
            await session.commit()
        helper.may_end.set()
    return answers[0]


async def test_a_login_whose_password_was_changed_during_the_hash_makes_no_session_that_counts(
    sqlite_world: World, helper: GatedHelper
) -> None:
    """Without another statement: the token names the hash that was verified."""
    await sqlite_world.insert_user(ANN)
    answer = await log_in_while_the_password_is_changed(sqlite_world, helper)

    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await sqlite_world.client.get("/users/me", headers=headers)).status_code == 401


async def test_an_upgraded_hash_does_not_take_the_place_of_one_that_was_set_meanwhile(
    sqlite_world: World, helper: GatedHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await sqlite_world.insert_user(ANN)
    verify = helper.helper.verify_and_update
    monkeypatch.setattr(
        helper.helper, "verify_and_update", lambda plain, hashed: (verify(plain, hashed)[0], "the upgraded hash")
    )
    answer = await log_in_while_the_password_is_changed(sqlite_world, helper)

    assert answer.status_code == 400
    user_now: Any = await sqlite_world.reload(user)
    assert user_now.hashed_password == "changed"
