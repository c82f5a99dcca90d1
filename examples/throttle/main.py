"""An application that slows down who guesses. `python main.py` makes its tables, before several workers do it at once.

`THROTTLE_STORAGE=redis://localhost:6379/0 SECRET=… uvicorn main:app --workers 2`
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.doctor import require_tables
from fastapi_users.features.throttle import (
    THROTTLE_RESPONSES,
    Throttle,
    ThrottleMixin,
    get_throttled_router,
    rate_limit,
)

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)  # several workers need one that they share
engine = create_async_engine("sqlite+aiosqlite:///./throttle.db")


class Base(DeclarativeBase): ...


class User(SQLAlchemyBaseUserTableUUID, Base): ...


class UserManager(ThrottleMixin[User, UUID], UUIDIDMixin, BaseUserManager[User, UUID]):
    reset_password_token_secret = verification_token_secret = SECRET
    throttle = Throttle(os.environ.get("THROTTLE_STORAGE", "memory://"))
    trusted_proxies = tuple(os.environ.get("TRUSTED_PROXIES", "").split())


async def get_user_manager() -> AsyncIterator[UserManager]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield UserManager(SQLAlchemyUserDatabase(session, User))


async def create_tables() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await require_tables(fastapi_users, app)
    yield
    await UserManager.throttle.aclose()
    await engine.dispose()


backend = AuthenticationBackend[User, UUID](
    "cookie", CookieTransport(cookie_max_age=3600), lambda: JWTStrategy(SECRET, 3600)
)
fastapi_users = FastAPIUsers[User, UUID](get_user_manager, [backend])
app = FastAPI(lifespan=lifespan)
for router in (
    fastapi_users.get_auth_router(backend),
    fastapi_users.get_register_router(schemas.BaseUser[UUID], schemas.BaseUserCreate),
    fastapi_users.get_reset_password_router(),
):
    app.include_router(get_throttled_router(fastapi_users, router), prefix="/auth")

current_user = fastapi_users.current_user(active=True)
three_greetings = rate_limit("3/minute", get_user_manager, by=current_user)


@app.get("/hello", dependencies=[Depends(three_greetings)], responses=THROTTLE_RESPONSES)
async def hello(user: User = Depends(current_user)) -> str:
    return f"Hello, {user.email}!"


if __name__ == "__main__":
    asyncio.run(create_tables())
