"""What a protected request with a session costs, in CPU time, against the same one with a JWT or a database token."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks import application, databases
from benchmarks.application import SECRET, Base, User
from benchmarks.harness import OURS, Bench, Figure
from benchmarks.read import Case, call_of, route
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper

JWT, DATABASE, SESSION, STATELESS = "JWT", "database token", "session", "session, stateless"

_calls: dict[str, Callable[[], Awaitable[None]]] = {}


async def prepare(database: str, hashed_password: str) -> None:
    """On our side only: version 15 has no such thing."""
    from fastapi_users.features.sessions import RefreshTokenStrategy, SessionsMixin  # noqa: PLC0415 -- ours only
    from fastapi_users.features.sessions.sqlalchemy import SQLAlchemyBaseSessionTableUUID  # noqa: PLC0415 -- the same

    class Session(SQLAlchemyBaseSessionTableUUID, Base): ...

    class UserManager(SessionsMixin[User, uuid.UUID], application.UserManager):
        sessions_model = Session

    async def get_user_manager(user_db: Any = Depends(application.get_user_db)) -> Any:
        return UserManager(user_db)

    def make_backend(*, stateless: bool) -> AuthenticationBackend[User, uuid.UUID]:
        def get_strategy(user_manager: Any = Depends(get_user_manager)) -> Any:
            return RefreshTokenStrategy[User, uuid.UUID](user_manager, SECRET, stateless=stateless)

        return AuthenticationBackend("sessions", BearerTransport("login"), get_strategy)

    await application.connections.open(database, None)
    headers = await application.seed(hashed_password)
    async with AsyncSession(application.connections.engine, expire_on_commit=False) as session:
        manager = UserManager(SQLAlchemyUserDatabase(session, User))
        user = await manager.get_by_email(application.EMAIL)
        token = await RefreshTokenStrategy[User, uuid.UUID](manager, SECRET).write_token(user)
    headers[SESSION] = f"Bearer {token}"

    for name, stateless in ((SESSION, False), (STATELESS, True)):
        users = FastAPIUsers[User, uuid.UUID](get_user_manager, [make_backend(stateless=stateless)])
        make_app = route(users.current_user(active=True))
        _calls[name] = call_of(make_app(), Case(make_app, make_app, SESSION), headers)
    for name, backend in ((JWT, application.bearer), (DATABASE, application.cookie)):
        make_app = route(application.users[backend.name].current_user(active=True))
        _calls[name] = call_of(make_app(), Case(make_app, make_app, backend.name), headers)


async def cpu_seconds(slices: int, seconds: float) -> dict[str, float]:
    """Of one request, by what authenticates it. They take turns."""
    used, done = dict.fromkeys(_calls, 0.0), dict.fromkeys(_calls, 0)
    for _ in range(slices):
        for name, call in _calls.items():
            end = time.perf_counter() + seconds
            start = time.process_time()
            while True:
                await call()
                done[name] += 1
                if time.perf_counter() >= end:
                    break
            used[name] += time.process_time() - start
    return {name: used[name] / done[name] for name in _calls}


async def finish() -> None:
    await application.connections.close()


async def measure(bench: Bench) -> list[Figure]:
    figures: list[Figure] = []
    hashed_password = PasswordHelper().hash(application.PASSWORD)
    slices, seconds = bench.scaled(6, 1), bench.scaled(0.03, 0.001)
    for database in await databases.available():
        ratios = {(name, base): Figure(f"{name} ÷ {base}, {database}, CPU") for name, base in _RATIOS}
        async with databases.DATABASES[database](OURS) as url, bench.ours.running():
            await bench.ours.call(prepare, url.render_as_string(hide_password=False), hashed_password)
            await bench.ours.call(cpu_seconds, 1, 0.0)  # what the first request of a process makes
            for _ in range(bench.rounds):
                cpu = await bench.ours.call(cpu_seconds, slices, seconds)
                for (name, base), figure in ratios.items():
                    figure.add(OURS, cpu[name] / cpu[base])
            await bench.ours.call(finish)
        figures += ratios.values()
    return figures


_RATIOS = [(SESSION, JWT), (SESSION, DATABASE), (STATELESS, JWT)]
