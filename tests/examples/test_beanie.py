from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fastapi_users.testing import Accounts, accounts_under_test
from tests.mongo_server import mongo_server
from tests.programs import EXAMPLES, imported

ANN = {"email": "ann@example.com", "password": "correct horse battery", "nickname": "Ann"}


@pytest.fixture
async def example(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[httpx.AsyncClient, Accounts]]:
    async with mongo_server() as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with imported("app.main", EXAMPLES / "beanie") as main:
            app: Any = main.app
            with accounts_under_test(app, main.fastapi_users) as accounts:
                async with (
                    app.router.lifespan_context(app),
                    httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://test") as client,
                ):
                    yield client, accounts


async def test_a_user_registers_verifies_logs_in_and_out(example: tuple[httpx.AsyncClient, Accounts]) -> None:
    client, accounts = example
    assert (await client.post("/auth/register", json=ANN)).status_code == 202
    token = accounts.outbox.token(to="ann@example.com")
    assert (await client.post("/auth/verify", json={"token": token})).status_code == 200

    login = {"username": ANN["email"], "password": ANN["password"]}
    assert (await client.post("/auth/login", data=login)).status_code == 204
    assert (await client.get("/hello")).json() == "Hello, Ann!"
    assert (await client.post("/auth/logout")).status_code == 204
    assert (await client.get("/hello")).status_code == 401


async def test_a_reset_ends_the_sessions(example: tuple[httpx.AsyncClient, Accounts]) -> None:
    client, accounts = example
    await accounts.login_as(client, await accounts.create_user("ann@example.com", is_verified=True))
    assert (await client.get("/hello")).json() == "Hello, ann@example.com!"

    await client.post("/auth/forgot-password", json={"email": "ann@example.com"})
    body = {"token": accounts.outbox.token(to="ann@example.com"), "password": "another horse battery"}
    assert (await client.post("/auth/reset-password", json=body)).status_code == 200
    assert (await client.get("/hello")).status_code == 401
