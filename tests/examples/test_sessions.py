import re
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fastapi_users.testing import frozen_clock

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "examples" / "sessions" / "main.py"

EMAIL, PASSWORD = "ada@example.com", "correct-horse-battery"


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCESS_SECONDS", "10")
    main: dict[str, Any] = runpy.run_path(str(MAIN))
    async with main["app"].router.lifespan_context(main["app"]):
        yield main["app"]
    await main["engine"].dispose()


def browser(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://test")


async def log_in(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    form = {"username": EMAIL, "password": PASSWORD, **fields}
    answer = await client.post("/auth/login", data=form)
    assert answer.status_code == 204, answer.text
    return answer


async def test_a_browser_stays_logged_in_across_the_end_of_access_tokens(app: Any) -> None:
    with frozen_clock() as clock:
        async with browser(app) as client:
            await client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
            await log_in(client, remember_me="true")
            for _ in range(3):
                assert (await client.get("/users/me")).json()["email"] == EMAIL
                clock.advance(seconds=11)
                assert (await client.get("/users/me")).status_code == 401
                assert (await client.post("/auth/refresh")).status_code == 204
            assert (await client.get("/users/me")).status_code == 200


async def test_an_empty_checkbox_makes_a_session_that_ends_with_the_browser(app: Any) -> None:
    async with browser(app) as client:
        await client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
        for fields, is_kept in (({}, False), ({"remember_me": "true"}, True)):
            answer = await log_in(client, **fields)
            (cookie,) = [line for line in answer.headers.get_list("set-cookie") if "session_refresh=" in line]
            assert ("Max-Age" in cookie) == is_kept


async def test_one_browser_ends_the_session_of_another(app: Any) -> None:
    with frozen_clock():
        await one_ends_the_session_of_another(app)


async def one_ends_the_session_of_another(app: Any) -> None:
    async with browser(app) as one, browser(app) as other:
        await one.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
        await log_in(one)
        await log_in(other)

        assert (await one.delete("/auth/sessions")).status_code == 204

        assert (await one.get("/users/me")).status_code == 200
        assert (await other.get("/users/me")).status_code == 401
        assert (await other.post("/auth/refresh")).json() == {"detail": "SESSIONS_BAD_REFRESH_TOKEN"}


async def test_the_page_calls_routes_that_there_are(app: Any) -> None:
    async with browser(app) as client:
        answer = await client.get("/")
    known = {*app.openapi()["paths"]}

    assert answer.headers["content-type"].startswith("text/html")
    called = {path.replace("${session.id}", "{id}") for path in re.findall(r"[\"`](/[\w/${}.]+)[\"`]", answer.text)}
    assert len(called) >= 6
    assert called <= known
