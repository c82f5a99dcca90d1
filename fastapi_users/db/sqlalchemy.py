"""Tables and adapters for SQLAlchemy 2: the names and columns of ``fastapi-users-db-sqlalchemy`` 7."""

import math
import re
import unicodedata
import uuid
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import lru_cache, partial
from operator import eq, ge, gt, le, lt, ne
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.base import ProvenCredentials
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase
from fastapi_users.db.base import BaseUserDatabase, run_callbacks
from fastapi_users.db.store import Condition, Increment, M, Missing, Store, Where, at_least, none_of
from fastapi_users.exceptions import CredentialsChanged, OAuthAccountNotExists
from fastapi_users.models import ID, OAP, UP
from fastapi_users.schemas import is_storable

with needs_extra("sqlalchemy"):
    from sqlalchemy import (
        CHAR,
        TIMESTAMP,
        BigInteger,
        Boolean,
        ClauseElement,
        Connection,
        Dialect,
        Engine,
        ForeignKey,
        Function,
        Index,
        Integer,
        LargeBinary,
        Result,
        Select,
        SmallInteger,
        String,
        Table,
        Text,
        UniqueConstraint,
        bindparam,
        delete,
        event,
        false,
        func,
        inspect,
        literal,
        literal_column,
        select,
        text,
        update,
    )
    from sqlalchemy import cast as sql_cast
    from sqlalchemy.dialects import mysql
    from sqlalchemy.dialects.postgresql import UUID
    from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, SAWarning, SQLAlchemyError
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        async_scoped_session,
        async_sessionmaker,
    )
    from sqlalchemy.orm import (
        Mapped,
        Mapper,
        RelationshipDirection,
        Session,
        SessionTransaction,
        SessionTransactionOrigin,
        declared_attr,
        mapped_column,
        scoped_session,
        sessionmaker,
    )
    from sqlalchemy.orm.attributes import set_committed_value
    from sqlalchemy.types import TypeDecorator, TypeEngine

R = TypeVar("R")

UUID_ID = uuid.UUID
_MYSQL = ("mysql", "mariadb")
# Deadlock and conflict of isolation: the code of PostgreSQL (its documentation, appendix A), the number of MariaDB.
_GIVEN_UP = ("40P01", "40001", 1213, 1020)


class GUID(TypeDecorator[UUID_ID]):
    """A UUID: PostgreSQL's own type, elsewhere its text with hyphens."""

    class UUIDChar(CHAR):
        python_type = type[UUID_ID]  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType] -- upstream's

    impl = UUIDChar
    cache_ok = True

    # Alembic writes the module of a type into the migrations it generates. Those of existing applications import
    # this one (their script.py.mako does), so that ours must not introduce another.
    __module__ = "fastapi_users_db_sqlalchemy.generics"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(UUID(as_uuid=False))
        return dialect.type_descriptor(CHAR(36))

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID_ID | None:
        if value is None or isinstance(value, uuid.UUID):
            return value
        return uuid.UUID(value)


class TIMESTAMPAware(TypeDecorator[datetime]):
    """A time in UTC that comes back with its time zone where the database does not keep one."""

    impl = TIMESTAMP
    cache_ok = True
    __module__ = "fastapi_users_db_sqlalchemy.generics"

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and dialect.name != "postgresql":
            return value.replace(tzinfo=timezone.utc)
        return value


class PreciseTIMESTAMPAware(TIMESTAMPAware):
    """The same with microseconds on MySQL and MariaDB, for columns that put rows in order or decide by parts of a second.

    Their TIMESTAMP keeps whole seconds. It also depends on the zone of the connection, ends in 2038, and in older versions
    the first one of a table is written at every change of a row (``explicit_defaults_for_timestamp``).
    """

    cache_ok = True
    __module__ = "fastapi_users_db_sqlalchemy.generics"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return super().load_dialect_impl(dialect)


def now_utc() -> datetime:
    return datetime.now(timezone.utc)


# The columns stand twice: as the type checkers have to see them, so that a table is a UserProtocol, and as
# SQLAlchemy has to.


_EMAIL_LENGTH = 320


def _exact_text(length: int) -> String:
    """Compared as it is, also where the usual collations take one letter case, or one accent, for another."""
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, *_MYSQL)


class SQLAlchemyBaseUserTable(Generic[ID]):
    """Mix it into a declarative class of yours and add the primary key ``id``."""

    __tablename__ = "user"

    if TYPE_CHECKING:
        id: ID
        email: str
        hashed_password: str
        is_active: bool
        is_superuser: bool
        is_verified: bool
    else:
        email: Mapped[str] = mapped_column(String(length=_EMAIL_LENGTH), unique=True, index=True, nullable=False)
        hashed_password: Mapped[str] = mapped_column(String(length=1024), nullable=False)
        is_active: Mapped[bool] = mapped_column(Boolean, default=True, nullable=False)
        is_superuser: Mapped[bool] = mapped_column(Boolean, default=False, nullable=False)
        is_verified: Mapped[bool] = mapped_column(Boolean, default=False, nullable=False)


class SQLAlchemyBaseUserTableUUID(SQLAlchemyBaseUserTable[UUID_ID]):
    if TYPE_CHECKING:
        id: UUID_ID
    else:
        id: Mapped[UUID_ID] = mapped_column(GUID, primary_key=True, default=uuid.uuid4)


class SQLAlchemyBaseOAuthAccountTable(Generic[ID]):
    """Mix it into a declarative class of yours and add ``id`` and the foreign key ``user_id``."""

    __tablename__ = "oauth_account"

    if TYPE_CHECKING:
        id: ID
        oauth_name: str
        access_token: str
        expires_at: int | None
        refresh_token: str | None
        account_id: str
        account_email: str
    else:
        oauth_name: Mapped[str] = mapped_column(String(length=100), index=True, nullable=False)
        access_token: Mapped[str] = mapped_column(String(length=1024), nullable=False)
        expires_at: Mapped[int | None] = mapped_column(Integer, nullable=True)
        refresh_token: Mapped[str | None] = mapped_column(String(length=1024), nullable=True)
        account_id: Mapped[str] = mapped_column(String(length=320), index=True, nullable=False)
        account_email: Mapped[str] = mapped_column(String(length=320), nullable=False)


class SQLAlchemyBaseOAuthAccountTableUUID(SQLAlchemyBaseOAuthAccountTable[UUID_ID]):
    if TYPE_CHECKING:
        id: UUID_ID
        user_id: UUID_ID
    else:
        id: Mapped[UUID_ID] = mapped_column(GUID, primary_key=True, default=uuid.uuid4)

        @declared_attr
        def user_id(cls) -> Mapped[UUID_ID]:
            return mapped_column(GUID, ForeignKey("user.id", ondelete="cascade"), nullable=False)


class SQLAlchemyBaseAccessTokenTable(Generic[ID]):
    """Mix it into a declarative class of yours and add the foreign key ``user_id``."""

    __tablename__ = "accesstoken"

    if TYPE_CHECKING:
        token: str
        created_at: datetime
        user_id: ID
    else:
        token: Mapped[str] = mapped_column(String(length=43), primary_key=True)
        created_at: Mapped[datetime] = mapped_column(
            TIMESTAMPAware(timezone=True), index=True, nullable=False, default=now_utc
        )


class SQLAlchemyBaseAccessTokenTableUUID(SQLAlchemyBaseAccessTokenTable[UUID_ID]):
    if TYPE_CHECKING:
        user_id: UUID_ID
    else:

        @declared_attr
        def user_id(cls) -> Mapped[UUID_ID]:
            return mapped_column(GUID, ForeignKey("user.id", ondelete="cascade"), nullable=False)


class SQLAlchemyBaseOneTimeSecretTable:
    """Mix it into a declarative class of yours: what :mod:`fastapi_users.one_time` keeps.

    No foreign key: a subject is a user's id for one purpose, and an address that no user has yet for another.
    """

    __tablename__ = "one_time_secret"

    if TYPE_CHECKING:
        digest: str
        purpose: str
        subject: str
        tries: int
        created_at: datetime
        expires_at: datetime
        used_at: datetime | None
    else:
        digest: Mapped[str] = mapped_column(_exact_text(64), primary_key=True)
        purpose: Mapped[str] = mapped_column(_exact_text(32), nullable=False)
        subject: Mapped[str] = mapped_column(_exact_text(_EMAIL_LENGTH), index=True, nullable=False)
        tries: Mapped[int] = mapped_column(Integer, default=0, nullable=False)
        created_at: Mapped[datetime] = mapped_column(TIMESTAMPAware(timezone=True), nullable=False, default=now_utc)
        expires_at: Mapped[datetime] = mapped_column(TIMESTAMPAware(timezone=True), index=True, nullable=False)
        used_at: Mapped[datetime | None] = mapped_column(TIMESTAMPAware(timezone=True), nullable=True)


