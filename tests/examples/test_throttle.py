import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MAIN = Path(__file__).parents[2] / "examples" / "throttle" / "main.py"

EMAIL, PASSWORD = "ada@example.com", "correct-horse-battery"


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1/32")
    main = runpy.run_path(str(MAIN))
    app = main["app"]
    await main["create_tables"]()
    async with app.router.lifespan_context(app):
        yield app


async def test_who_guesses_is_refused_and_the_owner_gets_in(app: Any) -> None:
    def browser(address: str) -> httpx.AsyncClient:
        headers = {"x-forwarded-for": address}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://app.test", headers=headers)

    async with browser("192.0.2.1") as owner, browser("198.51.100.7") as stranger:
        await owner.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
        right, wrong = ({"username": EMAIL, "password": password} for password in (PASSWORD, "a guess"))
        assert (await owner.post("/auth/login", data=right)).status_code == 204
        answers = [await stranger.post("/auth/login", data=wrong) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [400] * 5 + [429]
        assert (await owner.post("/auth/login", data=right)).status_code == 204

        greetings = [await owner.get("/hello") for _ in range(4)]
        assert [greeting.status_code for greeting in greetings] == [200] * 3 + [429]
        assert greetings[0].json() == "Hello, ada@example.com!"
