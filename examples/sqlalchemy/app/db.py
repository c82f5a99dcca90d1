from collections.abc import AsyncIterator

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.db.sqlalchemy import (
    UUID_ID,
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
    SQLAlchemyBaseOneTimeSecretTable,
    SQLAlchemyUniqueEmailMixin,
)

from .settings import DATABASE_URL

engine = create_async_engine(DATABASE_URL)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase): ...


class User(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, Base):
    nickname: Mapped[str | None] = mapped_column(default=None)


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A session. Logging out deletes the row."""


class OneTimeSecret(SQLAlchemyBaseOneTimeSecretTable, Base):
    """What makes a mailed token count once."""


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


def get_user_db(session: AsyncSession = Depends(get_session)) -> SQLAlchemyUserDatabase[User, UUID_ID]:
    return SQLAlchemyUserDatabase(session, User)


def get_access_token_db(session: AsyncSession = Depends(get_session)) -> SQLAlchemyAccessTokenDatabase[AccessToken]:
    return SQLAlchemyAccessTokenDatabase(session, AccessToken)


async def create_tables() -> None:
    """For a first look. An application with data to lose has migrations (Alembic) instead."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
