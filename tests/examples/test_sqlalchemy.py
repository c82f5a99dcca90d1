from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fastapi_users.testing import Accounts, accounts_under_test
from tests.programs import EXAMPLES, imported

ANN = {"email": "ann@example.com", "password": "correct horse battery", "nickname": "Ann"}


@pytest.fixture
async def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[httpx.AsyncClient, Accounts]]:
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path / 'example.db'}")
    with imported("app.main", EXAMPLES / "sqlalchemy") as main:
        app: Any = main.app
        with accounts_under_test(app, main.fastapi_users) as accounts:
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://test") as client,
            ):
                yield client, accounts


async def test_a_user_registers_verifies_logs_in_and_out(example: tuple[httpx.AsyncClient, Accounts]) -> None:
    client, accounts = example
    assert (await client.post("/auth/register", json={**ANN, "password": "short"})).status_code == 400
    assert (await client.post("/auth/register", json=ANN)).status_code == 202
    login = {"username": ANN["email"], "password": ANN["password"]}
    assert (await client.post("/auth/login", data=login)).status_code == 204
    assert (await client.get("/hello")).status_code == 403

    token = accounts.outbox.token(to="ann@example.com")
    assert (await client.post("/auth/verify", json={"token": token})).status_code == 200
    assert (await client.get("/hello")).json() == "Hello, Ann!"

    assert (await client.post("/auth/logout")).status_code == 204
    assert (await client.get("/hello")).status_code == 401


async def test_a_reset_ends_the_sessions_and_its_token_counts_once(
    example: tuple[httpx.AsyncClient, Accounts],
) -> None:
    client, accounts = example
    user = await accounts.create_user("ann@example.com", is_verified=True)
    await accounts.login_as(client, user)
    assert (await client.get("/hello")).json() == "Hello, ann@example.com!"

    await client.post("/auth/forgot-password", json={"email": "ann@example.com"})
    body = {"token": accounts.outbox.token(to="ann@example.com"), "password": "another horse battery"}
    assert (await client.post("/auth/reset-password", json=body)).status_code == 200

    assert (await client.get("/hello")).status_code == 401
    assert (await client.post("/auth/reset-password", json=body)).status_code == 400


async def test_a_new_password_wants_the_current_one(example: tuple[httpx.AsyncClient, Accounts]) -> None:
    client, accounts = example
    await accounts.login_as(client, await accounts.create_user())

    changes = {"password": "another horse battery"}
    assert (await client.patch("/users/me", json=changes)).status_code == 400
    changes["current_password"] = accounts.password
    assert (await client.patch("/users/me", json=changes)).status_code == 200
