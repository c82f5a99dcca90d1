"""No route gives a session to a user whose login a seam interrupts.

The walk calls every route that is mounted, each in the best way there is: with right passwords, valid tokens, a running
session. A route it does not know fails it, so that a way in that comes later is walked as well.
"""

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import Depends
from httpx import AsyncClient, Response
from sqlalchemy.ext.asyncio import create_async_engine

import fastapi_users
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.login import LoginAttempt, LoginInterrupted, document_challenges
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.features.sessions import (
    RefreshTokenStrategy,
    SessionsMixin,
    get_sessions_admin_router,
    get_sessions_router,
)
from fastapi_users.jwt import generate_jwt
from fastapi_users.router import get_jwks_router
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests.features.sessions.application import SessionRow
from tests.toy import ToyManager, ToyPIN, get_toy_router
from tests.world import PASSWORD, SECRET, AccessToken, OAuthAccount, User, World

PACKAGE = Path(fastapi_users.__file__).parent  # of the source, or installed from a wheel
EMAIL = "ann@example.org"
CREDENTIALS = {"username": EMAIL, "password": PASSWORD}


class Walked(SessionsMixin[User, uuid.UUID], ToyManager):
    """With every feature."""

    sessions_model = SessionRow


class Interrupting(Walked):
    """Whatever Ann proves, it is not enough."""

    async def _seam_before_session(self, attempt: LoginAttempt[User, uuid.UUID]) -> None:
        await super()._seam_before_session(attempt)
        raise LoginInterrupted(["never"])