class SQLAlchemyBaseDeniedTokenTable:
    """Mix it into a declarative class of yours: what :class:`~fastapi_users.authentication.strategy.StoreDenylist`
    keeps of JWTs that were ended.
    """

    __tablename__ = "denied_token"

    if TYPE_CHECKING:
        digest: str
        value: str
        expires_at: datetime | None
    else:
        digest: Mapped[str] = mapped_column(_exact_text(43), primary_key=True)
        value: Mapped[str] = mapped_column(_exact_text(255), nullable=False)
        expires_at: Mapped[datetime | None] = mapped_column(TIMESTAMPAware(timezone=True), index=True, nullable=True)


class SQLAlchemyUniqueEmailMixin:
    """For new tables: mix it in beside the user table, and the database itself refuses an address in another letter case.

    It makes the index on ``lower(email)`` unique, which every table of ours has on PostgreSQL and SQLite. The columns
    stay the same. Registering then takes two statements; without it a lock has to guard the address.
    """


class SQLAlchemyWideOAuthAccountMixin:
    """For new tables: mix it in beside the OAuth account table, and tokens of any length and times after 2038 fit."""

    if TYPE_CHECKING:
        access_token: str
        refresh_token: str | None
        expires_at: int | None
    else:
        access_token: Mapped[str] = mapped_column(Text, nullable=False)
        refresh_token: Mapped[str | None] = mapped_column(Text, nullable=True)
        expires_at: Mapped[int | None] = mapped_column(BigInteger, nullable=True)


class SQLAlchemyUniqueOAuthAccountMixin:
    """For new tables: mix it in beside the OAuth account table, and the database itself refuses a second link.

    An account at a provider then is in one row, whoever writes it, and on MariaDB ids that differ in letter case only
    are two. The columns are as wide as ever.
    """

    if TYPE_CHECKING:
        oauth_name: str
        account_id: str
    else:
        oauth_name: Mapped[str] = mapped_column(_exact_text(100), index=True, nullable=False)
        account_id: Mapped[str] = mapped_column(_exact_text(320), index=True, nullable=False)


def _has_expression_indexes(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name in _EXPRESSION_INDEXES


# Indexes, without which look-ups and deletions read whole tables. They are added when a class is mapped, and not in
# __table_args__, because that belongs to the application. Existing tables work without them.


@event.listens_for(SQLAlchemyBaseUserTable, "after_mapper_constructed", propagate=True)
def _index_lower_email(mapper: Mapper[Any], class_: type[Any]) -> None:
    table, column = cast("Table", mapper.local_table), mapper.columns.get("email")
    if column is not None and column.table is table and _lower_email_index(column) is None:
        # MariaDB has no index on expressions; its collations compare without regard to letter case anyway.
        Index(
            f"ix_{table.name}_email_lower",
            func.lower(column),
            unique=issubclass(class_, SQLAlchemyUniqueEmailMixin),
        ).ddl_if(callable_=_has_expression_indexes)


@event.listens_for(SQLAlchemyBaseOAuthAccountTable, "after_mapper_constructed", propagate=True)
def _make_account_unique(mapper: Mapper[Any], class_: type[Any]) -> None:
    table, names = cast("Table", mapper.local_table), ("oauth_name", "account_id")
    is_constrained = any(
        isinstance(constraint, UniqueConstraint) and {*constraint.columns.keys()} == {*names}
        for constraint in table.constraints
    )
    if issubclass(class_, SQLAlchemyUniqueOAuthAccountMixin) and not is_constrained:
        table.append_constraint(UniqueConstraint(*names, name=f"uq_{table.name}_account"))


@event.listens_for(SQLAlchemyBaseOAuthAccountTable, "after_mapper_constructed", propagate=True)
@event.listens_for(SQLAlchemyBaseAccessTokenTable, "after_mapper_constructed", propagate=True)
def _index_user_id(mapper: Mapper[Any], _class: type[Any]) -> None:
    table = cast("Table", mapper.local_table)
    column = table.columns.get("user_id")
    if column is not None and not any(list(index.columns)[:1] == [column] for index in table.indexes):
        Index(f"ix_{table.name}_user_id", column)


def _lower_email_index(column: Any) -> Index | None:
    for index in column.table.indexes:
        for expression in index.expressions:
            if isinstance(expression, Function) and expression.name == "lower" and column in expression.clauses:
                return cast("Index", index)
    return None


_LOOK_UP: dict[str, Any] = {"fastapi_users_look_up": True}

# A transaction may end early if nothing ran in it but look-ups of ours: neither writes nor locks nor settings of the
# application are lost. What runs in it, the engine alone sees all of. The events of its connections took a twentieth of
# the instructions of a request, in every application; these of the dialect are two calls, and come first, since a listener
# of the application may end their round.


@event.listens_for(Engine, "do_execute", insert=True)
@event.listens_for(Engine, "do_executemany", insert=True)
def _note_statement(_cursor: Any, _statement: str, _parameters: Any, context: Any) -> None:
    if "fastapi_users_look_up" not in context.execution_options:
        # Until a session gives it back: the object is not used again. When it last did.
        context.root_connection.fastapi_users_ran_more = monotonic()


@event.listens_for(Engine, "do_execute_no_params", insert=True)
def _note_statement_without_parameters(cursor: Any, statement: str, context: Any) -> None:
    _note_statement(cursor, statement, (), context)


def _idle_connections(session: Session, transaction: SessionTransaction) -> list[Connection]:
    """Those that the transaction may give back; none where the application may count on it."""
    if (
        transaction.origin is not SessionTransactionOrigin.AUTOBEGIN  # with session.begin(): the application's
        or session.in_nested_transaction()
        or session.new
        or session.dirty
        or session.deleted
    ):
        return []
    # SQLAlchemy has a public name for it since 2.1.7, which does not tell whose the connections are.
    entries = {*getattr(transaction, "_connections", {}).values()}
    are_idle = all(
        may_commit
        and is_of_a_pool
        and not connection.closed
        and not hasattr(connection, "fastapi_users_ran_more")
        # The next one would not have those that the application has set on this: another schema, say.
        and connection.get_execution_options() == connection.engine.get_execution_options()
        for connection, _, may_commit, is_of_a_pool in entries
    )
    return [connection for connection, *_ in entries] if are_idle else []


def _ran_more_since(moment: float, transaction: SessionTransaction | None) -> bool:
    """A DELETE of the application, say, of which the session knows nothing if it is plain SQL."""
    for entry in getattr(transaction, "_connections", {}).values():  # not any(…), which takes three times as long
        if getattr(entry[0], "fastapi_users_ran_more", 0) >= moment:
            return True
    return False


def _give_back(transaction: SessionTransaction, connections: list[Connection]) -> None:
    """Neither a commit nor a rollback of the session, which would make it forget what it has loaded."""
    try:
        transaction.close()
    finally:
        for connection in connections:
            connection.close()


_REGISTRIES = (async_scoped_session, scoped_session)


class _SessionCalls:
    """One face for async sessions and plain ones, which run in worker threads."""

    def __init__(
        self, session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]"
    ) -> None:
        # The session of this thread or task, and not the registry, which would give the worker threads others.
        self.session: Any = session() if isinstance(session, _REGISTRIES) else session
        self.is_sync = isinstance(self.session, Session)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        bound = getattr(self.session, method)
        return await self._in_thread(partial(bound, *args, **kwargs)) if self.is_sync else await bound(*args, **kwargs)

    async def execute(
        self, statement: Any, read: Callable[[Result[Any]], R], values: Mapping[str, Any] | None = None, **options: Any
    ) -> R:
        """Rows of a plain session are read in its thread as well."""
        if self.is_sync:
            return await self._in_thread(
                lambda: read(self.session.execute(statement, values, execution_options=options))
            )
        return read(await self.session.execute(statement, values, execution_options=options))

    async def run(self, function: Callable[[Session], R]) -> R:
        """What SQLAlchemy has no asynchronous way for."""
        if self.is_sync:
            return await self._in_thread(partial(function, self.session))
        found: R = await self.session.run_sync(function)
        return found

    @property
    def sync_session(self) -> Session:
        return cast("Session", self.session if self.is_sync else self.session.sync_session)

    async def _in_thread(self, function: Callable[[], R]) -> R:
        # A session that holds a connection always finds a thread: were all of them taken by sessions that wait for a
        # connection, nobody could go on to give one back.
        limiter = anyio.CapacityLimiter(math.inf) if self.session.in_transaction() else None
        return await anyio.to_thread.run_sync(function, limiter=limiter)

    async def save(self) -> None:
        """Commit, or, inside ``transaction()``, flush. What the database refuses is rolled back before it is raised."""
        try:
            await self.call("flush" if self.open_transaction else "commit")
        except BaseException:
            await self.rollback()
            raise

    async def rollback(self) -> None:
        if self.open_transaction is not None:
            self.open_transaction.has_failed = True
        with anyio.CancelScope(shield=True):
            await self.call("rollback")

    async def release(self) -> None:
        session = getattr(self.session, "sync_session", self.session)
        transaction = session.get_transaction() if isinstance(session, Session) else None
        connections = [] if transaction is None else _idle_connections(session, transaction)
        if transaction is not None and connections:
            give_back = partial(_give_back, transaction, connections)
            with anyio.CancelScope(shield=True):
                await (self._in_thread(give_back) if self.is_sync else self.session.run_sync(lambda _: give_back()))

    @property
    def open_transaction(self) -> "_OpenTransaction | None":
        return cast("_OpenTransaction | None", self.sync_session.info.get(_OpenTransaction))

    async def complete(self, row: Any, *, is_new: bool = False) -> None:
        """Load what reading the row would otherwise load one by one, which an async session cannot do."""
        if self.open_transaction is not None:
            self.open_transaction.rows.append(row)
        state: Any = inspect(row)
        if state.expired_attributes:
            await self.call("refresh", row)
            return
        missing: list[str] = []
        for relationship in state.mapper.relationships:
            if relationship.lazy not in _EAGER or relationship.key in state.dict:
                continue
            is_referred_to = relationship.direction is not RelationshipDirection.MANYTOONE and not relationship.viewonly
            if is_new and is_referred_to:  # by nobody yet
                set_committed_value(row, relationship.key, [] if relationship.uselist else None)
            else:
                missing.append(relationship.key)
        if missing:
            await self.call("refresh", row, missing)

    async def restore(self, row: Any) -> None:
        """After a rollback, which expires what was loaded: the caller may want to read its user all the same."""
        try:
            await self.call("refresh", row)
        except SQLAlchemyError:  # it is not in the database, or that is gone: the error that led here says more
            return

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if self.open_transaction is not None:
            yield
            return
        transaction = self.session.info[_OpenTransaction] = _OpenTransaction()
        try:
            yield
            transaction.refuse_if_failed()
            await self.call("commit")
        except BaseException:
            await self.rollback()
            for row in transaction.rows:
                await self.restore(row)
            raise
        finally:
            del self.session.info[_OpenTransaction]
        for row in transaction.rows:
            if inspect(row).expired_attributes:  # by a session made with expire_on_commit=True
                await self.restore(row)
        await run_callbacks(transaction.callbacks)


