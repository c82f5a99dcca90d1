import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest.mock import AsyncMock

import pytest
from fastapi import Depends, Request
from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Select,
    String,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    create_mock_engine,
    delete,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Mapper,
    Session,
    declared_attr,
    lazyload,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
    synonym,
)
from sqlalchemy.orm.exc import StaleDataError

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db.sqlalchemy import (
    GUID,
    PreciseTIMESTAMPAware,
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTable,
    SQLAlchemyBaseAccessTokenTableUUID,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTable,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyUserDatabase,
    TIMESTAMPAware,
    now_utc,
)
from fastapi_users.db.store import at_least, at_most, less_than, none_of, one_of, other_than
from fastapi_users.testing import weak_password_helper
from tests.db.test_sqlalchemy_statements import recorded
from tests.world import PASSWORD, SECRET, AccessToken, Note, OAuthAccount, OneTimeSecret, RecommendedUser, User, World

OLDEST = datetime(2000, 1, 1, tzinfo=timezone.utc)
ACCOUNT = {
    "oauth_name": "provider",
    "access_token": "old",
    "account_id": "1",
    "account_email": "ann@example.org",
    "expires_at": None,
    "refresh_token": None,
}
Users = SQLAlchemyUserDatabase[User, uuid.UUID]
DIALECTS: dict[str, Any] = {module.dialect.name: module.dialect() for module in (sqlite, mysql, postgresql)}


@pytest.fixture
async def session(world: World) -> AsyncIterator[AsyncSession]:
    async with world.session_maker() as session:
        yield session


@pytest.fixture
def users(session: AsyncSession) -> Users:
    return SQLAlchemyUserDatabase(session, User, OAuthAccount)


async def test_a_user_is_created_found_changed_and_deleted(users: Users, world: World) -> None:
    user = await users.create({"email": "Ann@example.org", "hashed_password": "h", "nickname": "Ann"})

    assert isinstance(user.id, uuid.UUID)
    assert (user.is_active, user.is_superuser, user.is_verified, user.oauth_accounts) == (True, False, False, [])
    assert await users.get(user.id) is user
    assert await users.get(uuid.uuid4()) is None
    assert await users.update(user, {"nickname": None, "is_verified": True}) is user
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert (reloaded.nickname, reloaded.is_verified) == (None, True)
    await users.delete(user)
    assert await world.reload(user) is None


async def test_an_address_is_found_in_every_letter_case_and_never_as_a_pattern(users: Users) -> None:
    user = await users.create({"email": "Ann@example.org", "hashed_password": "h"})

    for email in ("Ann@example.org", "ann@example.org", "ANN@EXAMPLE.ORG"):
        assert await users.get_by_email(email) is user
    for email in ("ann%", "%@example.org", "Ann_example.org", ""):
        assert await users.get_by_email(email) is None


async def test_what_the_database_refuses_comes_through(users: Users, session: AsyncSession) -> None:
    await users.create({"email": "ann@example.org", "hashed_password": "h"})

    with pytest.raises(IntegrityError):
        await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await session.rollback()


async def test_accounts_are_linked_found_and_changed(users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})

    assert await users.add_oauth_account(user, ACCOUNT) is user
    assert await users.add_oauth_account(user, {**ACCOUNT, "oauth_name": "other"}) is user
    assert sorted(account.oauth_name for account in user.oauth_accounts) == ["other", "provider"]
    assert await users.get_by_oauth_account("provider", "1") is user
    assert await users.get_by_oauth_account("provider", "2") is None
    account = user.oauth_accounts[0]
    assert await users.update_oauth_account(user, account, {"access_token": "new"}) is user
    assert account.access_token == "new"


async def test_without_an_account_table_there_are_no_accounts(session: AsyncSession) -> None:
    """E14: the error says what is missing."""
    users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    user: Any = User()
    calls = [
        users.get_by_oauth_account("provider", "1"),
        users.add_oauth_account(user, ACCOUNT),
        users.update_oauth_account(user, OAuthAccount(), {}),
    ]

    for call in calls:
        with pytest.raises(NotImplementedError, match="OAuthAccount"):
            await call


async def test_a_subclass_filters_every_look_up(session: AsyncSession, users: Users) -> None:
    class Named(Users):
        async def _get_user(self, statement: Select[Any]) -> User | None:
            return await super()._get_user(statement.where(User.nickname.is_not(None)))

    named = Named(session, User, OAuthAccount)
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await users.add_oauth_account(user, ACCOUNT)

    for nickname, found in ((None, None), ("Ann", user)):
        await users.update(user, {"nickname": nickname})
        assert await named.get(user.id) is found
        assert await named.get_by_email("ann@example.org") is found
        assert await named.get_by_oauth_account("provider", "1") is found


async def test_access_tokens_are_found_while_they_are_young(session: AsyncSession, users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    tokens = SQLAlchemyAccessTokenDatabase(session, AccessToken)

    token = await tokens.create({"token": "T", "user_id": user.id})

    assert token.created_at.tzinfo is not None
    assert await tokens.get_by_token("T") is token
    assert await tokens.get_by_token("U") is None
    assert await tokens.get_by_token("T", token.created_at) is token
    assert await tokens.get_by_token("T", token.created_at + timedelta(seconds=1)) is None
    yesterday = now_utc() - timedelta(days=1)
    assert (await tokens.update(token, {"created_at": yesterday})).created_at == yesterday
    await tokens.delete(token)
    assert await tokens.get_by_token("T") is None


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_a_guid_is_text_on_the_way_in_and_a_uuid_on_the_way_out(dialect: Any) -> None:
    value = uuid.uuid4()
    for accepted in (value, str(value), value.hex):
        assert GUID().process_bind_param(accepted, dialect) == str(value)
    for stored in (value, str(value)):
        assert GUID().process_result_value(stored, dialect) == value
    assert GUID().process_bind_param(None, dialect) is None
    assert GUID().process_result_value(None, dialect) is None


def test_a_guid_uses_the_type_of_the_database_where_there_is_one() -> None:
    assert GUID().compile(dialect=DIALECTS["postgresql"]) == "UUID"
    assert GUID().compile(dialect=DIALECTS["sqlite"]) == "CHAR(36)"


def test_a_time_gets_its_zone_back_where_the_database_keeps_none() -> None:
    naive, aware = datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=timezone.utc)  # noqa: DTZ001 -- as SQLite returns it
    for name in ("sqlite", "mysql"):
        assert TIMESTAMPAware().process_result_value(naive, DIALECTS[name]) == aware
        assert TIMESTAMPAware().process_result_value(None, DIALECTS[name]) is None
    assert TIMESTAMPAware().process_result_value(aware, DIALECTS["postgresql"]) is aware


