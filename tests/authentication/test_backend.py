import uuid
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from fastapi import Depends, FastAPI, Response
from httpx import ASGITransport, AsyncClient

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import (
    AuthenticationBackend,
    BearerTransport,
    CookieTransport,
    JWTStrategy,
    Strategy,
    Transport,
)
from fastapi_users.authentication.strategy import DatabaseStrategy, StrategyDestroyNotSupportedError
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.world import SECRET

USER = User("ann@example.org", "h")


def backend(transport: Transport) -> AuthenticationBackend[User, uuid.UUID]:
    return AuthenticationBackend("name", transport, lambda: Strategy[User, uuid.UUID])  # type: ignore[arg-type,return-value]  # never called


async def test_login_hands_the_token_of_the_strategy_to_the_transport() -> None:
    strategy = AsyncMock()
    strategy.write_token.return_value = "TOKEN"

    answer = await backend(CookieTransport()).login(strategy, USER)

    strategy.write_token.assert_awaited_once_with(USER)
    assert "fastapiusersauth=TOKEN" in answer.headers["set-cookie"]


@pytest.mark.parametrize("error", [None, StrategyDestroyNotSupportedError])
@pytest.mark.parametrize("transport", [BearerTransport("login"), CookieTransport()])
async def test_logout_always_answers(transport: Transport, error: type[Exception] | None) -> None:
    strategy = AsyncMock()
    strategy.destroy_token.side_effect = error

    answer = await backend(transport).logout(strategy, USER, "TOKEN")

    strategy.destroy_token.assert_awaited_once_with("TOKEN", USER)
    assert isinstance(answer, Response)
    assert answer.status_code == 204


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = verification_token_secret = SECRET


class OwnStrategy(JWTStrategy[User, uuid.UUID]): ...


@pytest.mark.parametrize("strategy", [JWTStrategy, JWTStrategy[User, uuid.UUID], OwnStrategy])
async def test_a_partial_of_a_strategy_takes_no_keys_from_a_request(strategy: Any) -> None:
    """As version 15 takes them: whoever sends a key of the own makes tokens for every user."""
    user, users = User("ann@example.org", ""), InMemoryUserDatabase[User, uuid.UUID](User)
    users.users[user.id] = user
    get_strategy = partial(strategy, SECRET, lifetime_seconds=3600)
    own = AuthenticationBackend[User, uuid.UUID]("jwt", BearerTransport("login"), get_strategy)
    fastapi_users = FastAPIUsers[User, uuid.UUID](lambda: UserManager(users), [own])
    app = FastAPI()

    @app.get("/")
    async def read(user: User = Depends(fastapi_users.current_user(active=True))) -> str:
        return user.email

    keys = {"public_key": "a key of somebody else, of 32 bytes", "algorithm": "HS256"}
    forged = await JWTStrategy[User, uuid.UUID](keys["public_key"], 3600).write_token(user)
    async with AsyncClient(transport=ASGITransport(app), base_url="https://testserver") as client:
        for token, status_code in ((forged, 401), (await get_strategy().write_token(user), 200)):
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/", params=keys, headers=headers)).status_code == status_code
    assert "parameters" not in app.openapi()["paths"]["/"]["get"]


async def test_a_partial_of_a_strategy_has_its_dependencies_solved() -> None:
    user, users = User("ann@example.org", ""), InMemoryUserDatabase[User, uuid.UUID](User)
    users.users[user.id] = user
    database = AsyncMock()
    database.get_by_token.return_value = SimpleNamespace(token="TOKEN", user_id=user.id)
    get_strategy = partial(DatabaseStrategy[Any, Any, Any], database=Depends(lambda: database), lifetime_seconds=3600)
    own = AuthenticationBackend[User, uuid.UUID]("db", BearerTransport("login"), get_strategy)
    fastapi_users = FastAPIUsers[User, uuid.UUID](lambda: UserManager(users), [own])
    app = FastAPI()

    @app.get("/")
    async def read(user: User = Depends(fastapi_users.current_user())) -> str:
        return user.email

    async with AsyncClient(transport=ASGITransport(app), base_url="https://testserver") as client:
        answer = await client.get("/", headers={"Authorization": "Bearer TOKEN"})

    assert (answer.status_code, answer.json()) == (200, "ann@example.org")
