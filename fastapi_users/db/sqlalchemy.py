"""Tables and adapters for SQLAlchemy 2: the names and columns of ``fastapi-users-db-sqlalchemy`` 7."""

import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.models import ID, OAP, UP

with needs_extra("sqlalchemy"):
    from sqlalchemy import CHAR, TIMESTAMP, Boolean, Dialect, ForeignKey, Integer, Select, String, func, select
    from sqlalchemy.dialects.postgresql import UUID
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapped, declared_attr, mapped_column
    from sqlalchemy.types import TypeDecorator, TypeEngine

UUID_ID = uuid.UUID


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


def now_utc() -> datetime:
    return datetime.now(timezone.utc)


# The columns stand twice: as the type checkers have to see them, so that a table is a UserProtocol, and as
# SQLAlchemy has to.


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
        email: Mapped[str] = mapped_column(String(length=320), unique=True, index=True, nullable=False)
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


class SQLAlchemyUserDatabase(BaseUserDatabase[UP, ID], Generic[UP, ID]):
    """Users in a table. Every write commits at once, and what the database raises comes through as it is.

    :param session: made with ``expire_on_commit=False``, since the routes read the user after the commit.
    :param oauth_account_table: needed by the OAuth routes, together with a relationship ``oauth_accounts`` that is
        loaded eagerly (``lazy="joined"``).
    """

    session: AsyncSession
    user_table: type[UP]
    oauth_account_table: type[SQLAlchemyBaseOAuthAccountTable[Any]] | None

    def __init__(
        self,
        session: AsyncSession,
        user_table: type[UP],
        oauth_account_table: type[SQLAlchemyBaseOAuthAccountTable[Any]] | None = None,
    ) -> None:
        self.session = session
        self.user_table = user_table
        self.oauth_account_table = oauth_account_table

    async def get(self, id: ID) -> UP | None:
        return await self._get_user(select(self.user_table).where(_column(self.user_table, "id") == id))

    async def get_by_email(self, email: str) -> UP | None:
        statement = select(self.user_table).where(func.lower(_column(self.user_table, "email")) == func.lower(email))
        return await self._get_user(statement)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP | None:
        account_table = self._require_oauth_account_table()
        statement = (
            select(self.user_table)
            .join(account_table)
            .where(_column(account_table, "oauth_name") == oauth)
            .where(_column(account_table, "account_id") == account_id)
        )
        return await self._get_user(statement)

    async def create(self, create_dict: dict[str, Any]) -> UP:
        return await self._save(self.user_table(**create_dict))

    async def update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        for name, value in update_dict.items():
            setattr(user, name, value)
        return await self._save(user)

    async def delete(self, user: UP) -> None:
        await self.session.delete(user)
        await self.session.commit()

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        account_table = self._require_oauth_account_table()
        await self.session.refresh(user)
        account = account_table(**create_dict)
        self.session.add(account)
        user.oauth_accounts.append(account)
        await self.session.commit()
        return user

    async def update_oauth_account(self, user: Any, oauth_account: OAP, update_dict: dict[str, Any]) -> Any:
        self._require_oauth_account_table()
        for name, value in update_dict.items():
            setattr(oauth_account, name, value)
        self.session.add(oauth_account)
        await self.session.commit()
        return user

    async def _get_user(self, statement: Select[Any]) -> UP | None:
        """Every look-up of a user comes through here: override it to extend them all, with a tenant filter say."""
        user: UP | None = (await self.session.execute(statement)).unique().scalar_one_or_none()
        return user

    async def _save(self, user: UP) -> UP:
        self.session.add(user)
        await self.session.commit()
        await self.session.refresh(user)
        return user

    def _require_oauth_account_table(self) -> type[SQLAlchemyBaseOAuthAccountTable[Any]]:
        if self.oauth_account_table is None:
            raise NotImplementedError(
                "OAuth accounts need a table: SQLAlchemyUserDatabase(session, User, OAuthAccount)."
            )
        return self.oauth_account_table


class SQLAlchemyAccessTokenDatabase(AccessTokenDatabase[AP], Generic[AP]):
    """Access tokens in a table, for ``DatabaseStrategy``. Every write commits at once."""

    def __init__(self, session: AsyncSession, access_token_table: type[AP]) -> None:
        self.session = session
        self.access_token_table = access_token_table

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP | None:
        statement = select(self.access_token_table).where(_column(self.access_token_table, "token") == token)
        if max_age is not None:
            statement = statement.where(_column(self.access_token_table, "created_at") >= max_age)
        return (await self.session.execute(statement)).scalar_one_or_none()

    async def create(self, create_dict: dict[str, Any]) -> AP:
        return await self._save(self.access_token_table(**create_dict))

    async def update(self, access_token: AP, update_dict: dict[str, Any]) -> AP:
        for name, value in update_dict.items():
            setattr(access_token, name, value)
        return await self._save(access_token)

    async def delete(self, access_token: AP) -> None:
        await self.session.delete(access_token)
        await self.session.commit()

    async def _save(self, access_token: AP) -> AP:
        self.session.add(access_token)
        await self.session.commit()
        await self.session.refresh(access_token)
        return access_token


def _column(table: type[Any], name: str) -> Any:
    """A column of a table that is only known as something with such an attribute."""
    return getattr(table, name)