def test_a_precise_time_has_microseconds_where_the_usual_one_has_none() -> None:
    usual, precise = TIMESTAMPAware(timezone=True), PreciseTIMESTAMPAware(timezone=True)

    kinds = [kind.compile(dialect=DIALECTS["mysql"]) for kind in (usual, precise)]
    assert kinds == ["TIMESTAMP", "DATETIME(6)"]
    for name in ("postgresql", "sqlite"):
        assert precise.compile(dialect=DIALECTS[name]) == usual.compile(dialect=DIALECTS[name])


def indexes(table: Any) -> dict[str, tuple[str, bool]]:
    return {index.name: (str(index.expressions[0]), index.unique) for index in table.__table__.indexes}


def test_tables_get_the_indexes_without_which_look_ups_read_them_whole() -> None:
    """D3"""
    assert indexes(User)["ix_user_email_lower"] == ('lower("user".email)', False)
    assert indexes(RecommendedUser)["ix_user_email_lower"] == ('lower("user".email)', True)
    assert indexes(OAuthAccount)["ix_oauth_account_user_id"] == ("oauth_account.user_id", False)
    assert indexes(AccessToken)["ix_accesstoken_user_id"] == ("accesstoken.user_id", False)


def test_the_constraint_on_accounts_is_made_once_and_for_new_tables_only() -> None:
    class Base(DeclarativeBase):
        pass

    class Account(SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, Base):
        pass

    class SpecialAccount(Account):  # in the same table
        pass

    class OwnAccount(SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, Base):
        __tablename__ = "own_account"
        __table_args__ = (UniqueConstraint("account_id", "oauth_name", name="mine"), UniqueConstraint("access_token"))

    def constraints(table: Any) -> list[Any]:
        return sorted(one.name for one in table.__table__.constraints if isinstance(one, UniqueConstraint) and one.name)

    assert constraints(Account) == ["uq_oauth_account_account"]
    assert constraints(SpecialAccount) == ["uq_oauth_account_account"]
    assert constraints(OwnAccount) == ["mine"]
    assert constraints(OAuthAccount) == []
    for name, exact in (
        ("sqlite", "VARCHAR(320)"),
        ("mysql", "VARCHAR(320) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
    ):
        assert cast("Any", Account).__table__.c.account_id.type.compile(DIALECTS[name]) == exact


def test_arguments_and_indexes_of_the_application_are_left_alone() -> None:
    class Base(DeclarativeBase):
        pass

    class Person(Base, SQLAlchemyBaseUserTableUUID):
        __tablename__ = "person"
        __table_args__ = (Index("mine", text("lower(email)")), {"info": {"mine": True}})

    class Employee(Person):  # in the same table
        pass

    class Member(SQLAlchemyBaseUserTableUUID, Base):
        __tablename__ = "member"
        __table_args__ = ({"schema": "members"},)

    Index("mine_too", func.lower(Member.__table__.c.email), unique=True)

    class Token(SQLAlchemyBaseAccessTokenTableUUID, Base):
        @declared_attr
        def user_id(cls) -> Mapped[uuid.UUID]:
            return mapped_column(GUID, ForeignKey("person.id"), index=True)

    class Detached(SQLAlchemyBaseAccessTokenTable[int], Base):
        __tablename__ = "detached"

    table: Any = Person.__table__
    assert table.info == {"mine": True}
    assert sorted(indexes(Person)) == ["ix_person_email", "ix_person_email_lower", "mine"]
    assert Employee.__table__ is Person.__table__
    assert sorted(indexes(Token)) == ["ix_accesstoken_created_at", "ix_accesstoken_user_id"]
    assert list(indexes(Detached)) == ["ix_detached_created_at"]


@pytest.mark.parametrize(("name", "made"), [("sqlite", True), ("postgresql", True), ("mysql", False)])
def test_the_index_on_an_expression_is_made_where_the_database_has_such(name: str, made: bool) -> None:
    """D3"""
    statements: list[str] = []
    engine: Any = create_mock_engine(
        f"{name}://", lambda statement, *_: statements.append(str(statement.compile(engine)))
    )
    User.metadata.create_all(engine, checkfirst=False)

    assert any("lower(email)" in statement for statement in statements) is made


async def test_a_user_expired_by_its_session_is_read_again_after_a_write(world: World) -> None:
    async with AsyncSession(world.engine) as session:  # expires on commit
        users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
        assert (user.email, user.oauth_accounts) == ("ann@example.org", [])
        await users.update(user, {"nickname": "Ann"})
        assert user.nickname == "Ann"


async def test_a_user_loaded_without_its_accounts_has_them_after_a_write(world: World) -> None:
    user = await world.insert_user()
    async with world.session_maker() as session:
        users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        loaded = (await session.execute(select(User).options(noload_accounts()))).unique().scalar_one()
        assert "oauth_accounts" not in inspect(loaded).dict
        await users.update(loaded, {})
        assert (loaded.id, loaded.oauth_accounts) == (user.id, [])


def noload_accounts() -> Any:
    return lazyload(User.oauth_accounts)


async def test_a_refused_write_leaves_the_user_readable(users: Users, session: AsyncSession) -> None:
    """CONTRACT 16 row 25: the transaction is rolled back, and the error stays what it is."""
    await users.create({"email": "ann@example.org", "hashed_password": "h"})
    bob = await users.create({"email": "bob@example.org", "hashed_password": "h"})

    with pytest.raises(IntegrityError):
        await users.update(bob, {"email": "ann@example.org"})

    assert (bob.email, bob.oauth_accounts) == ("bob@example.org", [])


async def test_a_refused_write_of_a_user_who_is_gone_raises_what_the_database_said(users: Users, world: World) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    async with world.session_maker() as session:
        await session.delete(await session.get(User, user.id))
        await session.commit()

    with pytest.raises(StaleDataError):
        await users.update(user, {"nickname": "Ann"})


async def test_no_token_holds_nul(session: AsyncSession) -> None:
    """Which PostgreSQL refuses to compare."""
    assert await SQLAlchemyAccessTokenDatabase(session, AccessToken).get_by_token("T\0") is None


async def test_a_subclass_keeps_its_own_way_to_delete_tokens(session: AsyncSession, users: Users) -> None:
    deleted: list[str] = []

    class Archive(SQLAlchemyAccessTokenDatabase[AccessToken]):
        async def delete(self, access_token: AccessToken) -> None:
            deleted.append(access_token.token)

    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    tokens = Archive(session, AccessToken)
    await tokens.create({"token": "T", "user_id": user.id})

    assert await tokens.delete_by_token("T") == 1
    assert await tokens.delete_by_token("U") == 0
    assert await tokens.delete_by_user(user.id) == 1
    assert await tokens.delete_by_user(user.id, except_tokens=["T"]) == 0
    assert deleted == ["T", "T"]


async def test_a_method_replaced_on_the_instance_is_called_too(session: AsyncSession, users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    tokens = SQLAlchemyAccessTokenDatabase(session, AccessToken)
    row = await tokens.create({"token": "T", "user_id": user.id})
    tokens.delete = AsyncMock()  # type: ignore[method-assign]  # as the tests of applications do

    assert await tokens.delete_by_token("T") == 1
    tokens.delete.assert_awaited_once_with(row)


class Watched:
    """What an application may hang on its tokens, and the ORM sees to when it deletes one."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

        class Base(DeclarativeBase):
            pass

        class Owner(SQLAlchemyBaseUserTableUUID, Base):
            pass

        class Token(SQLAlchemyBaseAccessTokenTableUUID, Base):
            owner: Mapped[Owner] = relationship()

        class TokenWithNotes(SQLAlchemyBaseAccessTokenTableUUID, Base):
            __tablename__ = "token_with_notes"
            notes: Mapped[list["Note"]] = relationship(cascade="all, delete-orphan")

        class Note(Base):
            __tablename__ = "note"
            id: Mapped[int] = mapped_column(primary_key=True)
            token: Mapped[str] = mapped_column(ForeignKey(TokenWithNotes.token))

        class AuditedToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
            __tablename__ = "audited_token"

        @event.listens_for(AuditedToken, "after_delete")
        def note(_mapper: Any, _connection: Any, token: AuditedToken) -> None:
            self.deleted.append(token.token)

        class ParentToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
            __tablename__ = "parent_token"

        class ChildToken(ParentToken):
            __tablename__ = "child_token"
            token: Mapped[str] = mapped_column(ForeignKey(ParentToken.token), primary_key=True)

        self.metadata, self.owner, self.plain, self.noted, self.note = Base.metadata, Owner, Token, TokenWithNotes, Note
        self.audited, self.parent, self.child = AuditedToken, ParentToken, ChildToken


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[tuple[Watched, AsyncSession, Any]]:
    watched, engine = Watched(), create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(watched.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        owner = watched.owner(email="ann@example.org", hashed_password="h")
        session.add(owner)
        await session.commit()
        yield watched, session, owner
    await engine.dispose()


async def end(session: AsyncSession, table: Any, owner: Any, *, everywhere: bool) -> int:
    tokens: SQLAlchemyAccessTokenDatabase[Any] = SQLAlchemyAccessTokenDatabase(session, table)
    session.add(table(token="T", user_id=owner.id))
    await session.commit()
    return await (tokens.delete_by_user(owner.id) if everywhere else tokens.delete_by_token("T"))


@pytest.mark.parametrize("everywhere", [False, True])
async def test_what_belongs_to_a_token_goes_with_it(watched: Any, everywhere: bool) -> None:
    world, session, owner = watched
    session.add(world.note(token="T"))

    assert await end(session, world.noted, owner, everywhere=everywhere) == 1
    assert (await session.execute(select(world.note))).all() == []


@pytest.mark.parametrize("everywhere", [False, True])
async def test_whoever_listens_to_deletions_hears_of_tokens_that_end(watched: Any, everywhere: bool) -> None:
    world, session, owner = watched

    assert await end(session, world.audited, owner, everywhere=everywhere) == 1
    assert world.deleted == ["T"]

    event.listen(session.sync_session, "persistent_to_deleted", lambda _, token: world.deleted.append(token))
    assert await end(session, world.plain, owner, everywhere=everywhere) == 1
    assert len(world.deleted) == 2


async def test_listeners_hear_of_all_tokens_of_a_user_in_one_transaction(watched: Any) -> None:
    world, session, owner = watched
    commits: list[Any] = []
    event.listen(session.bind.sync_engine, "commit", commits.append)
    session.add_all([world.audited(token=token, user_id=owner.id) for token in "TUV"])
    await session.commit()
    del commits[:]
    tokens: SQLAlchemyAccessTokenDatabase[Any] = SQLAlchemyAccessTokenDatabase(session, world.audited)

    assert await tokens.delete_by_user(owner.id, except_tokens=["U"]) == 2
    assert (world.deleted, len(commits)) == (["T", "V"], 1)
    assert await tokens.get_by_token("U") is not None


@pytest.mark.parametrize("table", ["audited", "noted"])  # the notes are read, which flushes what was deleted before
async def test_where_a_listener_fails_half_way_all_tokens_of_a_user_stay(watched: Any, table: str) -> None:
    world, session, owner = watched
    model = getattr(world, table)
    session.add_all([model(token=token, user_id=owner.id) for token in "TUV"])
    await session.commit()
    tokens: SQLAlchemyAccessTokenDatabase[Any] = SQLAlchemyAccessTokenDatabase(session, model)
    heard: list[Any] = []

    @event.listens_for(model, "before_delete")
    def refuse_the_second(*told: Any) -> None:
        heard.append(told)
        if len(heard) == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await tokens.delete_by_user(owner.id)
    await session.commit()
    assert len((await session.execute(select(model))).all()) == 3


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_token_in_two_tables_ends_in_both(watched: Any, everywhere: bool) -> None:
    world, session, owner = watched

    assert await end(session, world.child, owner, everywhere=everywhere) == 1
    assert (await session.execute(select(world.parent))).all() == []


async def test_a_token_with_nothing_but_its_owner_ends_in_one_statement(watched: Any) -> None:
    world, session, owner = watched
    tokens: SQLAlchemyAccessTokenDatabase[Any] = SQLAlchemyAccessTokenDatabase(session, world.plain)
    statements: list[str] = []
    event.listen(session.bind.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    session.add(world.plain(token="T", user_id=owner.id))
    await session.commit()
    del statements[:]

    assert await tokens.delete_by_token("T") == 1
    assert [statement.split()[0] for statement in statements] == ["DELETE"]


async def test_tokens_of_a_table_with_more_in_it_are_complete_after_creation(world: World) -> None:
    class Base(DeclarativeBase):
        pass

    class Owner(SQLAlchemyBaseUserTableUUID, Base):
        pass

    class Token(SQLAlchemyBaseAccessTokenTableUUID, Base):
        owner: Mapped[Owner] = relationship(lazy="joined")

    engine = create_async_engine(world.engine.url.set(database=f"{world.engine.url.database}.2"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        owner = await SQLAlchemyUserDatabase[Owner, uuid.UUID](session, Owner).create(
            {"email": "ann@example.org", "hashed_password": "h"}
        )
        token = await SQLAlchemyAccessTokenDatabase(session, Token).create({"token": "T", "user_id": owner.id})
        assert token.owner is owner
    await engine.dispose()


async def test_rows_of_the_application_are_not_deleted_with_a_user(tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))

    class Author(SQLAlchemyBaseUserTableUUID, Base):
        posts: Mapped[list[Post]] = relationship(lazy="selectin")

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        authors = SQLAlchemyUserDatabase[Author, uuid.UUID](session, Author)
        author = await authors.create({"email": "ann@example.org", "hashed_password": "h"})
        author.posts.append(Post(author_id=author.id))
        await session.commit()

        with pytest.raises(IntegrityError):
            await authors.delete(author)
        assert (await session.execute(select(func.count(Post.id)))).scalar_one() == 1
    await engine.dispose()


async def test_a_session_that_expires_on_commit_serves_every_route(world: World) -> None:
    world.session_maker = async_sessionmaker(world.engine)

    registered = await world.client.post("/auth/register", json={"email": "ann@example.org", "password": PASSWORD})
    assert registered.status_code == 201
    headers = await world.log_in()
    changed = await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=headers)
    assert (changed.status_code, changed.json()["email"]) == (200, "new@example.org")


class PlainManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Hooks of the World read the user, which such a session does not allow after a commit."""

    reset_password_token_secret = verification_token_secret = SECRET

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, weak_password_helper())

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:
        await cast("Any", self.user_db).session.commit()


class TableManager(PlainManager):
    one_time_secret_model = OneTimeSecret


@pytest.mark.parametrize("manager_class", [PlainManager, TableManager])
async def test_a_session_that_expires_on_commit_logs_in_out_and_deletes(
    manager_class: type[Any], tmp_path: Path
) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        user = await world.insert_user(is_superuser=True)
        world.session_maker = async_sessionmaker(world.engine)

        form = {"username": "ann@example.org", "password": PASSWORD}
        for _ in range(2):
            assert (await world.client.post("/auth/cookie/login", data=form)).status_code == 204
            assert (await world.client.post("/auth/cookie/reauthenticate", json={"password": PASSWORD})).is_success
            assert (await world.client.post("/auth/cookie/logout")).status_code == 204
        headers = await world.log_in()
        assert (await world.client.delete(f"/users/{user.id}", headers=headers)).status_code == 204


async def test_a_user_stays_readable_when_a_transaction_fails(users: Users) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await users.create({"email": "bob@example.org", "hashed_password": "h"})

    with pytest.raises(IntegrityError):
        async with users.transaction():
            await users.update(user, {"email": "bob@example.org"})

    assert (user.email, user.oauth_accounts) == ("ann@example.org", [])


async def test_a_write_that_failed_inside_a_transaction_fails_the_transaction(users: Users) -> None:
    async def go_on_after_an_error() -> None:
        async with users.transaction():
            await users.create({"email": "ann@example.org", "hashed_password": "h"})
            with pytest.raises(IntegrityError):
                await users.create({"email": "ann@example.org", "hashed_password": "h"})

    with pytest.raises(RuntimeError, match="took those before it along"):
        await go_on_after_an_error()

    assert await users.get_by_email("ann@example.org") is None


async def test_adapters_on_one_session_wait_for_the_same_commit(users: Users, session: AsyncSession) -> None:
    others, seen = SQLAlchemyUserDatabase[User, uuid.UUID](session, User), list[str]()

    async def note() -> None:
        seen.append("done")

    async with users.transaction():
        async with others.transaction():
            await others.after_commit(note)
        assert seen == []
    assert seen == ["done"]


@pytest.mark.parametrize("inside", [False, True], ids=["outside a transaction", "inside one"])
async def test_a_refused_row_of_a_feature_leaves_the_user_readable(users: Users, inside: bool) -> None:
    store = users.store(Note)
    await store.create({"name": "taken", "number": 1})
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})

    async def create_it_again() -> None:
        async with users.transaction() if inside else nullcontext():
            await users.update(user, {})
            await store.create({"name": "taken", "number": 2})

    with pytest.raises(IntegrityError):
        await create_it_again()
    assert (user.email, user.oauth_accounts) == ("ann@example.org", [])


