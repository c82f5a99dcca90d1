"""A page that keeps itself logged in: uvicorn examples.sessions.main:app

``ACCESS_SECONDS=10`` lets access tokens expire while you watch.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, CookieTransport
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.features.sessions import RefreshTokenStrategy, SessionsMixin, get_sessions_router
from fastapi_users.features.sessions.sqlalchemy import SQLAlchemyBaseSessionTableUUID

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)  # a new one: the restart has logged everyone out
ACCESS_SECONDS = int(os.environ.get("ACCESS_SECONDS", "900"))
PAGE = Path(__file__).parent / "page.html"
engine = create_async_engine("sqlite+aiosqlite:///./sessions.db")


class Base(DeclarativeBase): ...


class User(SQLAlchemyBaseUserTableUUID, Base): ...


class Session(SQLAlchemyBaseSessionTableUUID, Base): ...


class UserManager(SessionsMixin[User, UUID], UUIDIDMixin, BaseUserManager[User, UUID]):
    reset_password_token_secret = verification_token_secret = SECRET
    sessions_model = Session
    sessions_remember_by_default = False  # an empty checkbox is not sent


async def get_user_manager() -> AsyncIterator[UserManager]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield UserManager(SQLAlchemyUserDatabase(session, User))


def get_strategy(user_manager: UserManager = Depends(get_user_manager)) -> RefreshTokenStrategy[User, UUID]:
    return RefreshTokenStrategy(user_manager, SECRET, lifetime_seconds=ACCESS_SECONDS)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


backend = AuthenticationBackend[User, UUID]("browser", CookieTransport("session"), get_strategy)
fastapi_users = FastAPIUsers[User, UUID](get_user_manager, [backend])
app = FastAPI(lifespan=lifespan)
app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth")
app.include_router(get_sessions_router(fastapi_users, backend), prefix="/auth")
app.include_router(fastapi_users.get_register_router(schemas.BaseUser[UUID], schemas.BaseUserCreate), prefix="/auth")
app.include_router(fastapi_users.get_users_router(schemas.BaseUser[UUID], schemas.BaseUserUpdate), prefix="/users")


@app.get("/", response_class=FileResponse)
async def page() -> Path:
    return PAGE