class _OpenTransaction:
    """Kept in ``session.info``, which all adapters on a session share."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.callbacks: list[Callable[[], Awaitable[None]]] = []
        self.has_failed = False
        self.reads_with_locks = False

    def refuse_if_failed(self) -> None:
        if self.has_failed:
            raise RuntimeError("A write inside the transaction failed, and took those before it along.")


_EAGER = ("joined", "selectin", "subquery", "immediate", False)


def _is_same_address(one: str, other: str) -> bool:
    return _folded(one) == _folded(other)


def _folded(email: str) -> str:
    # Not casefold(), which makes one address of straße@ and strasse@.
    return unicodedata.normalize("NFC", email).lower()


class SQLAlchemyUserDatabase(BaseUserDatabase[UP, ID], Generic[UP, ID]):
    """Users in a table. Every write commits at once, unless inside :meth:`transaction`.

    What the database raises comes through as it is, after a rollback, so that the session stays usable.

    :param session: an ``AsyncSession``, made with ``expire_on_commit=False`` since the routes read the user after the
        commit; or a plain ``Session``, whose work is done in threads; or a registry of either.
    :param oauth_account_table: needed by the OAuth routes, together with a relationship ``oauth_accounts`` that is
        loaded eagerly (``lazy="joined"``).
    :cvar releases_connections: while a password is hashed, others may use the connection, unless anything but look-ups
        of the adapter ran in the transaction.
    :raises TypeError: the first two are in the wrong order, or there is no such relationship.
    """

    session: AsyncSession
    user_table: type[UP]
    oauth_account_table: type[SQLAlchemyBaseOAuthAccountTable[Any]] | None
    releases_connections: bool = True

    # The user that was read last, in which transaction, and when; also of a subclass with an __init__ of its own.
    _last_read: tuple[Any, UP, float] | None = None

    def __init__(
        self,
        session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]",
        user_table: type[UP],
        oauth_account_table: type[SQLAlchemyBaseOAuthAccountTable[Any]] | None = None,
    ) -> None:
        if isinstance(session, _NO_SESSIONS) or not isinstance(user_table, type):
            raise TypeError(
                "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users."
            )
        if not hasattr(user_table, "__mapper__") and issubclass(user_table, SQLAlchemyBaseUserTable):
            raise TypeError(
                f"{user_table.__name__} is no table of SQLAlchemy: write class {user_table.__name__}("
                "SQLAlchemyBaseUserTableUUID, Base), with the declarative base of your tables."
            )
        if oauth_account_table is not None and not hasattr(user_table, "oauth_accounts"):
            raise TypeError(
                f"{user_table.__name__} has no oauth_accounts, which accounts at providers need: write in it "
                f'oauth_accounts: Mapped[list[{oauth_account_table.__name__}]] = relationship(lazy="joined").'
            )
        self.session = cast("AsyncSession", session)
        self.user_table = user_table
        self.oauth_account_table = oauth_account_table

    @property
    def _calls(self) -> _SessionCalls:
        return _SessionCalls(self.session)  # made anew: applications exchange the session of an adapter

    async def get(self, id: ID) -> UP | None:
        if isinstance(id, int) and self._dialect == "postgresql" and not self._fits_the_id_column(id):
            return None  # asyncpg refuses to ask
        known = None if self._last_read is None else self._get_last_read(id)
        return await self._look_up(_by_id, id) if known is None else known

    async def get_with_user(self, model: type[M], where: Where, *, user_id: str = "user_id") -> M | None:
        """One statement, where the column refers to the id of the users and the application has no look-up of its own."""
        shape, values = [], {}
        for name, value in where.items():
            is_condition = isinstance(value, Condition)
            shape.append((name, value.operator if is_condition else None))
            values[f"value_{name}"] = value.operand if is_condition else value
        is_possible = not self._overrides_look_up and None not in values.values()
        statement = _with_user(self.user_table, cast("Any", model), user_id, tuple(shape)) if is_possible else None
        if statement is None:
            return await self.store(model).get(where)
        calls = self._calls
        row: Any = await calls.execute(statement, _first_unique, values)
        if row is not None and row[-1] is not None:
            self._last_read = calls.sync_session.get_transaction(), row[-1], monotonic()
        return cast("M | None", row)

    def is_at_hand(self, user: UP) -> bool:
        state: Any = getattr(user, "_sa_instance_state", None)
        if state is None or state.expired_attributes or not state.persistent:
            return False
        session: Session = getattr(self.session, "sync_session", None) or self._calls.sync_session
        has_deleted = getattr(session, "_deleted", True)  # to ask for the set makes it, at more cost than all of this
        return state.session is session and not (has_deleted and user in session.deleted)

    def _get_last_read(self, id: ID) -> UP | None:
        """Once, and soon: whoever looks again, on a WebSocket say, wants to see what others have changed meanwhile."""
        transaction, user, moment = cast("tuple[Any, UP, float]", self._last_read)
        self._last_read = None
        if monotonic() - moment > _SOON_SECONDS:
            return None
        session: Session = getattr(self.session, "sync_session", None) or self._calls.sync_session
        is_running = transaction is not None and session.get_transaction() is transaction
        is_plain_read = _OpenTransaction not in session.info  # and not one that wants to see what others have changed
        is_known = is_running and is_plain_read and not self._overrides_look_up and self.is_at_hand(user)
        return user if is_known and user.id == id and not _ran_more_since(moment, transaction) else None

    async def get_by_email(self, email: str) -> UP | None:
        """The exact spelling first, since every schema has the index for that; then without regard to letter case.

        Of several rows that differ in letter case only, which old data may hold, it is always the same one:
        ``find_duplicate_emails`` lists them.
        """
        if not email or not is_storable(email):
            return None  # nobody's; and not every database compares it
        column, users = _column(self.user_table, "email"), select(self.user_table)
        dialect = self._dialect
        if dialect in _MYSQL and await self._ignores_letter_case():
            user = await self._look_up(_by_email, email)
            # The usual collations ignore accents as well: a match, but another mailbox.
            return user if user is not None and _is_same_address(user.email, email) else None
        if not self._has_unique_lower_email:
            user = await self._look_up(_by_email, email)
            if user is not None:
                return user
        user = await self._look_up(_by_lower_email, email)
        if user is None and dialect == "sqlite" and not email.isascii():
            spellings = await self._spellings_beyond_ascii(email)
            user = await self._get_user(users.where(column.in_(spellings)).order_by(column))
        return user

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP | None:
        account_table = self._require_oauth_account_table()
        statement = (
            select(self.user_table)
            .join(account_table)
            .where(_column(account_table, "oauth_name") == oauth)
            .where(_column(account_table, "account_id") == account_id)
            .order_by(_column(self.user_table, "id"))
        )
        if self._dialect in _MYSQL:
            # Its usual collations take aB and Ab for the same account, which are two people at some providers.
            stored, asked = _column(account_table, "account_id"), literal(account_id, String)
            statement = statement.where(sql_cast(stored, LargeBinary) == sql_cast(asked, LargeBinary))
        transaction = self._calls.open_transaction
        if transaction is not None:  # as it is now, and not as it was when the session read it first
            statement = statement.execution_options(populate_existing=True)
            if transaction.reads_with_locks:
                statement = statement.with_for_update()
        return await self._get_user(statement)

    async def create(self, create_dict: dict[str, Any]) -> UP:
        user = self.user_table(**create_dict)
        self.session.add(user)
        await self._calls.save()
        await self._calls.complete(user, is_new=True)
        return user

    async def update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        """An update that changes nothing writes nothing; what else waits in the session is committed all the same."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        self.session.add(user)
        await self._save_changes_of(user)
        return user

    async def update_where(self, user: UP, expected: dict[str, Any], update_dict: dict[str, Any]) -> UP | None:
        """One statement. Where the application takes part when the ORM writes, as a listener or with an :meth:`update`
        of its own, the row is locked and looked at before that is called.
        """
        self.session.add(user)
        calls, mapper = self._calls, cast("Mapper[Any]", inspect(type(user)))
        loaded = calls.session.identity_map.values()
        is_direct = not self._overrides_update and _is_unwatched(mapper, calls.session, expected, update_dict)
        try:
            takes_it = self._write_where(user, expected, update_dict) if is_direct else self._lock_where(user, expected)
            is_taken = await takes_it
        except SQLAlchemyError:
            # Some isolation levels know an error for a row that has changed meanwhile, on each engine another one.
            await self._roll_back(loaded)
            if _holds(user, expected):
                raise
            return None
        if not is_taken:
            if calls.open_transaction is None:
                await self._roll_back(loaded)
            return None
        if not is_direct:
            return await self.update(user, update_dict)
        for name, value in update_dict.items():
            set_committed_value(user, name, value)
        await self._save_changes_of(user)
        return user

    async def _write_where(self, user: Any, expected: dict[str, Any], values: dict[str, Any]) -> bool:
        state: Any = inspect(user)
        columns = state.mapper.columns
        table = columns[next(iter(values))].table
        statement = (
            update(table)
            .where(*(column == part for column, part in zip(table.primary_key, state.identity, strict=True)))
            .where(*(self._is_exactly(columns[name], value) for name, value in expected.items()))
            .values({columns[name]: value for name, value in values.items()})
        )
        return await self._calls.execute(statement, lambda result: cast("Any", result).rowcount > 0)

    async def _lock_where(self, user: Any, expected: dict[str, Any]) -> bool:
        mapper: Any = inspect(type(user))
        # The others are as they were read.
        names = [key for key, column in mapper.columns.items() if key in expected or column is mapper.version_id_col]
        if names and self._dialect == "sqlite":
            await self._become_the_writer(mapper.columns[names[0]])
        if names:
            await self._calls.call("refresh", user, names, with_for_update=True)
        return _holds(user, expected)

    async def _roll_back(self, loaded: list[Any]) -> None:
        """Everything in the session, which can be read afterwards all the same."""
        calls = self._calls
        await calls.rollback()
        for row in loaded:
            await calls.restore(row)
        if calls.open_transaction is not None:
            calls.open_transaction.rows.extend(loaded)  # its end rolls back once more

    async def _become_the_writer(self, column: Any) -> None:
        """On SQLite, until the transaction ends: by a write that changes nothing."""
        no_change = update(column.table).where(false()).values({column: column})
        await self._calls.execute(no_change, Result.close)

    def _is_exactly(self, column: Any, value: Any) -> Any:
        if self._dialect in _MYSQL and isinstance(column.type, String):
            # Its usual collations look past letter case and accents: another mailbox.
            column = sql_cast(column, mysql.CHAR(charset="utf8mb4")).collate("utf8mb4_bin")
        return column == value

    @property
    def _overrides_update(self) -> bool:
        """In a subclass, on this instance, or as a patch of the class."""
        return getattr(self.update, "__func__", None) is not _UPDATE

    async def delete(self, user: UP) -> None:
        """The OAuth accounts go as well, also where their relationship has no cascade."""
        for relationship in cast("Any", inspect(type(user))).relationships:
            if issubclass(relationship.mapper.class_, SQLAlchemyBaseOAuthAccountTable):
                if relationship.key not in cast("Any", inspect(user)).dict:
                    await self._calls.call("refresh", user, [relationship.key])
                for account in list(getattr(user, relationship.key)):
                    await self._calls.call("delete", account)
        await self._calls.call("delete", user)
        if self._dialect == "sqlite":
            await self._delete_access_tokens(user)
        await self._calls.save()

    async def _delete_access_tokens(self, user: Any) -> None:
        """Where no foreign key is enforced unless every connection asks for it, and ids of deleted rows come back:
        the tokens of the deleted user would open the account of the next one.
        """
        state: Any = inspect(user)
        for mapper in state.mapper.registry.mappers:
            if issubclass(mapper.class_, SQLAlchemyBaseAccessTokenTable):
                for key in mapper.local_table.foreign_keys:
                    if any(key.references(table) for table in state.mapper.tables):
                        tokens = delete(mapper.local_table).where(key.parent == state.identity[0])
                        await self._calls.execute(tokens, Result.close)

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        account = self._require_oauth_account_table()(**create_dict)
        self.session.add(user)
        await self._calls.complete(user)
        user.oauth_accounts.append(account)
        await self._save_changes_of(user)
        return user

    async def update_oauth_account(self, user: Any, oauth_account: OAP, update_dict: dict[str, Any]) -> Any:
        self._require_oauth_account_table()
        for name, value in update_dict.items():
            setattr(oauth_account, name, value)
        self.session.add(oauth_account)
        await self._save_changes_of(user)
        return user

    async def delete_oauth_account(self, user: Any, oauth_account: OAP) -> Any:
        self._require_oauth_account_table()
        self.session.add(user)
        await self._calls.complete(user)
        user.oauth_accounts.remove(oauth_account)
        await self._calls.call("delete", oauth_account)
        await self._save_changes_of(user)
        return user

    async def lock_oauth_account(self, user: Any, oauth_account: OAP) -> tuple[Any, OAP]:
        if self._dialect == "sqlite":
            await self.reserve_oauth_account(oauth_account.oauth_name, oauth_account.account_id)
        # Not a plain read, which on MariaDB shows the row as it was when the transaction began.
        try:
            await self._calls.call("refresh", oauth_account, with_for_update=True)
        except InvalidRequestError as error:
            raise OAuthAccountNotExists from error
        return user, oauth_account

    async def reserve_oauth_account(self, oauth: str, account_id: str) -> bool:
        account_table = self._require_oauth_account_table()
        dialect = self._dialect
        if dialect == "sqlite":
            await self._become_the_writer(_stored_column(account_table, "account_id"))
        elif dialect == "postgresql":
            key = func.hashtextextended(f"{oauth}:{account_id}", _OAUTH_ACCOUNT_LOCKS)
            await self._calls.execute(select(func.pg_advisory_xact_lock(key)), Result.close)
        if dialect in _MYSQL:
            await self._lock_first_user()
        return True

    async def _lock_first_user(self) -> None:
        """Who links an account waits for whoever else does, on MariaDB and MySQL.

        Locks on rows that are not there yet keep nobody out, but make deadlocks of two who then insert them. So it is
        one that is there, and a new user is inserted before: whoever waits for the first row also keeps others from
        inserting one before it.
        """
        ids = self._email_table.primary_key.columns
        first = select(*ids).order_by(*ids).limit(1)
        transaction = self._calls.open_transaction
        if transaction is not None:
            await self._calls.execute(first.with_for_update(), Result.close)
            # A plain SELECT shows what was there at the first one of the transaction.
            transaction.reads_with_locks = True

    def has_field(self, name: str) -> bool:
        """Of a column, by its own name: a synonym would be another way to a privileged one."""
        mapper: Any = inspect(self.user_table)
        return name in mapper.column_attrs

    async def reserve_email(self, email: str, owner_id: ID | None) -> bool:
        dialect = self._dialect
        if dialect == "sqlite" and not (self._has_unique_lower_email and email.isascii()):
            await self._become_the_writer(self._email_column)
        elif dialect == "postgresql" and not self._has_unique_lower_email:
            lock = func.pg_advisory_xact_lock(func.hashtextextended(_folded(email), 0))
            await self._calls.execute(select(lock), Result.close)
        elif dialect in _MYSQL and await self._ignores_letter_case():
            # The unique index does it. It ignores accents too, so that for it an address may be taken by another one.
            alike = select(self.user_table).where(_column(self.user_table, "email") == email)
            owner = await self._get_user(alike)
            return owner is None or owner.id == owner_id
        elif dialect not in _MYSQL:
            return True  # the unique index does what it can
        owner = await self.get_by_email(email)
        return owner is None or owner.id == owner_id

    def store(self, model: type[M]) -> Store[M]:
        """:raises TypeError: it is no table."""
        _refuse_no_table(model)
        return SQLAlchemyStore(self.session, model)

    async def find_missing(self) -> Sequence[Missing]:
        """What the database has not got of users and their accounts."""
        models = [model for model in (self.user_table, self.oauth_account_table) if model is not None]
        return [each for model in models for each in await SQLAlchemyStore(self.session, model).find_missing()]

    async def find_unguarded(self) -> Sequence[Missing]:
        """Addresses, and accounts at providers, where no unique index keeps them from being taken twice."""
        found = await self._calls.run(partial(_unguarded_emails, self.user_table))
        if self.oauth_account_table is None:
            return found
        return found + await self._calls.run(partial(_unguarded_accounts, self.oauth_account_table))

    def transaction(self) -> Any:
        """Writes inside it flush, and are committed together at its end; an exception rolls them back."""
        return self._calls.transaction()

    async def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        transaction = self._calls.open_transaction
        if transaction is None:
            await callback()
        else:
            transaction.callbacks.append(callback)

    def may_commit(self) -> bool:
        session = self._calls.sync_session
        transaction = session.get_transaction()
        return transaction is None or bool(_idle_connections(session, transaction))

    def is_worth_another_try(self, error: Exception) -> bool:
        if not isinstance(error, DBAPIError):
            return False
        codes = [getattr(error.orig, name, None) for name in ("sqlstate", "pgcode")]  # the latter is psycopg2's
        return any(code in _GIVEN_UP for code in [*codes, *getattr(error.orig, "args", ())[:1]])

    async def release_connection(self) -> None:
        if self.releases_connections:
            await self._calls.release()

    async def holds(self, id: ID, fields: Mapping[str, Any]) -> bool:
        columns = (_column(self.user_table, name) for name in fields)
        statement = select(*columns).where(_column(self.user_table, "id") == id)
        session = self._calls.sync_session
        is_unused = not (
            session.in_transaction() or session.identity_map or session.new or self._calls.open_transaction
        )
        try:
            stored = await self._calls.execute(statement, Result.first)
        finally:
            if is_unused:  # or closed, by an override in which it was opened, and which would not close it again
                await self._calls.call("close")
        # Compared here, since the usual collations of MariaDB look past letter case and accents.
        return stored is not None and tuple(stored) == tuple(fields.values())

    async def restore(self, user: UP) -> None:
        if cast("Any", inspect(user)).expired_attributes:  # by a session made with expire_on_commit=True
            await self._calls.restore(user)

    async def recover(self, error: Exception) -> None:
        calls = self._calls
        if isinstance(error, SQLAlchemyError) or not calls.session.is_active:
            loaded = calls.session.identity_map.values()
            await calls.rollback()
            for row in loaded:
                await calls.restore(row)

    async def _get_user(self, statement: Select[Any]) -> UP | None:
        """Every look-up of a user comes through here: override it to extend them all, with a tenant filter say."""
        is_lock = statement._for_update_arg is not None  # noqa: SLF001 -- an override may lock, and nothing else tells
        options = {} if is_lock else _LOOK_UP
        return cast("UP | None", await self._calls.execute(statement, _first_user, **options))

    def _look_up(self, build: "_LookUp", value: Any) -> Awaitable[UP | None]:
        """By a statement that was built once; or through an override of :meth:`_get_user`, which may add to it.

        Not a coroutine of its own, each of which is resumed whenever the database has answered.
        """
        if self._overrides_look_up:
            return self._get_user(build(self.user_table, value))
        return self._read(_prepared(build, self.user_table), {"value": value})

    def _may_read_owner_of(self, token: str) -> bool:
        """Whether the user of a token may be read without its row, which would be a twentieth of the request: not past a
        look-up of the application's, nor where what is found may be another token than the one that was asked for.
        """
        is_ours = not self._overrides_look_up and getattr(self.get_with_user, "__func__", None) is _GET_WITH_USER
        return is_ours and token.isascii() and self._dialect in ("postgresql", "sqlite")

    async def _read(self, statement: Select[Any], values: Mapping[str, Any]) -> UP | None:
        """By a statement of ours, whose user is at hand then."""
        calls = self._calls
        user = await calls.execute(statement, _first_user, values)
        if user is not None:
            self._last_read = calls.sync_session.get_transaction(), user, monotonic()
        return cast("UP | None", user)

    @property
    def _overrides_look_up(self) -> bool:
        """In a subclass, on this instance, or as a patch of the class."""
        return getattr(self._get_user, "__func__", None) is not _GET_USER

    async def _save_changes_of(self, user: Any) -> None:
        calls = self._calls
        try:
            await calls.save()
        except Exception:
            if calls.open_transaction is None:
                await calls.restore(user)
            else:
                calls.open_transaction.rows.append(user)
            raise
        await calls.complete(user)

    async def _ignores_letter_case(self) -> bool:
        """Whether the collation of the column does, on MariaDB and MySQL; the answer is kept for the engine."""
        bind: Any = self.session.get_bind(self.user_table)
        known = _IGNORES_LETTER_CASE.setdefault(bind.engine, {})
        name = self._email_table.fullname
        if name not in known:
            statement = select(func.collation(_column(self.user_table, "email"))).limit(1)
            collation = await self._calls.execute(statement, Result.scalar, **_LOOK_UP)
            if collation is None:
                return True  # the table is empty
            known[name] = collation.endswith("_ci")
        return known[name]

    async def _spellings_beyond_ascii(self, email: str) -> list[str]:
        """SQLite knows the letter case of ASCII only, so that the others are compared here."""
        if len(email) > _EMAIL_LENGTH:
            return []  # no row has it, and as a pattern it is too complex
        pattern = "".join(f"\\{char}" if char in "%_\\" else char if char.isascii() else "_" for char in email)
        column = _column(self.user_table, "email")
        candidates = await self._calls.execute(
            select(column).where(column.like(pattern, escape="\\")), lambda result: result.scalars().all(), **_LOOK_UP
        )
        return [candidate for candidate in candidates if _is_same_address(candidate, email)]

    def _fits_the_id_column(self, id: int) -> bool:
        column_type = _column(self.user_table, "id").type
        bits = {Integer: 32, SmallInteger: 16}.get(type(column_type), 64)
        limit: int = 2 ** (bits - 1)
        return -limit <= id < limit

    @property
    def _dialect(self) -> str:
        bind: Any = self.session.get_bind(self.user_table)
        return cast("str", bind.dialect.name)

    @property
    def _has_unique_lower_email(self) -> bool:
        index = _lower_email_index(self._email_column)
        return index is not None and index.unique

    @property
    def _email_table(self) -> Table:
        """That of the base class where the user table is one of joined inheritance."""
        return cast("Table", self._email_column.table)

    @property
    def _email_column(self) -> Any:
        return _stored_column(self.user_table, "email")

    def _require_oauth_account_table(self) -> type[SQLAlchemyBaseOAuthAccountTable[Any]]:
        if self.oauth_account_table is None:
            raise NotImplementedError(
                "OAuth accounts need a table: SQLAlchemyUserDatabase(session, User, OAuthAccount)."
            )
        return self.oauth_account_table