async def test_what_waits_in_the_session_is_committed_with_an_update(users: Users, world: World) -> None:
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    user.nickname = "Ann"
    await users.session.flush()

    await users.update(user, {})

    reloaded = await world.reload(user)
    assert reloaded is not None
    assert reloaded.nickname == "Ann"


async def test_a_registry_of_plain_sessions_works(world: World) -> None:
    engine = create_engine(world.engine.url.set(drivername="sqlite+pysqlite"))
    registry = scoped_session(sessionmaker(engine, expire_on_commit=False))
    users = SQLAlchemyUserDatabase[User, uuid.UUID](registry, User, OAuthAccount)

    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})

    assert await users.get_by_email("ANN@example.org") is user
    assert await world.reload(user) is not None
    registry.remove()
    engine.dispose()


async def test_a_registry_of_async_sessions_serves_every_route(world: World) -> None:
    """As applications of version 15 have them: a session for each task, behind one object."""
    registry = async_scoped_session(world.session_maker, asyncio.current_task)

    @asynccontextmanager
    async def session_of_this_task() -> AsyncIterator[Any]:
        yield registry
        await registry.remove()

    world.session_maker = cast("Any", session_of_this_task)
    ask = world.client.request
    ann = {"email": "ann@example.org", "password": PASSWORD}
    form = {"username": "ann@example.org", "password": PASSWORD}

    assert (await ask("POST", "/auth/register", json=ann)).status_code == 201
    assert (await ask("POST", "/auth/register", json=ann)).status_code == 400
    assert (await ask("POST", "/auth/cookie/login", data=form)).status_code == 204
    assert (await ask("GET", "/users/me")).json()["email"] == "ann@example.org"
    changed = await ask("PATCH", "/users/me", json={"email": "new@example.org"})
    assert (changed.status_code, changed.json()["email"]) == (200, "new@example.org")
    await ask("POST", "/auth/forgot-password", json={"email": "new@example.org"})
    reset = {"token": world.outbox.token(to="new@example.org"), "password": PASSWORD}
    assert (await ask("POST", "/auth/reset-password", json=reset)).status_code == 200
    headers = await world.log_in("new@example.org")
    assert (await ask("GET", "/users/me", headers=headers)).status_code == 200
    assert (await ask("POST", "/auth/cookie/login", data={**form, "username": "new@example.org"})).status_code == 204
    assert (await ask("POST", "/auth/cookie/logout")).status_code == 204

    async with session_of_this_task():
        users = SQLAlchemyUserDatabase[User, uuid.UUID](registry, User, OAuthAccount)
        user = await users.get_by_email("NEW@example.org")
        assert user is not None
        linked = await users.add_oauth_account(user, ACCOUNT)
        assert await users.get_by_oauth_account("provider", "1") is linked
        assert await users.update_where(user, {"is_active": True}, {"is_active": False}) is user
        async with users.transaction():
            await users.store(Note).create({"name": "one", "number": 1})
        assert await users.store(Note).delete_where({"number": 1}) == 1
        await users.release_connection()
        await users.delete(user)
        assert await users.get(user.id) is None


