"""What a protected request costs, in CPU time of calls within one process, against the same request written by hand."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, status

from benchmarks import application, databases
from benchmarks.application import bearer, cookie, in_redis, two_backends, users
from benchmarks.harness import OURS, PEER, Bench, Figure
from fastapi_users.password import PasswordHelper


@dataclass
class Case:
    """A request to the library and to what an expert writes by hand. ``sends`` is the name of a header of the seed.

    ``target`` is for instructions: CPU time does not repeat well enough.
    """

    library: Callable[[], FastAPI]
    hand: Callable[[], FastAPI]
    sends: str | None = None
    status: int = status.HTTP_200_OK
    target: float | None = None


def route(*dependencies: Any) -> Callable[[], FastAPI]:
    """An application of this route only, so that its place among others plays no part."""

    def make() -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.get("/", dependencies=[Depends(dependency) for dependency in dependencies])
        async def answer() -> None: ...

        return app

    return make


def profile(dependency: Any) -> Callable[[], FastAPI]:
    def make() -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.get("/", response_model=application.UserRead)
        async def me(user: Any = Depends(dependency)) -> Any:
            return user

        return app

    return make


def own_profile() -> FastAPI:
    """Where the router has it: at ``/me``, before the routes of other users."""
    app = FastAPI(openapi_url=None)
    router = users[bearer.name].get_users_router(application.UserRead, application.UserUpdate)
    app.include_router(router)
    return app


def needing(dependency: Any) -> Callable[..., Any]:
    async def dependent(user: Any = Depends(dependency)) -> None: ...

    return dependent


_jwt = users[bearer.name]
_current = _jwt.current_user(active=True)
_hand = application.hand_jwt
_UNAUTHORIZED = status.HTTP_401_UNAUTHORIZED

CASES = {
    "JWT": Case(route(_current), route(_hand), "jwt", target=0.90),
    "database token": Case(
        route(users[cookie.name].current_user(active=True)), route(application.hand_row), "database", target=1.0
    ),
    "Redis token": Case(route(users[in_redis.name].current_user(active=True)), route(application.hand_redis), "redis"),
    "two backends, the second knows the token": Case(
        route(two_backends.current_user(active=True)), route(application.hand_two), "jwt", target=1.02
    ),
    "superuser": Case(
        route(_jwt.current_user(active=True, superuser=True)), route(application.hand_superuser), "jwt", target=0.87
    ),
    "the same `current_user` three times": Case(
        route(_current, needing(_current), needing(_current)),
        route(_hand, needing(_hand), needing(_hand)),
        "jwt",
        target=1.05,
    ),
    "three different `current_user(…)`": Case(
        route(_jwt.current_user(), _current, _jwt.current_user(active=True, verified=True)),
        route(_hand, needing(_hand), application.hand_superuser),
        "jwt",
        target=1.0,
    ),
    "`GET /users/me`": Case(own_profile, profile(_hand), "jwt", target=0.92),
    "optional, without a token": Case(
        route(_jwt.current_user(optional=True)), route(application.hand_optional), target=1.46
    ),
    "401 without a token": Case(route(_current), route(_hand), status=_UNAUTHORIZED, target=0.62),
    "401 for a forged JWT": Case(route(_current), route(_hand), "forged", status=_UNAUTHORIZED, target=1.37),
    "nothing but the graph of dependencies": Case(route(application.graph), route(_hand), "jwt"),
    "a route without a user": Case(route(), route(_hand), "jwt"),
}


# What follows until ``measure`` runs in the process of a side.

Call = Callable[[], Awaitable[None]]
_calls: dict[tuple[str, str], Call] = {}


def call_of(app: FastAPI, case: Case, headers: dict[str, str], path: str = "/") -> Call:
    value = headers[case.sends] if case.sends else ""
    name = b"cookie" if case.sends == "database" else b"authorization"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"bench.test"), *([(name, value.encode())] if value else [])],
        "client": ("127.0.0.1", 50000),
        "server": ("bench.test", 443),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", case.status) == case.status, message

    async def call() -> None:
        await app({**scope}, receive, send)

    return call


async def prepare(database: str, redis_url: str | None, hashed_password: str) -> list[str]:
    """The names of the cases that can be measured here."""
    await application.connections.open(database, redis_url)
    headers = await application.seed(hashed_password)
    measurable = [name for name, case in CASES.items() if case.sends is None or case.sends in headers]
    for name in measurable:
        case = CASES[name]
        path = "/me" if case.library is own_profile else "/"
        _calls[name, "library"] = call_of(case.library(), case, headers, path)
        _calls[name, "hand"] = call_of(case.hand(), case, headers)
    return measurable


async def repeat(name: str, kind: str, times: int) -> None:
    for _ in range(times):
        await _calls[name, kind]()


async def cpu_seconds(name: str, slices: int, seconds: float) -> dict[str, float]:
    """Of one request, by kind, which take turns. All threads count: drivers and synchronous functions have some."""
    used, done = {"library": 0.0, "hand": 0.0}, {"library": 0, "hand": 0}
    for number in range(slices):
        for kind in sorted(used, reverse=number % 2 == 0):
            end = time.perf_counter() + seconds
            start = time.process_time()
            while True:
                await _calls[name, kind]()
                done[kind] += 1
                if time.perf_counter() >= end:
                    break
            used[kind] += time.process_time() - start
    return {kind: used[kind] / done[kind] for kind in used}


async def finish() -> None:
    await application.connections.close()


# The part.


@asynccontextmanager
async def prepared(bench: Bench, database: str, *, under: Sequence[str] = ()) -> AsyncIterator[list[str]]:
    """Every side with a database of its own, and the cases that all of them can measure."""
    redis_url = databases.redis_url()
    hashed_password = PasswordHelper().hash(application.PASSWORD)
    async with databases.DATABASES[database](OURS) as own, databases.DATABASES[database](PEER) as other:
        urls = {OURS: own, PEER: other}
        async with bench.running(under=under):
            for side in bench.sides:
                url = urls[side.name].render_as_string(hide_password=False)
                names = await side.call(prepare, url, redis_url, hashed_password)
            yield names
            for side in bench.sides:
                await side.call(finish)


async def measure(bench: Bench) -> list[Figure]:
    figures = []
    slices, seconds = bench.scaled(6, 1), bench.scaled(0.03, 0.001)
    for database in await databases.available():
        async with prepared(bench, database) as names:
            for name in names:
                figure = Figure(f"{name} ÷ by hand, {database}, CPU")
                for side in bench.sides:
                    await side.call(cpu_seconds, name, 1, 0.0)  # what the first request of a process makes
                for side in bench.turns():
                    cpu = await side.call(cpu_seconds, name, slices, seconds)
                    figure.add(side.name, cpu["library"] / cpu["hand"], absolute=cpu["library"])
                figures.append(figure)
    return figures
