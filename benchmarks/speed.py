"""What a request and an import cost, in units of those of FastAPI itself."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from statistics import median

from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import InMemoryUserDatabase, User

ROUNDS = 7
REQUESTS = 200
SECRET = "a secret of the benchmark, longer than 32 bytes"
FORM = {"username": "ann@example.org", "password": "correct horse"}


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


def import_seconds(module: str) -> float:
    """CPU seconds that a fresh interpreter spends on the import."""
    code = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 -- our own code


def make_app(database: InMemoryUserDatabase[User, uuid.UUID]) -> FastAPI:
    backend = AuthenticationBackend[User, uuid.UUID]("jwt", BearerTransport("login"), lambda: JWTStrategy(SECRET, 3600))
    users = FastAPIUsers[User, uuid.UUID](lambda: UserManager(database), [backend])
    app = FastAPI(openapi_url=None)
    app.include_router(users.get_auth_router(backend))

    @app.get("/bare")
    async def bare() -> None: ...

    @app.get("/protected")
    async def protected(user: object = Depends(users.current_user(active=True))) -> None: ...

    return app


async def cpu_seconds(call: Callable[[], Awaitable[object]]) -> float:
    start = time.process_time()
    for _ in range(REQUESTS):
        await call()
    return (time.process_time() - start) / REQUESTS


async def longest_stall(call: Callable[[], Awaitable[object]]) -> float:
    """The longest time for which the event loop did nothing else while the call ran, in seconds."""
    work = asyncio.ensure_future(call())
    longest, last = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await work
    return longest


def verification_seconds(helper: PasswordHelper, hashed_password: str) -> float:
    start = time.perf_counter()
    helper.verify_and_update(FORM["password"], hashed_password)
    return time.perf_counter() - start


async def main() -> None:
    helper = PasswordHelper()
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await database.create({"email": FORM["username"], "hashed_password": helper.hash(FORM["password"])})
    async with AsyncClient(transport=ASGITransport(make_app(database)), base_url="http://bench.test") as client:
        token = (await client.post("/login", data=FORM)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        imports, requests, stalls = [], [], []
        for _ in range(ROUNDS):
            imports.append(import_seconds("fastapi_users") / import_seconds("fastapi"))
            bare = await cpu_seconds(lambda: client.get("/bare"))
            requests.append(await cpu_seconds(lambda: client.get("/protected", headers=headers)) / bare)
            verification = verification_seconds(helper, user.hashed_password)
            stalls.append(await longest_stall(lambda: client.post("/login", data=FORM)) / verification)
    print(f"Python {sys.version.split()[0]}, median of {ROUNDS} rounds")
    print(f"CPU of `import fastapi_users` / `import fastapi`               {median(imports):5.2f}")
    print(f"CPU of a protected request (JWT, user in memory) / a bare one  {median(requests):5.2f}")
    print(f"longest stall of the loop by a login / one hash                {median(stalls):5.2f}")
