from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from fastapi_users.db import SQLAlchemyBaseOAuthAccountTableUUID, SQLAlchemyBaseUserTableUUID
from fastapi_users.db.sqlalchemy import (
    SQLAlchemyUniqueEmailMixin,
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyWideOAuthAccountMixin,
)
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyBaseAccessTokenTableUUID


class Base(DeclarativeBase): ...


class OAuthAccount(
    SQLAlchemyWideOAuthAccountMixin, SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, Base
):
    """A user's account at a provider. The mixins take tokens of any length, and refuse a second link of the same."""


class User(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, Base):
    """The mixin makes the database refuse an address that another user has in another letter case."""

    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="selectin", cascade="all, delete-orphan")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A login by cookie. Logging out deletes the row, and deleting the user deletes all of theirs."""


class Database:
    def __init__(self, file: Path) -> None:
        self.engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(file)))
        event.listen(self.engine.sync_engine, "connect", _enforce_foreign_keys)
        # Without expiry, a user can still be read after the commit, when the answer is written.
        self.new_session = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Make the tables that are missing. An application with data to lose uses migrations (Alembic) instead."""
        try:
            async with self.engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            yield
        finally:
            await self.engine.dispose()


def _enforce_foreign_keys(connection: Any, _record: Any) -> None:
    """SQLite knows ``ON DELETE CASCADE``, but every connection has to ask for it."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