async def test_accounts_that_were_not_loaded_go_with_their_user_too(users: Users, world: World) -> None:
    """CONTRACT 16 row 14"""
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await users.add_oauth_account(user, ACCOUNT)
    async with world.session_maker() as session:
        loaded = (await session.execute(select(User).options(lazyload(User.oauth_accounts)))).scalar_one()
        await SQLAlchemyUserDatabase[User, uuid.UUID](session, User).delete(loaded)

    async with world.session_maker() as session:
        assert (await session.execute(select(OAuthAccount))).all() == []


async def test_tables_of_joined_inheritance_and_ids_of_their_own_types_work(tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    class Snowflake(TypeDecorator[int]):
        impl = BigInteger
        cache_ok = True

    class Person(SQLAlchemyBaseUserTable[int], Base):
        id: Mapped[int] = mapped_column(Snowflake, primary_key=True)
        kind: Mapped[str] = mapped_column(default="person")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 -- SQLAlchemy's

    class Employee(Person):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
        desk: Mapped[str] = mapped_column(default="")
        __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012 -- SQLAlchemy's

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        employees = SQLAlchemyUserDatabase[Employee, int](session, Employee)
        employee = await employees.create({"id": 2**60, "email": "ann@example.org", "hashed_password": "h"})
        assert await employees.reserve_email("ANN@example.org", None) is False
        assert await employees.get(2**60) is employee
        assert employees._fits_the_id_column(2**60)
    await engine.dispose()


async def test_nobody_has_no_address_or_one_that_no_column_holds(users: Users) -> None:
    await users.create({"email": "ann@example.org", "hashed_password": "h"})
    nothing: Any = None

    for email in (nothing, "", "\u00e9" * 60_000):
        assert await users.get_by_email(email) is None


async def test_a_table_tells_its_columns(session: AsyncSession) -> None:
    class OwnBase(DeclarativeBase):
        pass

    class OwnUser(SQLAlchemyBaseUserTableUUID, OwnBase):
        nickname: Mapped[str | None]
        alias = synonym("nickname")

    users = SQLAlchemyUserDatabase[OwnUser, uuid.UUID](session, OwnUser)
    names = ["email", "nickname", "alias", "role", "metadata", "registry", "oauth_accounts", "__table__"]

    assert [users.has_field(name) for name in names] == [True, True, *[False] * 6]
    assert not SQLAlchemyUserDatabase(session, User, OAuthAccount).has_field("oauth_accounts")


# An update on a condition


async def statements_of(
    world: World, work: Callable[[Any, Any], Awaitable[None]], *, users_class: type[Any] = Users
) -> list[str]:
    """Of a conditional update that ``work`` has prepared."""
    user_id = (await world.insert_user()).id
    async with world.session_maker() as session:
        users = users_class(session, User, OAuthAccount)
        user = await users.get(user_id)
        await work(users, user)
        with recorded(world) as traffic:
            assert (
                await users.update_where(user, {"hashed_password": user.hashed_password}, {"nickname": "Ann"}) is user
            )
        assert await users.update_where(user, {"hashed_password": "another"}, {"nickname": "Bob"}) is None
        assert user.nickname == "Ann"
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert reloaded.nickname == "Ann"
    return traffic.statements


DIRECT, THROUGH_THE_ORM = ["UPDATE"], ["UPDATE", "SELECT", "UPDATE"]


async def prepare_nothing(users: Any, user: Any) -> None: ...


async def test_an_update_on_a_condition_is_one_statement(world: World) -> None:
    assert await statements_of(world, prepare_nothing) == DIRECT


async def test_an_update_of_the_application_is_called_on_a_condition_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    update = SQLAlchemyUserDatabase.update

    async def own_update(self: Any, user: Any, update_dict: dict[str, Any]) -> Any:
        called.append(update_dict["nickname"])
        return await update(self, user, update_dict)

    async def on_the_instance(users: Any, user: Any) -> None:
        users.update = partial(own_update, users)

    async def as_a_patch(users: Any, user: Any) -> None:
        monkeypatch.setattr(SQLAlchemyUserDatabase, "update", own_update)

    class Own(Users):
        update = own_update

    assert await statements_of(world, prepare_nothing, users_class=Own) == THROUGH_THE_ORM
    await forget_everybody(world)
    assert await statements_of(world, on_the_instance) == THROUGH_THE_ORM
    await forget_everybody(world)
    assert await statements_of(world, as_a_patch) == THROUGH_THE_ORM
    assert called == ["Ann"] * 3


async def forget_everybody(world: World) -> None:
    async with world.engine.begin() as connection:
        await connection.execute(delete(User))


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("class", "before_update"),
        ("class", "after_update"),
        ("attribute", "set"),
        ("session", "before_flush"),
        ("session", "after_flush"),
        ("session", "after_flush_postexec"),
        ("session", "before_commit"),
        ("every class", "before_update"),
        ("every session", "before_flush"),
    ],
)
async def test_whoever_listens_to_the_orm_hears_of_an_update_on_a_condition(world: World, of: str, name: str) -> None:
    """An audit trail of the application, say."""
    heard: list[str] = []
    targets: dict[str, Any] = {
        "class": User,
        "attribute": User.nickname,
        "every class": Mapper,
        "every session": Session,
    }

    def hear(*_: Any) -> None:
        heard.append(name)

    async def listen(users: Any, user: Any) -> None:
        targets["session"] = users.session.sync_session
        event.listen(targets[of], name, hear)

    try:
        assert await statements_of(world, listen) == THROUGH_THE_ORM
    finally:
        event.remove(targets[of], name, hear)
    assert name in heard


