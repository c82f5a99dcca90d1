"""A real browser logs in with a real provider: redirects, cookies and pages as users meet them."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from httpx_oauth.clients.openid import OpenID

from examples.provider import OIDCProvider, serve
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy
from fastapi_users.router.common import CSRF_TOKEN_COOKIE_NAME
from fastapi_users.testing import InMemoryUserDatabase, OAuthAccount, User
from tests.browser import chromium
from tests.world import SECRET


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    async with chromium() as browser:
        yield await browser.new_page()


@pytest.fixture
def provider() -> Iterator[OIDCProvider]:
    ann = {"email": "ann@example.org", "email_verified": True, "name": "Ann"}
    provider = OIDCProvider({"ann": ann}, redirect_uris=[], interactive=True, require_pkce=True)
    with provider.serve():
        yield provider


@pytest.fixture
def app_url(provider: OIDCProvider) -> Iterator[str]:
    """An application that logs in with redirects; its routes are added when its URL is known."""
    user_db = InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)
    backend = AuthenticationBackend[User, uuid.UUID](
        "cookie", CookieTransport(cookie_name="session"), lambda: JWTStrategy(SECRET, 3600)
    )
    users = FastAPIUsers[User, uuid.UUID](lambda: UserManager(user_db), [backend])
    configuration = f"{provider.issuer}/.well-known/openid-configuration"
    client = OpenID(provider.client_id, provider.client_secret, configuration)
    app = FastAPI()

    @app.get("/welcome", response_class=PlainTextResponse)
    async def welcome(user: User | None = Depends(users.current_user(optional=True))) -> str:
        return f"Welcome, {user.email if user else 'stranger'}"

    with serve(app) as url:
        callback = f"{url}/auth/oauth/callback"
        provider.redirect_uris.append(callback)
        router = users.get_oauth_router(
            client, backend, SECRET, redirect_url=callback, strict=True, allowed_redirects=["/welcome"]
        )
        app.include_router(router, prefix="/auth/oauth")
        yield url


async def test_a_browser_logs_in_and_lands_where_it_was_going(page: Any, provider: OIDCProvider, app_url: str) -> None:
    await page.goto(f"{app_url}/auth/oauth/authorize?redirect=/welcome")
    assert (await page.title(), page.url.startswith(provider.issuer)) == ("Demo provider", True)

    await page.get_by_role("button", name="Log in as Ann").click()
    await page.wait_for_url(f"{app_url}/welcome")

    assert await page.inner_text("body") == "Welcome, ann@example.org"
    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(app_url)}
    assert (cookies["session"]["httpOnly"], cookies["session"]["secure"]) == (True, True)
    assert [name for name in cookies if name.startswith(CSRF_TOKEN_COOKIE_NAME)] == []
    assert len(provider.token_requests[0]["code_verifier"]) >= 43


async def test_a_browser_that_says_no_lands_there_with_the_error(page: Any, app_url: str) -> None:
    await page.goto(f"{app_url}/auth/oauth/authorize?redirect=/welcome")
    await page.get_by_role("button", name="Cancel").click()
    await page.wait_for_url(f"{app_url}/welcome?error=*")

    assert await page.inner_text("body") == "Welcome, stranger"


async def test_a_machine_without_a_browser_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(pytest.skip.Exception, match="none of chromium"):
        async with chromium():
            raise AssertionError
