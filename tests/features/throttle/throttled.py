"""The World with every router throttled, behind a proxy, so that a test can come from anywhere."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient, Response

from fastapi_users.features.throttle import Throttle, Throttled, ThrottleMixin, get_throttled_router
from fastapi_users.features.throttle.limits import CounterStorage, close_storage, open_storage
from tests.services import REDIS_URL, connect_redis
from tests.world import PASSWORD, SECRET, OneTimeSecret, User, UserCreate, UserManager, UserRead, UserUpdate, World

EMAIL = "ann@example.org"
WRONG = "not the password"


class ThrottledManager(ThrottleMixin[User, uuid.UUID], UserManager):
    throttle = Throttle("memory://")
    trusted_proxies = ("127.0.0.0/8",)
    one_time_secret_model = OneTimeSecret

    async def on_throttled(self, event: Throttled, request: Request | None = None) -> None:
        self.world.hooks.append(("throttled", event.limit, event.identifier))


def manager_with(throttle: Throttle, **settings: Any) -> type[Any]:
    return type("Manager", (ThrottledManager,), {"throttle": throttle, **settings})


def throttled_app(world: World, *, neutral: bool = False, requires_verification: bool = False) -> FastAPI:
    users, app = world.fastapi_users, FastAPI()
    routers = {
        "/auth/jwt": users.get_auth_router(world.bearer, requires_verification),
        "/auth/cookie": users.get_auth_router(world.cookie),
        "/again": users.get_reauthenticate_router(world.bearer),
        "/auth": users.get_register_router(UserRead, UserCreate, neutral=neutral),
        "/reset": users.get_reset_password_router(),
        "/verify": users.get_verify_router(UserRead),
        "/users": users.get_users_router(UserRead, UserUpdate),
        "/oauth": users.get_oauth_router(world.provider, world.cookie, SECRET),
    }
    for prefix, router in routers.items():
        app.include_router(get_throttled_router(users, router), prefix=prefix)
    return app


@asynccontextmanager
async def throttled_world(
    folder: Path, throttle: Throttle, *, settings: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    manager_class = manager_with(throttle, **(settings or {}))
    async with World.on(f"sqlite+aiosqlite:///{folder / 'x.db'}", manager_class=manager_class) as world:
        world.app = throttled_app(world, **options)
        async with world.new_client() as world.client:
            yield world


@asynccontextmanager
async def redis_storage() -> AsyncIterator[CounterStorage]:
    """One whose connections end with the test."""
    client = await connect_redis(decode_responses=False)
    await client.aclose()
    storage = open_storage(REDIS_URL)
    yield storage
    await close_storage(storage)


def client_at(world: World, host: str) -> AsyncClient:
    """The application as seen by a server that knows, or does not know, who is at the other end."""
    return AsyncClient(transport=ASGITransport(world.app, client=(host, 1234)), base_url="https://app.test")


async def log_in(
    client: AsyncClient,
    password: str = WRONG,
    *,
    email: str = EMAIL,
    address: str = "192.0.2.1",
    cookies: dict[str, str] | None = None,
) -> Response:
    """With the cookies given, and no others."""
    client.cookies.clear()
    client.cookies.update(cookies or {})
    headers = {"x-forwarded-for": address}
    return await client.post("/auth/jwt/login", data={"username": email, "password": password}, headers=headers)


async def device_of(client: AsyncClient, *, email: str = EMAIL, password: str = PASSWORD) -> dict[str, str]:
    answer = await log_in(client, password, email=email, address="203.0.113.9")
    assert answer.status_code == 200, answer.text
    return {"fastapiusersdevice": answer.cookies["fastapiusersdevice"]}