_UPDATE = SQLAlchemyUserDatabase.update
_GET_WITH_USER = SQLAlchemyUserDatabase.get_with_user
_GET_USER = SQLAlchemyUserDatabase._get_user  # noqa: SLF001 -- to know it from what applications put in its place
_LookUp = Callable[[type[Any], Any], Select[Any]]
_SOON_SECONDS = 1.0
_OF_ROWS = ("before_insert", "after_insert", "before_update", "after_update")
_OF_DELETED_ROWS = ("before_delete", "after_delete")
_OF_DELETIONS = ("before_flush", "after_flush", "after_flush_postexec", "persistent_to_deleted")
_OF_WRITES = ("before_flush", "after_flush", "after_flush_postexec", "before_commit")


def _first_user(result: Result[Any]) -> Any:
    return result.unique().scalar()


def _first_unique(result: Result[Any]) -> Any:
    return result.unique().first()


def _by_id(users: type[Any], value: Any) -> Select[Any]:
    return select(users).where(users.id == value)


def _by_email(users: type[Any], value: Any) -> Select[Any]:
    return select(users).where(users.email == value)


def _by_lower_email(users: type[Any], value: Any) -> Select[Any]:
    return select(users).where(func.lower(users.email) == func.lower(value)).order_by(users.email)


