"""A real browser with the page of the example: tokens expire, and it stays logged in."""

import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from examples.provider import serve
from tests.browser import chromium

ROOT = Path(__file__).parents[2]
EMAIL, PASSWORD = "ada@example.com", "correct-horse-battery"


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The example, whose access tokens live two seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCESS_SECONDS", "2")
    main: dict[str, Any] = runpy.run_path(str(ROOT / "examples" / "sessions" / "main.py"))
    async with main["app"].router.lifespan_context(main["app"]):
        await main["engine"].dispose()  # the server has an event loop of its own
    with serve(main["app"]) as url:
        yield url
    await main["engine"].dispose()  # what that one has opened


async def open_page(browser: Any, url: str, *, register: bool = False) -> Any:
    """In a browser of its own, logged in."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_label("E-mail").fill(EMAIL)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Remember me").check()
    await page.get_by_role("button", name="Register" if register else "Log in").click()
    await page.get_by_text(f"You are {EMAIL}.").wait_for()
    return page


async def renewals(page: Any) -> int:
    return int(await page.locator("#renewals").inner_text())


async def test_the_page_keeps_itself_logged_in_while_access_tokens_expire(browser: Any, url: str) -> None:
    page = await open_page(browser, url, register=True)
    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(f"{url}/auth/refresh")}
    kept = cookies["session_refresh"]
    assert (kept["httpOnly"], kept["secure"], kept["path"]) == (True, True, "/auth/refresh")
    assert "session_refresh" not in {cookie["name"] for cookie in await page.context.cookies(f"{url}/users/me")}

    await page.wait_for_function("Number(document.getElementById('renewals').value) >= 2")

    assert await page.get_by_text(f"You are {EMAIL}.").is_visible()
    renewed = {cookie["name"]: cookie["value"] for cookie in await page.context.cookies(f"{url}/auth/refresh")}
    assert renewed["session_refresh"] != kept["value"]

    await page.reload()  # a page that is opened anew comes in by the cookie
    await page.get_by_text(f"You are {EMAIL}.").wait_for()
    await page.locator("#devices li").wait_for()
    assert "(this one)" in await page.locator("#devices li").inner_text()


async def test_two_tabs_that_renew_at_once_stay_logged_in(browser: Any, url: str) -> None:
    page = await open_page(browser, url, register=True)
    other = await page.context.new_page()
    await other.goto(url)
    renew = "Promise.all(Array.from({length: 5}, () => fetch('/auth/refresh', {method: 'POST'}).then(a => a.status)))"

    for tab in (page, other):
        await tab.goto(f"{url}/openapi.json")  # where nothing renews by itself in between

    statuses = [*await page.evaluate(renew), *await other.evaluate(renew)]

    assert statuses == [204] * 10
    for tab in (page, other):
        await tab.goto(url)
        await tab.get_by_text(f"You are {EMAIL}.").wait_for()


async def test_a_device_that_is_ended_from_the_list_is_out_at_once(browser: Any, url: str) -> None:
    lost = await open_page(browser, url, register=True)
    page = await open_page(browser, url)

    await page.get_by_role("button", name="End", exact=True).click()
    await lost.get_by_text("Nobody is logged in.").wait_for()

    await page.get_by_role("button", name="Log out", exact=True).click()
    await page.get_by_text("Nobody is logged in.").wait_for()
    assert await page.context.cookies(f"{url}/auth/refresh") == []
