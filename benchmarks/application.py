"""The application that is measured, and the floors: what an expert writes by hand, and the graph that does nothing.

Only the API of version 15 is used, so that the same file runs on any implementation of it. A feature brings routes of
its own in its part.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
import redis.asyncio
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, status
from fastapi.security import APIKeyCookie, OAuth2PasswordBearer
from sqlalchemy import AsyncAdaptedQueuePool, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.strategy import DatabaseStrategy, RedisStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID

SECRET = "a secret of the benchmark, longer than 32 bytes"
AUDIENCE = "fastapi-users:auth"
LIFETIME_SECONDS = 3600
EMAIL = "ann@example.org"
PASSWORD = "correct horse battery staple"
COOKIE = "fastapiusersauth"
KEY_PREFIX = "fastapi_users_benchmark:"
# Enough for every client of a load, so that a figure is that of the library and not of the queue for a connection.
POOL_SIZE = 20


class Base(DeclarativeBase): ...


class User(SQLAlchemyBaseUserTableUUID, Base): ...


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base): ...


class UserRead(schemas.BaseUser[uuid.UUID]): ...


class UserUpdate(schemas.BaseUserUpdate): ...


class Connections:
    """What the dependencies below read in each request."""

    engine: AsyncEngine
    redis: Any = None
    reset_tokens: dict[str, str]

    async def open(self, database: str, redis_url: str | None) -> None:
        self.reset_tokens = {}
        options: dict[str, Any] = {}
        if ":memory:" not in database:
            # SQLAlchemy before 2.0.38 pools no connections to a SQLite file.
            options = {"poolclass": AsyncAdaptedQueuePool, "pool_size": POOL_SIZE, "max_overflow": 0}
        if database.startswith("sqlite"):
            # A side whose loop stands still makes others wait for its lock: that is to be measured, and no error.
            options["connect_args"] = {"timeout": 60}
        self.engine = create_async_engine(database, **options)
        self.redis = redis.asyncio.Redis.from_url(redis_url, decode_responses=True) if redis_url else None

    async def close(self) -> None:
        await self.engine.dispose()
        if self.redis is not None:
            await self.redis.aclose()


connections = Connections()


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        connections.reset_tokens[user.email] = token


# As the documentation of version 15 writes them.


async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(connections.engine, expire_on_commit=False) as session:
        yield session


async def get_user_db(session: AsyncSession = Depends(get_session)) -> AsyncIterator[Any]:
    yield SQLAlchemyUserDatabase[User, uuid.UUID](session, User)


async def get_access_token_db(session: AsyncSession = Depends(get_session)) -> AsyncIterator[Any]:
    yield SQLAlchemyAccessTokenDatabase[AccessToken](session, AccessToken)


async def get_user_manager(user_db: Any = Depends(get_user_db)) -> AsyncIterator[UserManager]:
    yield UserManager(user_db)


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    return JWTStrategy(SECRET, LIFETIME_SECONDS)


def get_database_strategy(access_token_db: Any = Depends(get_access_token_db)) -> Any:
    return DatabaseStrategy[User, uuid.UUID, AccessToken](access_token_db, LIFETIME_SECONDS)


def get_redis_strategy() -> RedisStrategy[User, uuid.UUID]:
    return RedisStrategy(connections.redis, LIFETIME_SECONDS, key_prefix=KEY_PREFIX)


bearer = AuthenticationBackend[User, uuid.UUID]("jwt", BearerTransport("jwt/login"), get_jwt_strategy)
cookie = AuthenticationBackend[User, uuid.UUID](
    "database", CookieTransport(cookie_max_age=LIFETIME_SECONDS), get_database_strategy
)
in_redis = AuthenticationBackend[User, uuid.UUID]("redis", BearerTransport("redis/login"), get_redis_strategy)

users = {
    backend.name: FastAPIUsers[User, uuid.UUID](get_user_manager, [backend]) for backend in (bearer, cookie, in_redis)
}
two_backends = FastAPIUsers[User, uuid.UUID](get_user_manager, [cookie, bearer])

# By hand.

columns: Any = User  # to a type checker they are the values that users have
rows: Any = AccessToken
read_bearer = OAuth2PasswordBearer("jwt/login", auto_error=False)
read_cookie = APIKeyCookie(name=COOKIE, auto_error=False)


def read_jwt(token: str | None) -> uuid.UUID | None:
    if token is None:
        return None
    try:
        return uuid.UUID(jwt.decode(token, SECRET, audience=AUDIENCE, algorithms=["HS256"])["sub"])
    except jwt.PyJWTError:
        return None


async def find(session: AsyncSession, user_id: uuid.UUID) -> Any:
    return await session.scalar(select(columns).where(columns.id == user_id))


async def find_by_jwt(session: AsyncSession, token: str | None) -> Any:
    user_id = read_jwt(token)
    return None if user_id is None else await find(session, user_id)


async def find_by_row(session: AsyncSession, token: str | None) -> Any:
    if token is None:
        return None
    oldest = datetime.now(timezone.utc) - timedelta(seconds=LIFETIME_SECONDS)
    statement = select(columns).join(rows, rows.user_id == columns.id)
    return await session.scalar(statement.where(rows.token == token, rows.created_at >= oldest))


def active(user: User | None) -> User:
    if user is None or not user.is_active:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED)
    return user


async def hand_optional(
    token: str | None = Depends(read_bearer), session: AsyncSession = Depends(get_session)
) -> User | None:
    user = await find_by_jwt(session, token)
    return user if user is not None and user.is_active else None


async def hand_jwt(token: str | None = Depends(read_bearer), session: AsyncSession = Depends(get_session)) -> User:
    return active(await find_by_jwt(session, token))


async def hand_superuser(user: User = Depends(hand_jwt)) -> User:
    if not user.is_superuser:
        raise HTTPException(status.HTTP_403_FORBIDDEN)
    return user


async def hand_row(token: str | None = Depends(read_cookie), session: AsyncSession = Depends(get_session)) -> User:
    return active(await find_by_row(session, token))


async def hand_redis(token: str | None = Depends(read_bearer), session: AsyncSession = Depends(get_session)) -> User:
    user_id = None if token is None else await connections.redis.get(f"{KEY_PREFIX}{token}")
    return active(None if user_id is None else await find(session, uuid.UUID(user_id)))


async def hand_two(
    row_token: str | None = Depends(read_cookie),
    jwt_token: str | None = Depends(read_bearer),
    session: AsyncSession = Depends(get_session),
) -> User:
    return active(await find_by_row(session, row_token) or await find_by_jwt(session, jwt_token))


async def graph(
    user_manager: Any = Depends(get_user_manager),
    token: str | None = Depends(read_bearer),
    strategy: Any = Depends(get_jwt_strategy),
) -> None:
    """What FastAPI has to solve for a drop-in, and nothing else."""


# For requests over the network: benchmarks/load.py serves it.


def make_router() -> APIRouter:
    router = APIRouter()

    @router.get("/ping")
    async def ping() -> None: ...

    @router.get("/reset-token")
    async def reset_token(email: str) -> str:
        """What the mail of a forgotten password would carry."""
        return connections.reset_tokens.pop(email, "")

    for backend in (bearer, cookie, in_redis):
        router.include_router(users[backend.name].get_auth_router(backend), prefix=f"/{backend.name}")
        current_user = users[backend.name].current_user(active=True)
        router.add_api_route(f"/{backend.name}/protected", _protected, dependencies=[Depends(current_user)])
    router.include_router(users[bearer.name].get_register_router(UserRead, schemas.BaseUserCreate))
    router.include_router(users[bearer.name].get_reset_password_router())
    return router


async def _protected() -> None: ...


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    await connections.open(os.environ["BENCHMARK_DATABASE"], os.environ.get("BENCHMARK_REDIS"))
    yield
    await connections.close()


def make_app() -> FastAPI:
    app = FastAPI(openapi_url=None, lifespan=_lifespan)
    app.include_router(make_router())
    return app


def email_of(number: int) -> str:
    return f"user{number}@example.org"


async def seed(hashed_password: str, count: int = 1) -> dict[str, str]:
    """Make the tables and ``count`` users with that password. The headers of the first one, by name of the backend."""
    async with connections.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(connections.engine, expire_on_commit=False) as session:
        ann = User(email=EMAIL, hashed_password=hashed_password, is_superuser=True, is_verified=True)
        session.add(ann)
        session.add_all(User(email=email_of(number), hashed_password=hashed_password) for number in range(1, count))
        await session.commit()
        jwt_token = await get_jwt_strategy().write_token(ann)
        row_token = await get_database_strategy(SQLAlchemyAccessTokenDatabase(session, AccessToken)).write_token(ann)
        headers = {"jwt": f"Bearer {jwt_token}", "database": f"{COOKIE}={row_token}", "forged": f"Bearer {jwt_token}x"}
        if connections.redis is not None:
            headers["redis"] = f"Bearer {await get_redis_strategy().write_token(ann)}"
    return headers