# To build a statement, and the key under which SQLAlchemy knows what it compiled of it before, is a tenth of a request.


@lru_cache(maxsize=256)
def _prepared(build: _LookUp, users: type[Any]) -> Select[Any]:
    column = users.id if build is _by_id else users.email
    return build(users, bindparam("value", type_=column.type)).execution_options(**_LOOK_UP)


@lru_cache(maxsize=256)
def _with_user(users: type[Any], model: type[Any], user_id: str, shape: Any) -> Any:
    """``None`` where no foreign key says that both are in one database."""
    column = _column(model, user_id)
    if not _own_columns(model, user_id) or not _refers_to_users(column, users):
        return None
    # The values of the row only: an object of it would cost as much as that of the user.
    values = [_column(model, attribute.key) for attribute in cast("Any", inspect(model)).column_attrs]
    statement = select(*values, users).select_from(model).outerjoin(users, column == users.id)
    for name, operator in shape:
        place = bindparam(f"value_{name}", type_=_column(model, name).type, expanding=operator in ("in", "not in"))
        statement = statement.where(_condition(_column(model, name), Condition(operator, place) if operator else place))
    return statement.execution_options(**_LOOK_UP)


@lru_cache(maxsize=256)
def _owner_of_token(users: type[Any], tokens: type[Any], *, is_limited: bool) -> Any:
    """``None`` where the table may compare tokens in a way of its own, or where both are not in one database."""
    token, owner_id = _column(tokens, "token"), _column(tokens, "user_id")
    compares_exactly = type(token.type) is String and token.type.collation is None
    if not compares_exactly or not _own_columns(tokens, "user_id") or not _refers_to_users(owner_id, users):
        return None
    statement = select(users).join(tokens, owner_id == users.id).where(token == bindparam("token"))
    if is_limited:
        created_at = _column(tokens, "created_at")
        statement = statement.where(created_at >= bindparam("oldest", type_=created_at.type))
    return statement.execution_options(**_LOOK_UP)


