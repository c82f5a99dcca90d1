"""What it costs to be counted, against the same request without the feature: login and a protected route with `rate_limit`."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, status
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks import application, databases
from benchmarks.application import EMAIL, PASSWORD, User, UserManager, bearer, get_user_db
from benchmarks.harness import Bench, Figure
from fastapi_users import FastAPIUsers
from fastapi_users.features.throttle import Throttle, ThrottleMixin, get_throttled_router, rate_limit
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import weak_password_helper

FREE_EMAIL = "free@example.org"
MANY = "1000000/minute"
KINDS = ["with", "without"]
LOGIN, FREE_LOGIN, ROUTE = "login", "login, with a hash that costs nothing", "protected route"

Call = Callable[[], Awaitable[None]]
_calls: dict[tuple[str, str], Call] = {}


# In the process of a side.


def _application(storage: str | None, *, is_free: bool) -> FastAPI:
    """:param storage: ``None`` for one that counts nothing."""
    helper = weak_password_helper() if is_free else None
    manager_class: type[UserManager] = UserManager
    if storage is not None:
        throttle = Throttle(storage, login=MANY, key_prefix=f"fastapi_users_benchmark_{uuid.uuid4()}")
        settings = {"throttle": throttle, "trusted_proxies": ()}
        manager_class = type("Manager", (ThrottleMixin, UserManager), settings)

    async def get_user_manager(user_db: Any = Depends(get_user_db)) -> AsyncIterator[UserManager]:
        yield manager_class(user_db, helper)

    users = FastAPIUsers[User, uuid.UUID](get_user_manager, [bearer])
    app = FastAPI(openapi_url=None)
    router = users.get_auth_router(bearer)
    app.include_router(router if storage is None else get_throttled_router(users, router))
    current_user = users.current_user(active=True)
    dependencies = [] if storage is None else [Depends(rate_limit(MANY, get_user_manager, by=current_user))]

    @app.get("/", dependencies=dependencies)
    async def answer(user: User = Depends(current_user)) -> None: ...

    return app


def _call(app: FastAPI, method: str, path: str, header: tuple[bytes, bytes], body: bytes = b"") -> Call:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"bench.test"), header],
        "client": ("192.0.2.1", 50000),
        "server": ("bench.test", 443),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", status.HTTP_200_OK) == status.HTTP_200_OK, message

    async def call() -> None:
        await app({**scope}, receive, send)

    return call


async def prepare(database: str, storage: str) -> None:
    await application.connections.open(database, None)
    headers = await application.seed(PasswordHelper().hash(PASSWORD))
    async with AsyncSession(application.connections.engine) as session:
        session.add(User(email=FREE_EMAIL, hashed_password=weak_password_helper().hash(PASSWORD)))
        await session.commit()
    form = (b"content-type", b"application/x-www-form-urlencoded")
    body, free_body = (urlencode({"username": email, "password": PASSWORD}).encode() for email in (EMAIL, FREE_EMAIL))
    for kind, counted_in in zip(KINDS, (storage, None), strict=True):
        free = _application(counted_in, is_free=True)
        _calls[FREE_LOGIN, kind] = _call(free, "POST", "/login", form, free_body)
        _calls[ROUTE, kind] = _call(free, "GET", "/", (b"authorization", headers["jwt"].encode()))
        _calls[LOGIN, kind] = _call(_application(counted_in, is_free=False), "POST", "/login", form, body)


async def seconds_of(name: str, slices: int, seconds: float) -> dict[str, float]:
    """Of one request, by kind, which take turns: on the clock, since Redis is waited for."""
    used, done = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0)
    for number in range(slices):
        for kind in sorted(KINDS, reverse=number % 2 == 0):
            start = time.perf_counter()
            while True:
                await _calls[name, kind]()
                done[kind] += 1
                now = time.perf_counter()
                if now - start >= seconds:
                    break
            used[kind] += now - start
    return {kind: used[kind] / done[kind] for kind in KINDS}


async def finish() -> None:
    await application.connections.close()


# The part.


async def measure(bench: Bench) -> list[Figure]:
    """On ours alone: the peer has no such thing."""
    figures = []
    redis_url = databases.redis_url()
    storages = {"memory": "memory://"} | ({"Redis": redis_url} if redis_url else {})
    slices, seconds = bench.scaled(10, 1), bench.scaled(0.1, 0.001)
    for storage, uri in storages.items():
        async with databases.DATABASES["SQLite"](storage) as database, bench.ours.running():
            await bench.ours.call(prepare, database.render_as_string(hide_password=False), uri)
            for name in (LOGIN, FREE_LOGIN, ROUTE):
                target = 1.15 if storage == "memory" and name != FREE_LOGIN else None
                figure = Figure(f"{name}, counted in {storage} ÷ not", target=target)
                await bench.ours.call(seconds_of, name, 1, 0.0)  # what the first request of a process makes
                for _ in range(bench.rounds):
                    taken = await bench.ours.call(seconds_of, name, slices, seconds)
                    figure.add(bench.ours.name, taken["with"] / taken["without"], absolute=taken["with"])
                figures.append(figure)
            await bench.ours.call(finish)
    return figures