async def test_in_a_savepoint_an_update_on_a_condition_is_undone_with_it(world: World) -> None:
    user_id = (await world.insert_user()).id
    async with world.session_maker() as session:
        users = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        user = await users.get(user_id)
        assert user is not None
        async with users.transaction():
            savepoint = await session.begin_nested()
            assert await users.update_where(user, {"nickname": None}, {"nickname": "Ann"}) is user
            await savepoint.rollback()
            await session.refresh(user)
            assert user.nickname is None


async def test_what_only_the_orm_can_write_goes_through_it_on_a_condition_too(tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    class Sealed(TypeDecorator[str]):
        """Different each time, as encryption is."""

        impl = String
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> str:
            return f"{uuid.uuid4()} {value}"

        def process_result_value(self, value: Any, dialect: Any) -> str:
            return str(value.partition(" ")[2])

    class Person(SQLAlchemyBaseUserTable[int], Base):
        id: Mapped[int] = mapped_column(primary_key=True)
        sealed: Mapped[str] = mapped_column(Sealed, default="s")
        changed: Mapped[int] = mapped_column(default=0, onupdate=7)
        kind: Mapped[str] = mapped_column(default="person")
        plain = synonym("sealed")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 -- SQLAlchemy's

    class Employee(Person):
        __tablename__ = "employee"
        id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
        desk: Mapped[str] = mapped_column(default="")
        __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012 -- SQLAlchemy's

    class Versioned(SQLAlchemyBaseUserTable[int], Base):
        __tablename__ = "versioned"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 -- SQLAlchemy's

    class Numbered(SQLAlchemyBaseUserTable[int], Base):
        __tablename__ = "numbered"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(default=1)
        heard: ClassVar[list[str]] = []

        def __setattr__(self, name: str, value: Any) -> None:
            self.heard.append(name)
            super().__setattr__(name, value)

    cases: list[tuple[type[Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        (Person, {"sealed": "s"}, {"is_verified": True}, {"is_verified": True, "changed": 7}),
        (Person, {"plain": "s"}, {"is_verified": True}, {"is_verified": True, "changed": 7}),
        (Person, {"hashed_password": "h"}, {"is_verified": True}, {"is_verified": True, "changed": 7}),
        (Employee, {"hashed_password": "h"}, {"desk": "d", "email": "e@example.org"}, {"desk": "d", "changed": 7}),
        (Versioned, {"hashed_password": "h"}, {"is_verified": True}, {"is_verified": True, "version": 2}),
        (Numbered, {"hashed_password": "h"}, {"number": 5}, {"number": 5}),
        (Numbered, {"hashed_password": "h"}, {"stray": 5}, {"stray": 5}),
    ]
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    for number, (table, expected, change, found) in enumerate(cases):
        async with AsyncSession(engine, expire_on_commit=False) as session:
            users = SQLAlchemyUserDatabase[Any, int](session, table)
            user = await users.create({"email": f"{number}@example.org", "hashed_password": "h"})
            Numbered.heard.clear()
            wrong = dict.fromkeys(expected, "wrong")

            assert await users.update_where(user, wrong, change) is None
            assert await users.update_where(user, expected, change) is user
            assert {name: getattr(user, name) for name in found} == found
            assert table is not Numbered or Numbered.heard[-1] in change
    async with AsyncSession(engine, expire_on_commit=False) as session:
        users = SQLAlchemyUserDatabase[Any, int](session, Numbered)
        five: Any = await users.get_by_email("5@example.org")
        updated: Any = await users.update_where(five, {"number": 5}, {"number": Numbered.number + 1})
        assert (updated is five, five.number) == (True, 6)
    await engine.dispose()


@pytest.mark.parametrize("inside", [False, True], ids=["outside a transaction", "inside one"])
async def test_what_the_database_refuses_comes_through_an_update_on_a_condition(users: Users, inside: bool) -> None:
    await users.create({"email": "ann@example.org", "hashed_password": "h"})
    bob = await users.create({"email": "bob@example.org", "hashed_password": "h"})

    async def take_the_address() -> None:
        async with users.transaction() if inside else nullcontext():
            await users.update_where(bob, {"hashed_password": "h"}, {"email": "ann@example.org"})

    with pytest.raises(IntegrityError):
        await take_the_address()
    assert (bob.email, bob.oauth_accounts) == ("bob@example.org", [])


class OwnUpdate(Users):
    update = SQLAlchemyUserDatabase.create  # type: ignore[assignment]  # it is never called


@pytest.mark.parametrize("users_class", [Users, OwnUpdate])
async def test_a_user_who_is_gone_is_not_updated_on_a_condition(world: World, users_class: type[Any]) -> None:
    user_id = (await world.insert_user()).id
    async with world.session_maker() as session:
        users = users_class(session, User, OAuthAccount)
        user = await users.get(user_id)
        await forget_everybody(world)

        assert await users.update_where(user, {"hashed_password": user.hashed_password}, {"nickname": "Ann"}) is None


async def test_where_the_condition_does_not_hold_what_waits_in_the_session_is_not_written(
    users: Users, world: World
) -> None:
    user: Any = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    user.nickname = "Ann"

    assert await users.update_where(user, {"hashed_password": "other"}, {"is_verified": True}) is None

    reloaded = await world.reload(user)
    assert reloaded is not None
    assert (reloaded.nickname, user.nickname) == (None, None)
    assert user.oauth_accounts == []


# Tokens of deleted users


async def test_the_tokens_of_a_deleted_user_do_not_open_the_account_of_the_next_one(tmp_path: Path) -> None:
    """D20: SQLite enforces foreign keys only where each connection asks for it, and gives ids again."""

    class Base(DeclarativeBase):
        pass

    class Person(SQLAlchemyBaseUserTable[int], Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Token(SQLAlchemyBaseAccessTokenTable[int], Base):
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="cascade"))

    class Machine(Base):
        __tablename__ = "machine"
        id: Mapped[int] = mapped_column(primary_key=True)

    class MachineToken(SQLAlchemyBaseAccessTokenTable[int], Base):
        __tablename__ = "machine_token"
        user_id: Mapped[int] = mapped_column(ForeignKey("machine.id"))

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        users = SQLAlchemyUserDatabase[Person, int](session, Person)
        tokens = SQLAlchemyAccessTokenDatabase[Any](session, Token)
        machines = SQLAlchemyAccessTokenDatabase[Any](session, MachineToken)
        bob = await users.create({"email": "bob@example.org", "hashed_password": "h"})
        ann = await users.create({"email": "ann@example.org", "hashed_password": "h"})
        for user in (ann, bob):
            await tokens.create({"token": user.email, "user_id": user.id})
        await machines.create({"token": "M", "user_id": ann.id})

        await users.delete(ann)
        next_one = await users.create({"email": "cleo@example.org", "hashed_password": "h"})

        assert next_one.id == ann.id
        assert await tokens.get_by_token("ann@example.org") is None
        assert await tokens.get_by_token("bob@example.org") is not None
        assert await machines.get_by_token("M") is not None
    await engine.dispose()


# Look-ups that cost less


@pytest.fixture
async def token(session: AsyncSession, users: Users) -> str:
    """Of Ann, who is in the database, and not in the session any more."""
    user = await users.create({"email": "ann@example.org", "hashed_password": "h"})
    await SQLAlchemyAccessTokenDatabase(session, AccessToken).create({"token": "t", "user_id": user.id})
    session.expunge_all()
    await session.rollback()
    return "t"


async def get_by_token(users: Users, token: str = "t") -> Any:
    return await users.get_with_user(AccessToken, {"token": token, "created_at": at_least(OLDEST)})


async def test_a_row_and_its_user_come_with_one_statement(users: Users, token: str, world: World) -> None:
    with recorded(world) as traffic:
        row = await get_by_token(users)
        user = await users.get(row.user_id)

    assert traffic.statements == ["SELECT"]
    assert (row.token, row.created_at.tzinfo, user and user.email) == (token, timezone.utc, "ann@example.org")


async def test_a_row_is_found_by_every_kind_of_condition(users: Users, token: str) -> None:
    for where, is_found in (
        ({"token": one_of(["s", "t"])}, True),
        ({"token": one_of(["s"])}, False),
        ({"token": none_of(["s"])}, True),
        ({"token": other_than("t")}, False),
        ({"token": other_than(None)}, True),
        ({"token": None}, False),
        ({"created_at": at_most(datetime.now(timezone.utc))}, True),
        ({"created_at": less_than(datetime(2000, 1, 1, tzinfo=timezone.utc))}, False),
    ):
        assert (await users.get_with_user(AccessToken, where) is not None) is is_found


async def test_a_row_whose_user_is_gone_is_found_all_the_same(users: Users, token: str, session: AsyncSession) -> None:
    await session.execute(delete(User))
    row = await get_by_token(users)
    assert row.token == token
    assert await users.get(row.user_id) is None


async def test_a_model_that_does_not_refer_to_users_is_read_alone(users: Users, session: AsyncSession) -> None:
    session.add(Note(name="one", number=1))
    await session.commit()
    found = await users.get_with_user(Note, {"name": "one"}, user_id="number")
    assert (found and found.number) == 1


async def test_a_filter_of_the_application_is_not_gone_past(session: AsyncSession, token: str) -> None:
    """CONTRACT 18.1: every look-up of a user comes through it."""
    statements = []

    class Filtered(Users):
        async def _get_user(self, statement: Select[Any]) -> User | None:
            statements.append(statement)
            return await super()._get_user(statement.filter_by(is_superuser=True))

    users = Filtered(session, User)
    row = await get_by_token(users)
    assert await users.get(row.user_id) is None
    assert len(statements) == 1

    users = Filtered(session, User)
    found = await SQLAlchemyUserDatabase[User, uuid.UUID](session, User).get(row.user_id)
    assert found is not None
    assert await users.get_by_email(found.email) is None


async def test_a_look_up_that_is_replaced_later_is_asked(users: Users, token: str) -> None:
    row = await get_by_token(users)
    users._get_user = AsyncMock(return_value=None)  # type: ignore[method-assign]  # as a spy of a test
    assert await users.get(row.user_id) is None


async def test_a_user_is_at_hand_once(users: Users, token: str, world: World) -> None:
    row = await get_by_token(users)
    async with world.session_maker() as other:
        await other.execute(delete(User))
        await other.commit()

    assert await users.get(row.user_id) is not None
    assert await users.get(row.user_id) is None


async def test_a_user_at_hand_is_read_again_once_the_transaction_is_over(
    users: Users, token: str, world: World, session: AsyncSession
) -> None:
    row = await get_by_token(users)
    async with world.session_maker() as other:
        await other.execute(delete(User))
        await other.commit()

    await session.rollback()
    assert await users.get(row.user_id) is None


async def test_a_user_at_hand_is_read_again_inside_of_a_transaction(users: Users, token: str, world: World) -> None:
    row = await get_by_token(users)
    with recorded(world) as traffic:
        async with users.transaction():
            assert await users.get(row.user_id) is not None
    assert traffic.statements == ["SELECT"]


async def test_a_user_at_hand_is_read_again_where_the_application_has_sent_something(
    users: Users, token: str, session: AsyncSession, world: World
) -> None:
    """Of plain SQL the session does not know what it did. What came before the user was read changes nothing."""
    await session.execute(text("SELECT 1"))
    row = await get_by_token(users)
    with recorded(world) as traffic:
        assert await users.get(row.user_id) is not None
    assert traffic.statements == []

    row = await get_by_token(users)
    await session.execute(text('DELETE FROM "user"'))
    assert await users.get(row.user_id) is None


async def test_a_user_at_hand_is_nobody_else(users: Users, token: str) -> None:
    await get_by_token(users)
    assert await users.get(uuid.uuid4()) is None


async def test_whether_a_user_is_at_hand(users: Users, token: str, world: World, session: AsyncSession) -> None:
    row = await get_by_token(users)
    user = await users.get(row.user_id)
    assert user is not None
    assert users.is_at_hand(user)
    assert not users.is_at_hand(cast("User", object()))
    assert not users.is_at_hand(User(email="new@example.org"))
    async with world.session_maker() as other:
        assert not Users(other, User).is_at_hand(user)
    session.expire(user)
    assert not users.is_at_hand(user)
    await session.refresh(user)
    await session.delete(user)
    assert not users.is_at_hand(user)
    await session.rollback()
    assert not users.is_at_hand(user)  # which expired it


async def test_a_shared_user_whom_a_commit_of_the_application_expires_is_read_again(world: World) -> None:
    """In an async session, reading an attribute of it would be an error."""
    await world.insert_user()
    headers = await world.log_in()
    world.session_maker.configure(expire_on_commit=True)
    users = world.fastapi_users

    async def commit(
        user: User = Depends(users.current_user()), manager: Any = Depends(users.get_user_manager)
    ) -> None:
        await manager.user_db.session.commit()

    @world.app.get("/twice", dependencies=[Depends(commit)])
    async def twice(user: User = Depends(users.current_user(active=True))) -> str:
        return user.email

    assert (await world.client.get("/twice", headers=headers)).json() == "ann@example.org"


async def test_the_token_adapter_reads_alone_what_is_not_read_together(
    session: AsyncSession, users: Users, token: str, world: World
) -> None:
    class Own(SQLAlchemyAccessTokenDatabase[AccessToken]):
        async def get_by_token(self, token: str, max_age: datetime | None = None) -> AccessToken | None:
            return await super().get_by_token(token.lower(), max_age)

    own = await Own(session, AccessToken).get_by_token_with_user("T", None, users)
    assert isinstance(own, AccessToken)
    async with world.session_maker() as other:
        found = await SQLAlchemyAccessTokenDatabase(session, AccessToken).get_by_token_with_user(
            token, OLDEST, Users(other, User)
        )
    assert isinstance(found, AccessToken)
    assert await SQLAlchemyAccessTokenDatabase(session, AccessToken).get_by_token_with_user("\0", None, users) is None


async def test_overrides_of_the_application_decide_who_the_user_of_a_token_is(world: World, token: str) -> None:
    class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = SECRET

        async def get(self, id: uuid.UUID) -> User:
            user = await super().get(id)
            return User(id=user.id, email="other@example.org")

    async with world.session_maker() as session:
        manager = Manager(Users(session, User))
        strategy = DatabaseStrategy[User, uuid.UUID, AccessToken](SQLAlchemyAccessTokenDatabase(session, AccessToken))
        found = await strategy.read_token(token, manager)
    assert found is not None
    assert found.email == "other@example.org"


async def test_nothing_is_read_of_a_token_but_its_user(
    session: AsyncSession, users: Users, token: str, world: World
) -> None:
    tokens = SQLAlchemyAccessTokenDatabase[AccessToken](session, AccessToken)
    with recorded(world) as traffic:
        for max_age in (OLDEST, None):
            row = await tokens.get_by_token_with_user(token, max_age, users)
            assert row is not None
            assert (row.token, hasattr(row, "created_at")) == (token, False)
            user = await users.get(row.user_id)
            assert (user and user.email) == "ann@example.org"
    assert traffic.statements == ["SELECT", "SELECT"]

    later = datetime.now(timezone.utc) + timedelta(seconds=60)
    assert await tokens.get_by_token_with_user(token, later, users) is None
    assert await tokens.get_by_token_with_user("another", None, users) is None


async def test_a_look_up_of_rows_with_their_users_that_is_the_application_s_is_asked(
    session: AsyncSession, token: str
) -> None:
    class Own(Users):
        async def get_with_user(self, model: Any, where: Any, *, user_id: str = "user_id") -> Any:
            return None

    tokens = SQLAlchemyAccessTokenDatabase[AccessToken](session, AccessToken)
    assert await tokens.get_by_token_with_user(token, OLDEST, Own(session, User)) is None


async def test_a_token_is_read_itself_where_another_may_be_found_for_it(tmp_path: Path) -> None:
    """A digest that was stolen must not be sent in another spelling: the strategy looks at what is stored."""

    class Base(DeclarativeBase):
        pass

    class Person(SQLAlchemyBaseUserTable[int], Base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Token(SQLAlchemyBaseAccessTokenTable[int], Base):
        token: Mapped[str] = mapped_column(String(43, collation="NOCASE"), primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

    class LooseToken(SQLAlchemyBaseAccessTokenTable[int], Base):
        __tablename__ = "loose_token"
        user_id: Mapped[int]

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        users = SQLAlchemyUserDatabase[Person, int](session, Person)
        ann = await users.create({"email": "ann@example.org", "hashed_password": "h"})
        for table in (Token, LooseToken):
            tokens = SQLAlchemyAccessTokenDatabase[Any](session, table)
            await tokens.create({"token": "stored", "user_id": ann.id})
            row: Any = await tokens.get_by_token_with_user("STORED" if table is Token else "stored", None, users)
            assert (row.token, row.user_id) == ("stored", ann.id)
            assert await tokens.get_by_token_with_user("\u017ftored", None, users) is None
    await engine.dispose()
