import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)  # a new one: the restart has logged everyone out
engine = create_async_engine("sqlite+aiosqlite:///./minimal.db")


class Base(DeclarativeBase): ...


class User(SQLAlchemyBaseUserTableUUID, Base): ...


class UserManager(UUIDIDMixin, BaseUserManager[User, UUID]):
    reset_password_token_secret = verification_token_secret = SECRET


async def get_user_manager() -> AsyncIterator[UserManager]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield UserManager(SQLAlchemyUserDatabase(session, User))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


backend = AuthenticationBackend[User, UUID]("jwt", BearerTransport("auth/login"), lambda: JWTStrategy(SECRET, 3600))
fastapi_users = FastAPIUsers[User, UUID](get_user_manager, [backend])
app = FastAPI(lifespan=lifespan)
app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth")
app.include_router(fastapi_users.get_register_router(schemas.BaseUser[UUID], schemas.BaseUserCreate), prefix="/auth")
app.include_router(fastapi_users.get_users_router(schemas.BaseUser[UUID], schemas.BaseUserUpdate), prefix="/users")


@app.get("/hello")
async def hello(user: User = Depends(fastapi_users.current_user(active=True))) -> str:
    return f"Hello, {user.email}!"