class Ann:
    """Everything that she can have to show; her sessions are from before the interruption."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.client

    async def appear(self) -> None:
        self.user = await self.world.insert_user()
        async with self.world.session_maker() as session:
            session.add(
                OAuthAccount(
                    user_id=self.user.id,
                    oauth_name="provider",
                    access_token="ACCESS",
                    account_id="account-1",
                    account_email=EMAIL,
                )
            )
            await session.commit()
            database = SQLAlchemyAccessTokenDatabase(session, AccessToken)
            cookie = await DatabaseStrategy[User, uuid.UUID, AccessToken](database, 3600).write_token(self.user)
            manager = self.world.make_manager(session)
            started = await manager.start_session(self.user)
            strategy = RefreshTokenStrategy[User, uuid.UUID](manager, SECRET)
            access_token, _ = await strategy.issue(self.user, started)
        self.cookies = {"cookie": f"fastapiusersauth={cookie}"}
        self.bearer = await self.bearer_of(self.user)
        self.own_session = {"Authorization": f"Bearer {access_token}"}
        self.session_id, self.refresh_body = started.session.id, {"refresh_token": started.refresh_token}

    async def bearer_of(self, user: User) -> dict[str, str]:
        return {"Authorization": f"Bearer {await JWTStrategy[User, uuid.UUID](SECRET, 3600).write_token(user)}"}

    async def bearer_of_root(self) -> dict[str, str]:
        return await self.bearer_of(await self.world.insert_user("root@example.org", is_superuser=True))

    async def as_root(self, method: str, path: str) -> Response:
        headers = await self.bearer_of_root()
        return await self.client.request(method, f"/users/{self.user.id}{path}", headers=headers)

    async def mailed(self, path: str) -> str:
        await self.client.post(path, json={"email": EMAIL})
        return self.world.outbox.token(to=EMAIL)

    async def state(self, flow: str) -> str:
        answer = await self.client.get(f"/{flow}/authorize", headers=self.bearer)
        state: str = parse_qs(urlsplit(answer.json()["authorization_url"]).query)["state"][0]
        return state

    async def ticket(self, backend: str) -> str:
        """That of her login, and where that is not interrupted, nothing."""
        answer = await self.client.post(f"/auth/{backend}/login", data=CREDENTIALS)
        self.client.cookies.delete("fastapiusersauth") if "fastapiusersauth" in self.client.cookies else None
        ticket: str = answer.json()["challenge"]["id"] if answer.status_code == 202 else ""
        return ticket

    async def finish(self, backend: str) -> Response:
        async with self.world.session_maker() as session:
            session.add(ToyPIN(user_id=self.user.id, pin="1234"))
            await session.commit()
        body = {"ticket": await self.ticket(backend), "pin": "1234"}
        return await self.client.post(f"/auth/{backend}/toy", json=body)


async def register(ann: Ann) -> Response:
    return await ann.client.post("/auth/register", json={"email": "new@example.org", "password": PASSWORD})


async def reset_password(ann: Ann) -> Response:
    body = {"token": await ann.mailed("/auth/forgot-password"), "password": PASSWORD}
    return await ann.client.post("/auth/reset-password", json=body)


async def verify(ann: Ann) -> Response:
    return await ann.client.post("/auth/verify", json={"token": await ann.mailed("/auth/request-verify-token")})


async def oauth_callback(ann: Ann) -> Response:
    return await ann.client.get("/oauth/callback", params={"code": "CODE", "state": await ann.state("oauth")})


async def associate_callback(ann: Ann) -> Response:
    ann.world.provider.account = ("account-2", EMAIL)
    params = {"code": "CODE", "state": await ann.state("associate")}
    return await ann.client.get("/associate/callback", params=params, headers=ann.bearer)


async def update_me(ann: Ann) -> Response:
    return await ann.client.patch("/users/me", json={"password": PASSWORD}, headers=ann.bearer)


async def get_user(ann: Ann) -> Response:
    return await ann.client.get(f"/users/{ann.user.id}", headers=await ann.bearer_of_root())


async def update_user(ann: Ann) -> Response:
    headers = await ann.bearer_of_root()
    return await ann.client.patch(f"/users/{ann.user.id}", json={"is_verified": True}, headers=headers)


async def delete_user(ann: Ann) -> Response:
    return await ann.client.delete(f"/users/{ann.user.id}", headers=await ann.bearer_of_root())


async def unlink(ann: Ann) -> Response:
    await associate_callback(ann)
    accounts = (await ann.client.get("/account/oauth-accounts", headers=ann.bearer)).json()
    return await ann.client.delete(f"/account/oauth-accounts/{accounts[0]['id']}", headers=ann.bearer)


WALK: dict[str, Callable[[Ann], Awaitable[Response]]] = {
    "POST /auth/jwt/login": lambda ann: ann.client.post("/auth/jwt/login", data=CREDENTIALS),
    "POST /auth/cookie/login": lambda ann: ann.client.post("/auth/cookie/login", data=CREDENTIALS),
    "POST /auth/jwt/logout": lambda ann: ann.client.post("/auth/jwt/logout", headers=ann.bearer),
    "POST /auth/cookie/logout": lambda ann: ann.client.post("/auth/cookie/logout", headers=ann.cookies),
    "POST /auth/jwt/reauthenticate": lambda ann: ann.client.post(
        "/auth/jwt/reauthenticate", json={"password": PASSWORD}, headers=ann.bearer
    ),
    "POST /auth/cookie/reauthenticate": lambda ann: ann.client.post(
        "/auth/cookie/reauthenticate", json={"password": PASSWORD}, headers=ann.cookies
    ),
    "POST /auth/jwt/toy": lambda ann: ann.finish("jwt"),
    "POST /auth/cookie/toy": lambda ann: ann.finish("cookie"),
    "POST /auth/register": register,
    "POST /auth/forgot-password": lambda ann: ann.client.post("/auth/forgot-password", json={"email": EMAIL}),
    "POST /auth/reset-password": reset_password,
    "POST /auth/request-verify-token": lambda ann: ann.client.post("/auth/request-verify-token", json={"email": EMAIL}),
    "POST /auth/verify": verify,
    "GET /users/me": lambda ann: ann.client.get("/users/me", headers=ann.bearer),
    "PATCH /users/me": update_me,
    "GET /users/{id}": get_user,
    "PATCH /users/{id}": update_user,
    "DELETE /users/{id}": delete_user,
    "GET /oauth/authorize": lambda ann: ann.client.get("/oauth/authorize"),
    "GET /oauth/callback": oauth_callback,
    "GET /associate/authorize": lambda ann: ann.client.get("/associate/authorize", headers=ann.bearer),
    "GET /associate/callback": associate_callback,
    "GET /account/oauth-accounts": lambda ann: ann.client.get("/account/oauth-accounts", headers=ann.bearer),
    "DELETE /account/oauth-accounts/{id}": unlink,
    "POST /auth/sessions/login": lambda ann: ann.client.post("/auth/sessions/login", data=CREDENTIALS),
    "POST /auth/sessions/logout": lambda ann: ann.client.post("/auth/sessions/logout", headers=ann.own_session),
    "POST /auth/sessions/refresh": lambda ann: ann.client.post("/auth/sessions/refresh", json=ann.refresh_body),
    "POST /auth/sessions/refresh/revoke": lambda ann: ann.client.post(
        "/auth/sessions/refresh/revoke", json=ann.refresh_body
    ),
    "GET /auth/sessions/sessions": lambda ann: ann.client.get("/auth/sessions/sessions", headers=ann.own_session),
    "DELETE /auth/sessions/sessions": lambda ann: ann.client.delete("/auth/sessions/sessions", headers=ann.own_session),
    "DELETE /auth/sessions/sessions/{id}": lambda ann: ann.client.delete(
        f"/auth/sessions/sessions/{ann.session_id}", headers=ann.own_session
    ),
    "GET /users/{user_id}/sessions": lambda ann: ann.as_root("GET", "/sessions"),
    "DELETE /users/{user_id}/sessions": lambda ann: ann.as_root("DELETE", "/sessions"),
    "DELETE /users/{user_id}/sessions/{id}": lambda ann: ann.as_root("DELETE", f"/sessions/{ann.session_id}"),
    "GET /.well-known/jwks.json": lambda ann: ann.client.get("/.well-known/jwks.json"),
}
WAYS_IN = {
    "POST /auth/jwt/login",
    "POST /auth/cookie/login",
    "POST /auth/jwt/reauthenticate",
    "POST /auth/cookie/reauthenticate",
    "POST /auth/jwt/toy",
    "POST /auth/cookie/toy",
    "POST /auth/sessions/login",
    "GET /oauth/callback",
}
GOES_ON = {"POST /auth/sessions/refresh"}
"""With a session that there is already: an access token, and no new session."""


def mount_toy(world: World) -> World:
    world.app.include_router(get_jwks_router())
    for backend in (world.bearer, world.cookie):
        world.app.include_router(get_toy_router(world.fastapi_users, backend), prefix=f"/auth/{backend.name}")
    mount_sessions(world)
    return world


def mount_sessions(world: World) -> None:
    def get_strategy(user_manager: Any = Depends(world.fastapi_users.get_user_manager)) -> Any:
        return RefreshTokenStrategy[User, uuid.UUID](user_manager, SECRET)

    backend = AuthenticationBackend[User, uuid.UUID]("sessions", BearerTransport("auth/sessions/login"), get_strategy)
    users = FastAPIUsers[User, uuid.UUID](world.fastapi_users.get_user_manager, [backend])
    document_challenges([backend])  # which the toy may ask for here as well
    for router in (users.get_auth_router(backend), get_sessions_router(users, backend)):
        world.app.include_router(router, prefix="/auth/sessions")
    world.app.include_router(get_sessions_admin_router(world.fastapi_users), prefix="/users")


def mounted_routes() -> set[str]:
    world = mount_toy(World(create_async_engine("sqlite+aiosqlite://"), manager_class=Walked))
    paths = world.app.openapi()["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


@asynccontextmanager
async def walking(
    tmp_path: Path, manager_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Ann, list[str]]]:
    """Ann, and whose sessions have been made since she came."""
    sessions: list[str] = []

    def count_in(strategy_class: type[Any]) -> None:
        write_token = strategy_class.write_token

        async def write(self: Any, user: User) -> str:
            sessions.append(user.email)
            token: str = await write_token(self, user)
            return token

        monkeypatch.setattr(strategy_class, "write_token", write)

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        ann = Ann(mount_toy(world))
        await ann.appear()
        # Her own tools would count as well.
        root, ann_bearer = await ann.bearer_of_root(), ann.bearer
        monkeypatch.setattr(ann, "bearer_of_root", _answering(root))
        ann.bearer = ann_bearer
        for strategy_class in (JWTStrategy, DatabaseStrategy, RefreshTokenStrategy):
            count_in(strategy_class)
        yield ann, sessions


def _answering(value: Any) -> Callable[[], Awaitable[Any]]:
    async def answer() -> Any:
        return value

    return answer


def holds_a_session(answer: Response, client: AsyncClient) -> bool:
    has_token = "access_token" in answer.text and "eyJ" in answer.text
    return has_token or bool(client.cookies.get("fastapiusersauth"))


def test_the_walk_knows_every_route_that_is_mounted() -> None:
    assert mounted_routes() == WALK.keys(), "tell WALK how to call a new route as well as it can be called"


@pytest.mark.parametrize("route", WALK)
async def test_no_route_makes_a_session_for_a_user_whose_login_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    async with walking(tmp_path, Interrupting, monkeypatch) as (ann, sessions):
        answer = await WALK[route](ann)

        assert answer.status_code == 202 if route in WAYS_IN else answer.is_success, answer.text
        assert sessions == []
        assert holds_a_session(answer, ann.client) == (route in GOES_ON)


@pytest.mark.parametrize("route", WALK)
async def test_the_walk_finds_the_ways_in_when_nothing_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """Or the test above would prove nothing."""
    async with walking(tmp_path, Walked, monkeypatch) as (ann, sessions):
        answer = await WALK[route](ann)

        assert answer.is_success, answer.text
        assert sessions == ([EMAIL] if route in WAYS_IN else [])
        assert holds_a_session(answer, ann.client) == (route in WAYS_IN | GOES_ON)


async def test_a_mailed_token_of_the_user_is_no_session_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with walking(tmp_path, Interrupting, monkeypatch) as (ann, _):
        for path in ("/auth/forgot-password", "/auth/request-verify-token"):
            headers = {"Authorization": f"Bearer {await ann.mailed(path)}"}
            assert (await ann.client.get("/users/me", headers=headers)).status_code == 401
        ticket = generate_jwt({"sub": str(ann.user.id), "aud": "fastapi-users:login-ticket"}, SECRET, 60)
        headers = {"Authorization": f"Bearer {ticket}"}
        assert (await ann.client.get("/users/me", headers=headers)).status_code == 401


def test_only_the_door_logs_in() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if "backend.login(" in path.read_text("utf-8")]

    assert [str(path.relative_to(PACKAGE)) for path in files] == ["authentication/login.py"]


def test_no_route_hides_from_the_document_that_the_walk_follows() -> None:
    hidden = re.compile(r"include_in_schema\s*=\s*False")

    assert [path for path in PACKAGE.rglob("*.py") if hidden.search(path.read_text("utf-8"))] == []