def _refers_to_users(column: Any, users: type[Any]) -> bool:
    keys = [key for part in column.property.columns for key in part.foreign_keys]
    return any(key.column is part for key in keys for part in _own_columns(users, "id"))


def _is_unwatched(mapper: Mapper[Any], session: Any, expected: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether a statement past the ORM does all that it would do to write these attributes of a row."""
    columns: Any = mapper.columns
    if not values or not {*expected, *values} <= {*columns.keys()}:
        return False
    tables = {columns[name].table for name in (*expected, *values)}
    return not (
        len(tables) > 1  # as in joined inheritance
        or any(isinstance(columns[name].type, TypeDecorator) for name in expected)  # encrypted anew each time, say
        or mapper.version_id_col is not None
        or any(isinstance(value, ClauseElement) for value in values.values())
        or any(column.onupdate or column.server_onupdate for column in tables.pop().columns)
        or session.in_nested_transaction()  # whose rollback forgets only what the ORM has written
        or not _writes_alone(mapper, session, values)
    )


def _writes_alone(mapper: Mapper[Any], session: Any, names: Iterable[str]) -> bool:
    """Whether nothing of the application looks on when the ORM writes these attributes."""
    session = getattr(session, "sync_session", session)
    attributes: Any = mapper.class_manager
    class_: Any = mapper.class_
    return not (
        class_.__setattr__ is not object.__setattr__
        or any(getattr(mapper.dispatch, name) for name in _OF_ROWS)
        or any(getattr(session.dispatch, name) for name in _OF_WRITES)
        or any(attributes[name].dispatch.set for name in names)  # validators too
    )


def _deletes_alone(mapper: Mapper[Any], session: Session) -> bool:
    """Whether nothing of the application looks on when the ORM deletes a row, and nothing but the row goes or changes."""
    return not (
        len(mapper.tables) > 1  # as in joined inheritance
        or any(getattr(mapper.dispatch, name) for name in _OF_DELETED_ROWS)
        or any(getattr(session.dispatch, name) for name in _OF_DELETIONS)
        or any(_goes_along(relationship) for relationship in mapper.relationships)
    )


def _goes_along(relationship: Any) -> bool:
    refers_to_row = relationship.direction is not RelationshipDirection.MANYTOONE and not relationship.viewonly
    return refers_to_row or relationship.cascade.delete


def _holds(user: Any, expected: dict[str, Any]) -> bool:
    """As it is loaded; what could not be loaded, of a row that is gone, is nothing."""
    state: Any = inspect(user)
    expired = state.expired_attributes & {*state.mapper.columns.keys()}  # a synonym stays expired for ever
    return all(name not in expired and getattr(user, name) == value for name, value in expected.items())


_OAUTH_ACCOUNT_LOCKS = 1  # a seed: those of addresses have 0
_IGNORES_LETTER_CASE: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()


class SQLAlchemyAccessTokenDatabase(AccessTokenDatabase[AP], Generic[AP]):
    """Access tokens in a table, for ``DatabaseStrategy``. Sessions and commits are those of the user adapter."""

    def __init__(
        self,
        session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]",
        access_token_table: type[AP],
    ) -> None:
        if isinstance(session, _NO_SESSIONS):
            raise TypeError(
                "Write SQLAlchemyAccessTokenDatabase(session, AccessToken): first a session, then the class of the tokens."
            )
        self.session = cast("AsyncSession", session)
        self.access_token_table = access_token_table

    @property
    def _calls(self) -> _SessionCalls:
        return _SessionCalls(self.session)

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP | None:
        if "\0" in token:
            return None  # PostgreSQL refuses to compare
        statement = select(self.access_token_table).where(_column(self.access_token_table, "token") == token)
        if max_age is not None:
            statement = statement.where(_column(self.access_token_table, "created_at") >= max_age)
        return await self._calls.execute(statement, lambda result: result.unique().scalars().first(), **_LOOK_UP)

    async def get_by_token_with_user(
        self, token: str, max_age: datetime | None, user_db: BaseUserDatabase[Any, Any]
    ) -> AP | None:
        """The same, and what ``user_db`` is asked for next comes along where that can be. Of what comes back, ``token``
        and ``user_id`` are filled in.
        """
        is_overridden = getattr(self.get_by_token, "__func__", None) is not SQLAlchemyAccessTokenDatabase.get_by_token
        if is_overridden or getattr(user_db, "session", None) is not self.session or "\0" in token:
            return await self.get_by_token(token, max_age)
        if isinstance(user_db, SQLAlchemyUserDatabase) and user_db._may_read_owner_of(token):  # noqa: SLF001 -- ours
            user_table: Any = user_db.user_table
            statement = _owner_of_token(
                user_table, cast("Any", self.access_token_table), is_limited=max_age is not None
            )
            if statement is not None:
                user: Any = await user_db._read(statement, {"token": token, "oldest": max_age})  # noqa: SLF001 -- ours
                return None if user is None else cast("AP", SimpleNamespace(token=token, user_id=user.id))
        created: Where = {} if max_age is None else {"created_at": at_least(max_age)}
        return await user_db.get_with_user(self.access_token_table, {"token": token, **created})

    async def create(self, create_dict: dict[str, Any]) -> AP:
        access_token = self.access_token_table(**create_dict)
        self.session.add(access_token)
        await self._calls.save()
        await self._calls.complete(access_token, is_new=True)
        return access_token

    async def create_for(self, credentials: ProvenCredentials, create_dict: dict[str, Any]) -> AP | None:
        """Create the token of a login in a statement that asks whether its credentials still count.

        A change of them that is under way is waited for, and a later one waits until the token is there to be ended.

        :return: ``None`` where this takes more than one statement: nothing was done.
        :raises CredentialsChanged: they count no more.
        """
        owner = self._owner_while(credentials)
        if owner is None or getattr(self.create, "__func__", None) is not _CREATE_TOKEN:
            return None
        calls = self._calls
        loaded = calls.session.identity_map.values()
        access_token: Any = self.access_token_table(**create_dict)
        user_id, access_token.user_id = access_token.user_id, owner
        calls.session.add(access_token)
        try:
            await calls.save()
        except IntegrityError as error:
            for row in loaded:
                await calls.restore(row)
            if await credentials.still_count():
                raise
            raise CredentialsChanged from error  # whose id is not found, and null is refused
        set_committed_value(access_token, "user_id", user_id)
        await calls.complete(access_token, is_new=True)
        return cast("AP", access_token)

    def _owner_while(self, credentials: ProvenCredentials) -> Any:
        """The id of their user, as a subquery that finds nobody once they have changed; or ``None``."""
        user_db, fields = credentials.user_db, credentials.fields
        if not isinstance(user_db, SQLAlchemyUserDatabase) or user_db.session is not self.session:
            return None
        users: Any = user_db.user_table
        tokens = cast("Mapper[Any]", inspect(self.access_token_table))
        owner_ids = [column for column in _own_columns(self.access_token_table, "user_id") if not column.nullable]
        keys, user_ids = [key for column in owner_ids for key in column.foreign_keys], _own_columns(users, "id")
        is_certain = any(key.column is id for key in keys for id in user_ids)
        columns = {name: _column(users, name) for name in fields}
        is_comparable = not any(isinstance(column.type, TypeDecorator) for column in columns.values())
        if not (is_certain and is_comparable and _writes_alone(tokens, self._calls.session, ["user_id"])):
            return None
        return (
            select(users.id)
            .where(users.id == credentials.user_id)
            .where(*(user_db._is_exactly(columns[name], value) for name, value in fields.items()))  # noqa: SLF001 -- ours
            .with_for_update(read=True)
            .scalar_subquery()
        )

    async def update(self, access_token: AP, update_dict: dict[str, Any]) -> AP:
        for name, value in update_dict.items():
            setattr(access_token, name, value)
        self.session.add(access_token)
        await self._calls.save()
        await self._calls.complete(access_token)
        return access_token

    async def delete(self, access_token: AP) -> None:
        await self._calls.call("delete", access_token)
        await self._calls.save()

    async def delete_by_token(self, token: str) -> int:
        """Without reading the row first, and tell whether there was one."""
        overrides_look_up = (
            getattr(self.get_by_token, "__func__", None) is not SQLAlchemyAccessTokenDatabase.get_by_token
        )
        if overrides_look_up or not self._deletes_alone:
            access_token = await self.get_by_token(token)
            if access_token is None:
                return 0
            await self.delete(access_token)
            return 1
        return await self._store.delete_where({"token": token})

    async def delete_by_user(self, user_id: Any, *, except_tokens: Sequence[str] = ()) -> int:
        """All tokens of a user but these, and tell how many those were."""
        if not self._deletes_alone:
            access_tokens = [
                access_token
                for access_token in await self._store.list({"user_id": user_id})
                if access_token.token not in except_tokens
            ]
            if self._delete_is_ours:
                await self._delete_together(access_tokens)
            else:
                for access_token in access_tokens:  # in the way of the application
                    await self.delete(access_token)
            return len(access_tokens)
        return await self._store.delete_where({"user_id": user_id, "token": none_of(except_tokens)})

    async def delete_created_before(self, moment: datetime) -> int:
        """Clear the table of expired tokens, and tell how many those were."""
        return await self._store.delete_where({"created_at": Condition("<", moment)})

    async def find_missing(self) -> Sequence[Missing]:
        return await self._store.find_missing()

    @property
    def _deletes_alone(self) -> bool:
        """Whether the application has no part in it, by a :meth:`delete` of its own or by what the ORM does for a row."""
        mapper = cast("Any", inspect(self.access_token_table))
        return self._delete_is_ours and _deletes_alone(mapper, self._calls.sync_session)

    @property
    def _delete_is_ours(self) -> bool:
        return getattr(self.delete, "__func__", None) is SQLAlchemyAccessTokenDatabase.delete

    async def _delete_together(self, access_tokens: Sequence[AP]) -> None:
        """By the ORM, which tells its listeners: all of them or, where that fails, none."""
        calls = self._calls
        try:
            for access_token in access_tokens:
                await calls.call("delete", access_token)  # it may flush, to read what goes along
        except BaseException:
            await calls.rollback()
            raise
        await calls.save()

    @property
    def _store(self) -> "SQLAlchemyStore[AP]":
        return SQLAlchemyStore(self.session, self.access_token_table)


_CREATE_TOKEN = SQLAlchemyAccessTokenDatabase.create


class SQLAlchemyStore(Generic[M]):
    """See :class:`~fastapi_users.db.store.Store`."""

    def __init__(
        self,
        session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]",
        model: type[M],
    ) -> None:
        self._calls = _SessionCalls(session)
        self._model = model

    async def get(self, where: Where) -> M | None:
        rows = await self.list(where, limit=1)
        return rows[0] if rows else None

    async def list(self, where: Where, *, order_by: str | None = None, limit: int | None = None) -> list[M]:
        statement = select(self._model).where(*self._conditions(where)).limit(limit)
        if order_by is not None:
            column = _column(self._model, order_by.removeprefix("-"))
            statement = statement.order_by(column.desc() if order_by.startswith("-") else column)
        # A row that update_where changed behind the session's back is read as it is now.
        return await self._calls.execute(
            statement, lambda result: list(result.unique().scalars()), populate_existing=True, **_LOOK_UP
        )

    async def create(self, values: Mapping[str, Any]) -> M:
        row, calls = self._model(**values), self._calls
        loaded = calls.session.identity_map.values()
        calls.session.add(row)
        try:
            await calls.save()
        except Exception:
            if calls.open_transaction is None:
                for other in loaded:  # a user, say, that the rollback expired
                    await calls.restore(other)
            raise
        await calls.complete(row, is_new=True)
        return row

    async def update_where(self, where: Where, values: Mapping[str, Any]) -> int:
        columns = {
            name: _column(self._model, name) + value.by if isinstance(value, Increment) else value
            for name, value in values.items()
        }
        return await self._write(update(self._model).where(*self._conditions(where)).values(columns))

    async def delete_where(self, where: Where) -> int:
        return await self._write(delete(self._model).where(*self._conditions(where)))

    async def find_missing(self) -> Sequence[Missing]:
        """The tables that are not in the database, and the columns that are not in the tables.

        :raises TypeError: the model is no table.
        """
        _refuse_no_table(self._model)
        return await self._calls.run(partial(_missing_of, self._model))

    async def _write(self, statement: Any) -> int:
        calls = self._calls
        loaded = calls.session.identity_map.values()
        try:
            count = await calls.execute(
                statement, lambda result: cast("Any", result).rowcount, synchronize_session=False
            )
        except BaseException:
            await calls.rollback()
            raise
        await calls.save()
        for row in loaded:
            if cast("Any", inspect(row)).expired_attributes:  # by a session made with expire_on_commit=True
                await calls.restore(row)
        return int(count)

    def _conditions(self, where: Where) -> Iterator[Any]:
        return (_condition(_column(self._model, name), value) for name, value in where.items())


_NO_SESSIONS = (type, AsyncConnection, AsyncEngine, Connection, Engine, async_sessionmaker, sessionmaker)


def _refuse_no_table(model: type[Any]) -> None:
    if inspect(model, raiseerr=False) is None:
        raise TypeError(
            f"{model.__name__} is no table of SQLAlchemy: write class {model.__name__}(SQLAlchemyBase…Table, Base), "
            "with the declarative base of your tables."
        )


def _missing_of(model: type[Any], session: Session) -> list[Missing]:
    connection = session.connection(bind_arguments={"mapper": model})
    database, missing = inspect(connection), []
    for table in cast("Any", inspect(model)).tables:
        schema = _schema_of(table, connection)
        line = f'alembic revision --autogenerate -m "{table.name}" && alembic upgrade head'
        if not database.has_table(table.name, schema=schema):
            line = f"{line}  # or, for a first look, Base.metadata.create_all"
            problem = f"The database has no table {table.fullname!r}."
        else:
            known = {column["name"].lower() for column in database.get_columns(table.name, schema=schema)}
            unknown = [repr(column.name) for column in table.columns if column.name.lower() not in known]
            problem = f"The table {table.fullname!r} has no {', '.join(unknown)}." if unknown else ""
        if problem:
            missing.append(Missing(model=model, problem=problem, line=line))
    return missing


def _unguarded_emails(model: type[Any], session: Session) -> list[Missing]:
    connection = session.connection(bind_arguments={"mapper": model})
    column = _stored_column(model, "email")
    table, name = column.table, column.name
    unique, found = _unique_keys(table, connection), []
    if unique is not None and name not in unique:
        # As SQLAlchemy names those of index=True.
        label = table.name if table.schema is None else f"{table.schema}_{table.name}"
        line = _index_line(f"ix_{label}_{name}", table, f'"{name}"')
        found.append(Missing(model=model, problem=f"The database takes the same {name} for two users.", line=line))
    if unique is not None and f"lower{name}" not in unique and _minds_letter_case(column, connection):
        line = _index_line(f"ix_{table.name}_{name}_lower", table, f'sa.text("lower({name})")')
        found.append(_unguarded(model, SQLAlchemyUniqueEmailMixin, f"the same {name} in another letter case", line))
    return found


def _minds_letter_case(column: Any, connection: Connection) -> bool:
    """Whether an index on the column does: on PostgreSQL not with CITEXT, or a collation that ignores it."""
    if connection.dialect.name != "postgresql":
        return connection.dialect.name in _EXPRESSION_INDEXES  # of SQLite the indexes tell
    nothing = select(column).limit(0).scalar_subquery()  # has its type and collation all the same
    one = func.coalesce(nothing, literal_column("'a'"))
    return not connection.scalar(select(one == literal_column("'A'")))


def _index_line(name: str, table: Any, column: str) -> str:
    """In place of the one of the name that is not unique."""
    schema = _schema_argument(table)
    return (
        f'op.drop_index("{name}", "{table.name}"{schema}, if_exists=True); '
        f'op.create_index("{name}", "{table.name}", [{column}]{schema}, unique=True)'
    )


def _schema_argument(table: Any) -> str:
    return "" if table.schema is None else f', schema="{table.schema}"'


def _unguarded_accounts(model: type[Any], session: Session) -> list[Missing]:
    names = sorted(_stored_column(model, name).name for name in ("oauth_name", "account_id"))
    table = _stored_column(model, "account_id").table
    unique = _unique_keys(table, session.connection(bind_arguments={"mapper": model}))
    if unique is None or ",".join(names) in unique:
        return []
    schema = _schema_argument(table)
    line = f'op.create_unique_constraint("uq_{table.name}_account", "{table.name}", {names!r}{schema})'
    return [_unguarded(model, SQLAlchemyUniqueOAuthAccountMixin, "the same account at a provider", line)]


def _unguarded(model: type[Any], mixin: type[Any], what: str, line: str) -> Missing:
    problem = f"The database takes {what} for two users."
    declared = "" if issubclass(model, mixin) else f"class {model.__name__}({mixin.__name__}, …), and in a migration "
    return Missing(model=model, problem=problem, line=f"{declared}{line}")


def _unique_keys(table: Any, connection: Connection) -> set[str] | None:
    """What the unique indexes and constraints of a table are on; ``None`` of what is no table of the database."""
    database, schema = inspect(connection), _schema_of(table, connection)
    if table.name not in database.get_table_names(schema=schema):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # SQLite tells of no expressions: see below
        indexes = database.get_indexes(table.name, schema=schema)
        constraints = database.get_unique_constraints(table.name, schema=schema)
    keys = [
        index.get("expressions") or index["column_names"]
        for index in indexes
        if index["unique"] and not {"postgresql_where", "sqlite_where"} & {*(index.get("dialect_options") or {})}
    ]
    keys += [constraint["column_names"] for constraint in constraints]
    if connection.dialect.name == "sqlite" and schema is None:
        definitions = connection.scalars(_UNIQUE_INDEXES_OF_SQLITE, {"name": table.name})
        keys += [[found[1]] for found in map(_UNIQUE_INDEX.fullmatch, definitions) if found is not None]
        keys += [[name] for name in connection.scalars(_NOCASE_INDEXES_OF_SQLITE, {"name": table.name})]
    return {",".join(sorted(_bare(name) for name in key if name)) for key in keys}


def _bare(expression: str) -> str:
    """Without the casts and parentheses that PostgreSQL puts in."""
    return _CASTS_AND_PARENTHESES.sub("", expression)


def _schema_of(table: Any, connection: Connection) -> str | None:
    schemas: Mapping[Any, Any] = connection.get_execution_options().get("schema_translate_map") or {}
    schema: str | None = schemas.get(table.schema, table.schema)
    return schema


_EXPRESSION_INDEXES = ("postgresql", "sqlite")
_UNIQUE_INDEXES_OF_SQLITE = text(
    "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :name AND sql LIKE 'CREATE UNIQUE %'"
)
_NOCASE_INDEXES_OF_SQLITE = text(  # which compare as lower() does
    """
    SELECT 'lower(' || max(field.name) || ')' FROM pragma_index_list(:name) AS one, pragma_index_xinfo(one.name) AS field
    WHERE one."unique" AND NOT one.partial AND field."key"
    GROUP BY one.name HAVING count(*) = 1 AND upper(max(field.coll)) = 'NOCASE'
    """
)
_UNIQUE_INDEX = re.compile(r"[^(]*\((.*)\)\s*", re.DOTALL)  # one WHERE, and it is not of all rows
_CASTS_AND_PARENTHESES = re.compile(r"::[a-z]+(?: varying)?|[()\s\"`]")


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"<": lt, "<=": le, ">": gt, ">=": ge, "!=": ne}


def _condition(column: Any, value: Any) -> Any:
    if not isinstance(value, Condition):
        return eq(column, value)
    if value.operator == "in":
        return column.in_(value.operand)
    if value.operator == "not in":
        return column.not_in(value.operand) & column.is_not(None)
    return _OPERATORS[value.operator](column, value.operand)


async def find_duplicate_emails(
    session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]",
    user_table: type[Any],
) -> list[list[str]]:
    """The addresses that several users have in different spellings: to be settled before a unique index is made."""
    emails = await _SessionCalls(session).execute(select(user_table.email), lambda result: result.scalars().all())
    spellings = defaultdict(list)
    for email in emails:
        spellings[_folded(email)].append(email)
    return [sorted(group) for group in spellings.values() if len(group) > 1]


async def find_duplicate_oauth_accounts(
    session: "AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]",
    oauth_account_table: type[Any],
) -> list[list[Any]]:
    """The rows that are of one account at a provider, linked twice: to be settled before a unique constraint is made.

    Of each account, the row whose user is logged in through it comes first.
    """
    name, account_id, user_id = (_column(oauth_account_table, key) for key in ("oauth_name", "account_id", "user_id"))
    twice = (
        select(name.label("name"), account_id.label("account_id"))
        .group_by(name, account_id)
        .having(func.count() > 1)
        .subquery()
    )
    statement = (
        select(oauth_account_table)
        .join(twice, (name == twice.c.name) & (account_id == twice.c.account_id))
        .order_by(user_id)
    )
    rows = await _SessionCalls(session).execute(statement, lambda result: result.scalars().unique().all())
    # Once more, since the collations of MariaDB take ids that differ in letter case for the same.
    accounts = defaultdict(list)
    for row in rows:
        accounts[row.oauth_name, row.account_id].append(row)
    return [group for group in accounts.values() if len(group) > 1]


def _stored_column(table: type[Any], name: str) -> Any:
    """That of the table itself, whatever it is called there, and whatever the attribute is a synonym for."""
    return _column(table, name).property.columns[0]


def _own_columns(table: type[Any], name: str) -> Sequence[Any]:
    """Those of an attribute; none where it is a synonym for another, under whose name the row has the value."""
    attribute = cast("Any", inspect(table)).column_attrs.get(name)
    return () if attribute is None else cast("Sequence[Any]", attribute.columns)


def _column(table: type[Any], name: str) -> Any:
    """A column of a table that is only known as something with such an attribute."""
    return getattr(table, name)
