"""What others notice of a crowd that logs in: protected reads meanwhile, over one engine with SQLAlchemy's default pool."""

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks import databases
from benchmarks.harness import Bench, Figure
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper

CROWD = 30
SECRET = "a secret of the benchmark, longer than 32 bytes"
EMAIL, PASSWORD = "ann@example.org", "correct horse battery staple"


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET


@asynccontextmanager
async def client_of_an_application(url: str) -> AsyncIterator[AsyncClient]:
    engine = create_async_engine(url)
    maker = async_sessionmaker(engine, expire_on_commit=False)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with maker() as session:
        session.add(User(email=EMAIL, hashed_password=PasswordHelper().hash(PASSWORD)))
        await session.commit()

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with maker() as session:
            yield session

    async def get_user_manager(session: AsyncSession = Depends(get_session)) -> AsyncIterator[UserManager]:
        yield UserManager(SQLAlchemyUserDatabase[User, uuid.UUID](session, User))

    def get_strategy() -> JWTStrategy[User, uuid.UUID]:
        return JWTStrategy(SECRET, 3600)

    backend = AuthenticationBackend[User, uuid.UUID]("jwt", BearerTransport(tokenUrl="login"), get_strategy)
    users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
    app = FastAPI()
    app.include_router(users.get_auth_router(backend))

    @app.get("/protected")
    async def protected(user: User = Depends(users.current_user(active=True))) -> str:
        return user.email

    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test", timeout=120) as client:
        yield client
    await engine.dispose()


async def log_in(client: AsyncClient) -> str:
    answer = await client.post("/login", data={"username": EMAIL, "password": PASSWORD})
    assert answer.is_success, answer.text
    token: str = answer.json()["access_token"]
    return token


async def read_for_a_while(client: AsyncClient, token: str, seconds: float) -> float:
    """Median, in seconds, of reads that start at fixed times: one that waits keeps none of the others from starting."""
    durations: list[float] = []

    async def read(due: float) -> None:
        answer = await client.get("/protected", headers={"Authorization": f"Bearer {token}"})
        assert answer.is_success, answer.text
        durations.append(time.perf_counter() - due)

    started = due = time.perf_counter()
    with anyio.fail_after(300):
        async with anyio.create_task_group() as reads:
            while due < started + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                reads.start_soon(read, due)
                due += 0.05
    return statistics.median(durations)


async def wait_behind(crowd: int, url: str, seconds: float) -> tuple[float, float]:
    """How long a read takes meanwhile, as a multiple of how long it takes alone, and how many log in a second."""
    async with client_of_an_application(url) as client:
        token = await log_in(client)
        idle = await read_for_a_while(client, token, seconds)
        logins, is_over = 0, False

        async def keep_logging_in() -> None:
            nonlocal logins
            while not is_over:
                await log_in(client)
                logins += 1

        tasks = [asyncio.create_task(keep_logging_in()) for _ in range(crowd)]
        await asyncio.sleep(seconds / 6)
        started, logins = time.perf_counter(), 0
        busy = await read_for_a_while(client, token, seconds)
        rate = logins / (time.perf_counter() - started)
        is_over = True
        await asyncio.gather(*tasks)
    return busy / idle, rate


async def measure(bench: Bench) -> list[Figure]:
    crowd, seconds = bench.scaled((CROWD, 6.0), (2, 0.1))
    wait = Figure(f"protected read while {crowd} clients log in, p50 ÷ idle", target=40)
    rate = Figure(f"logins of {crowd} clients, a second", unit="/s")
    for side in itertools.islice(bench.turns(), len(bench.sides) * min(bench.rounds, 3)):
        async with databases.sqlite(side.name) as url, side.running():
            ratio, logins = await side.call(wait_behind, crowd, str(url), seconds)
        wait.add(side.name, ratio)
        rate.add(side.name, logins, absolute=logins)
    return [wait, rate]
