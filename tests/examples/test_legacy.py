"""The application that the documentation of version 15 builds up, which knows nothing of what came after it."""

import ast
import json
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import update

from tests.programs import EXAMPLES, imported

ANN = {"email": "ann@example.com", "password": "correct-horse"}
LOGIN = {"username": ANN["email"], "password": ANN["password"]}
FOLDER = EXAMPLES / "legacy"

# Its secret is the one that the documentation shows, and that is said.
pytestmark = pytest.mark.filterwarnings("ignore::fastapi_users.exceptions.InsecureSecretWarning")


@pytest.fixture
async def legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    with imported("app.app", FOLDER) as module:
        async with module.app.router.lifespan_context(module.app):
            yield module
        await import_module("app.db").engine.dispose()


@pytest.fixture
async def client(legacy: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(legacy.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://test") as client:
        yield client


async def register(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/auth/register", json=ANN)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def log_in(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post("/auth/jwt/login", data=LOGIN)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def last_word(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.split()[-1]


async def test_a_user_registers_logs_in_and_is_greeted(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    user = await register(client)
    assert capsys.readouterr().out == f"User {user['id']} has registered.\n"
    assert (await client.get("/authenticated-route")).status_code == 401

    headers = await log_in(client)

    answer = await client.get("/authenticated-route", headers=headers)
    assert answer.json() == {"message": "Hello ann@example.com!"}
    assert (await client.post("/auth/jwt/logout", headers=headers)).status_code == 204


async def test_its_own_rules_for_passwords_count(client: httpx.AsyncClient) -> None:
    for password in ("short", "ann@example.com!"):
        answer = await client.post("/auth/register", json={**ANN, "password": password})
        assert answer.status_code == 400
        assert answer.json()["detail"]["code"] == "REGISTER_INVALID_PASSWORD"


async def test_the_cookie_is_a_row_that_logging_out_deletes(client: httpx.AsyncClient) -> None:
    await register(client)
    assert (await client.post("/auth/cookie/login", data=LOGIN)).status_code == 204
    assert (await client.get("/authenticated-route")).status_code == 200
    cookies = dict(client.cookies)

    assert (await client.post("/auth/cookie/logout")).status_code == 204
    answer = await client.get(
        "/authenticated-route", headers={"Cookie": f"fastapiusersauth={cookies['fastapiusersauth']}"}
    )
    assert answer.status_code == 401


async def test_the_printed_tokens_verify_and_reset(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(client)
    assert (await client.post("/auth/request-verify-token", json={"email": ANN["email"]})).status_code == 202
    answer = await client.post("/auth/verify", json={"token": last_word(capsys)})
    assert answer.json()["is_verified"] is True

    assert (await client.post("/auth/forgot-password", json={"email": ANN["email"]})).status_code == 202
    body = {"token": last_word(capsys), "password": "another-horse"}
    assert (await client.post("/auth/reset-password", json=body)).status_code == 200
    assert (await client.post("/auth/jwt/login", data=LOGIN)).status_code == 400


async def test_users_change_themselves_and_superusers_others(client: httpx.AsyncClient, legacy: Any) -> None:
    user = await register(client)
    headers = await log_in(client)
    path = f"/users/{user['id']}"
    answer = await client.patch("/users/me", json={"email": "anne@example.com", "is_superuser": True}, headers=headers)
    assert (answer.json()["email"], answer.json()["is_superuser"]) == ("anne@example.com", False)

    db = import_module("app.db")
    async with db.async_session_maker() as session:
        await session.execute(update(db.User).values(is_superuser=True, email=ANN["email"]))
        await session.commit()
    headers = await log_in(client)
    assert (await client.get(path, headers=headers)).json()["id"] == user["id"]
    assert (await client.delete(path, headers=headers)).status_code == 204
    assert (await client.post("/auth/jwt/login", data=LOGIN)).status_code == 400


async def test_an_account_at_the_provider_logs_in_and_is_linked(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    google = import_module("app.users").google_oauth_client

    async def get_access_token(*_: Any, **__: Any) -> dict[str, Any]:
        return {"access_token": "access", "expires_at": 2_000_000_000}

    async def get_id_email(_token: str) -> tuple[str, str]:
        return "1", "ann@example.com"

    async def come_back(path: str, state_of: httpx.Response) -> httpx.Response:
        [state] = parse_qs(urlsplit(state_of.json()["authorization_url"]).query)["state"]
        return await client.get(path, params={"code": "code", "state": state})

    monkeypatch.setattr(google, "get_access_token", get_access_token)
    monkeypatch.setattr(google, "get_id_email", get_id_email)

    answer = await come_back("/auth/google/callback", await client.get("/auth/google/authorize"))
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    answer = await client.get("/authenticated-route", headers=headers)
    assert answer.json() == {"message": "Hello ann@example.com!"}

    client.headers.update(headers)
    answer = await come_back("/auth/associate/google/callback", await client.get("/auth/associate/google/authorize"))
    assert answer.status_code == 200, answer.text


def test_it_uses_nothing_that_version_15_has_not() -> None:
    contract = json.loads((Path(__file__).parents[1] / "compat" / "surface.json").read_text("utf-8"))
    sources = [path.read_text("utf-8") for path in (FOLDER / "app").glob("*.py")]
    imports = {
        (node.module, name.name)
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fastapi_users")
        for name in node.names
    }

    assert ("fastapi_users.db", "SQLAlchemyUserDatabase") in imports
    assert ("fastapi_users_db_sqlalchemy.access_token", "SQLAlchemyAccessTokenDatabase") in imports
    assert {f"{module}.{name}" for module, name in imports if name not in json.dumps(contract)} == set()


def test_it_imports_the_adapter_after_the_library_as_version_15_needs_it() -> None:
    """There, whoever imports the adapter first finds no name of it in `fastapi_users.db`. `make matrix` runs it on 15."""
    imported_modules = [
        [node.module for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
        for path in (FOLDER / "app").glob("*.py")
    ]
    of_both = [
        [module for module in modules if module and module.startswith("fastapi_users")] for modules in imported_modules
    ]

    assert [modules[0] for modules in of_both if "fastapi_users_db_sqlalchemy.access_token" in modules] == [
        "fastapi_users.db"
    ]
    assert "fastapi_users_db_sqlalchemy" not in {module for modules in of_both for module in modules}
