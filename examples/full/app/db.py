"""`python -m app.db` makes the tables: once, before the workers start, who would do it all at the same time."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

from fastapi import Depends
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_users.db import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import (
    UUID_ID,
    SQLAlchemyBaseOneTimeSecretTable,
    SQLAlchemyUniqueEmailMixin,
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyWideOAuthAccountMixin,
    TIMESTAMPAware,
)
from fastapi_users.features.sessions.sqlalchemy import SQLAlchemyBaseSessionTableUUID

from .settings import DATABASE_URL

engine = create_async_engine(DATABASE_URL, pool_pre_ping=True)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase): ...


class OAuthAccount(
    SQLAlchemyWideOAuthAccountMixin, SQLAlchemyUniqueOAuthAccountMixin, SQLAlchemyBaseOAuthAccountTableUUID, Base
):
    """An account at a provider. Its tokens are stored encrypted."""


class User(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, Base):
    nickname: Mapped[str | None] = mapped_column(String(100), default=None)
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="selectin", cascade="all, delete-orphan")


class Session(SQLAlchemyBaseSessionTableUUID, Base):
    """A user on a device."""


class OneTimeSecret(SQLAlchemyBaseOneTimeSecretTable, Base):
    """What makes a mailed token count once."""


class AuditEntry(Base):
    """What happened to an account. It stays when the user goes, hence no foreign key."""

    __tablename__ = "audit_entry"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(50))
    user_id: Mapped[str | None] = mapped_column(String(36), index=True)
    address: Mapped[str | None] = mapped_column(String(45))
    time: Mapped[datetime] = mapped_column(TIMESTAMPAware(timezone=True), index=True)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


def get_user_db(session: AsyncSession = Depends(get_session)) -> SQLAlchemyUserDatabase[User, UUID_ID]:
    return SQLAlchemyUserDatabase(session, User, OAuthAccount)


async def create_tables() -> None:
    """For a first look. An application with data to lose has migrations (Alembic) instead."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(create_tables())
