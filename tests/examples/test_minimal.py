import re
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "examples" / "minimal" / "main.py"

CREDENTIALS = {"email": "ada@example.com", "password": "correct-horse-battery"}


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.chdir(tmp_path)
    main: dict[str, Any] = runpy.run_path(str(MAIN))
    app = main["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client
    await main["engine"].dispose()


async def log_in(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post(
        "/auth/login", data={"username": CREDENTIALS["email"], "password": CREDENTIALS["password"]}
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_user_registers_logs_in_and_is_greeted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/auth/register", json=CREDENTIALS)
    assert answer.status_code == 201, answer.text

    authorization = await log_in(client)

    answer = await client.get("/hello", headers=authorization)
    assert (answer.status_code, answer.json()) == (200, "Hello, ada@example.com!")
    answer = await client.get("/users/me", headers=authorization)
    assert answer.status_code == 200
    assert answer.json()["email"] == "ada@example.com"
    assert "hashed_password" not in answer.json()


async def test_a_stranger_is_not_greeted(client: httpx.AsyncClient) -> None:
    assert (await client.get("/hello")).status_code == 401


async def test_the_secret_of_the_environment_keeps_users_logged_in_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "a secret of thirty-two characters or more")
    assert runpy.run_path(str(MAIN))["SECRET"] == "a secret of thirty-two characters or more"


def test_without_a_secret_in_the_environment_every_start_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET", raising=False)
    first, second = runpy.run_path(str(MAIN))["SECRET"], runpy.run_path(str(MAIN))["SECRET"]
    assert len(first) == len(second) == 43
    assert first != second


def test_the_readme_shows_this_very_application() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_block = re.search(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert first_block is not None
    assert first_block[1] == MAIN.read_text(encoding="utf-8")


def test_it_has_at_most_34_lines_of_code() -> None:
    lines = [line for line in MAIN.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 34
