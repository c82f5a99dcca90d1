import re
import runpy
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.provider import PEOPLE, OIDCProvider
from fastapi_users.router.common import CSRF_TOKEN_COOKIE_NAME

MAIN = Path(__file__).parents[2] / "examples" / "oauth" / "main.py"
BASE_URL = "http://127.0.0.1:8000"
LOG_IN = "Log in with the provider"
LINK = "Link another account"
ANN = {"email": "ann@example.org", "password": "correct-horse-battery"}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OIDCProvider]:
    callbacks = [f"{BASE_URL}/auth/openid/callback", f"{BASE_URL}/auth/associate/openid/callback"]
    provider = OIDCProvider(
        {**PEOPLE, "silent": {"email": "ann@example.org"}}, redirect_uris=callbacks, require_pkce=True
    )
    with provider.serve() as configuration_url:
        monkeypatch.setenv("OIDC_CLIENT_ID", provider.client_id)
        monkeypatch.setenv("OIDC_CLIENT_SECRET", provider.client_secret)
        monkeypatch.setenv("OIDC_CONFIGURATION_URL", configuration_url)
        yield provider


@pytest.fixture
async def app(
    provider: OIDCProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.chdir(tmp_path)
    app = runpy.run_path(str(MAIN))["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client,
    ):
        yield client


async def follow(app: httpx.AsyncClient, link: str) -> str:
    """The start page at the end of the way that begins with one of its links, as a browser goes it."""
    [address] = re.findall(f'<a href="([^"]+)">{link}</a>', (await app.get("/")).text)
    answer = await app.get(address)
    assert answer.status_code == 303, answer.text
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(answer.headers["Location"])
    assert answer.status_code == 302, answer.text
    answer = await app.get(answer.headers["Location"])
    assert answer.status_code == 303, answer.text
    target = answer.headers["Location"]
    assert target == "/" or target.startswith("/?error=")
    assert [name for name in app.cookies if name.startswith(CSRF_TOKEN_COOKIE_NAME)] == []
    return unescape((await app.get(target)).text)


async def accounts(app: httpx.AsyncClient) -> dict[str, str]:
    """The path to unlink each, by its id at the provider."""
    answer = await app.get("/account/oauth-accounts")
    return {account["account_id"]: f"/account/oauth-accounts/{account['id']}" for account in answer.json()}


async def register(app: httpx.AsyncClient) -> str:
    answer = await app.post("/auth/register", json={**ANN, "password": "ann@example.org"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "REGISTER_INVALID_PASSWORD")
    answer = await app.post("/auth/register", json=ANN)
    assert answer.status_code == 201, answer.text
    user_id: str = answer.json()["id"]
    return user_id


async def verify(app: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert (await app.post("/auth/request-verify-token", json={"email": ANN["email"]})).status_code == 202
    token = capsys.readouterr().out.split()[-1]
    assert (await app.post("/auth/verify", json={"token": token})).status_code == 200


async def me(app: httpx.AsyncClient) -> str:
    """What the start page calls the one who is logged in."""
    found = re.search(r"You are (.*?)\.", unescape((await app.get("/")).text).replace("@example.org", ""))
    return found[1] if found else "nobody"


async def test_the_first_login_makes_a_user_and_the_second_one_finds_it(
    app: httpx.AsyncClient, provider: OIDCProvider
) -> None:
    assert await me(app) == "nobody"

    await follow(app, LOG_IN)
    assert await me(app) == "Ann (ann, verified)"
    first = await accounts(app)
    assert list(first) == ["ann"]

    assert (await app.post("/auth/logout")).status_code == 204
    assert await me(app) == "nobody"
    await follow(app, LOG_IN)
    assert await accounts(app) == first
    assert all(len(request["code_verifier"]) >= 43 for request in provider.token_requests)


@pytest.mark.parametrize(("name", "shown"), [("A" * 101, "A" * 100), (["Ann"], "ann"), ("<i>", "<i>")])
async def test_a_name_is_checked_like_a_form(
    app: httpx.AsyncClient, provider: OIDCProvider, name: Any, shown: str
) -> None:
    provider.userinfo_claims = {"name": name}

    await follow(app, LOG_IN)

    assert await me(app) == f"{shown} (ann, verified)"
    assert "<i>" not in (await app.get("/")).text


async def test_an_address_that_the_provider_has_not_proven_is_not_taken_for_proven(
    app: httpx.AsyncClient, provider: OIDCProvider
) -> None:
    provider.user = "bob"

    await follow(app, LOG_IN)

    assert await me(app) == "Bob (bob, not verified)"


async def test_a_user_who_has_verified_the_address_is_found_by_it(
    app: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(app)
    await verify(app, capsys)

    await follow(app, LOG_IN)

    assert await me(app) == "ann (ann, verified)"
    assert list(await accounts(app)) == ["ann"]
    await app.post("/auth/logout")
    answer = await app.post("/auth/login", data={"username": ANN["email"], "password": ANN["password"]})
    assert answer.status_code == 204, "the password is still good"
    assert list(await accounts(app)) == ["ann"]


async def test_a_user_who_has_not_is_not(app: httpx.AsyncClient) -> None:
    await register(app)

    page = await follow(app, LOG_IN)

    assert "Refused: OAUTH_USER_ALREADY_EXISTS" in page
    assert await me(app) == "nobody"


async def test_a_provider_that_does_not_vouch_for_the_address_finds_nobody_by_it(
    app: httpx.AsyncClient, provider: OIDCProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(app)
    await verify(app, capsys)
    provider.user = "silent"

    assert "Refused: OAUTH_USER_ALREADY_EXISTS" in await follow(app, LOG_IN)


async def test_more_accounts_are_linked_and_unlinked_but_for_the_last(
    app: httpx.AsyncClient, provider: OIDCProvider
) -> None:
    await follow(app, LOG_IN)
    provider.user = "bob"
    page = await follow(app, LINK)
    assert re.findall("<li>openid: (.*?) <button", page) == ["ann@example.org", "bob@example.org"]
    assert await me(app) == "Ann (ann, verified)"

    linked = await accounts(app)
    assert all(f'data-method="DELETE" data-path="{path}"' in page for path in linked.values())
    assert (await app.delete(linked["ann"])).status_code == 204
    answer = await app.delete(linked["bob"])
    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_LAST_LOGIN_METHOD"})
    assert await accounts(app) == {"bob": linked["bob"]}


async def test_an_account_of_another_user_is_refused(app: httpx.AsyncClient, provider: OIDCProvider) -> None:
    await follow(app, LOG_IN)
    await app.post("/auth/logout")
    provider.user = "bob"
    await follow(app, LOG_IN)

    provider.user = "ann"
    assert "Refused: OAUTH_ACCOUNT_ALREADY_LINKED" in await follow(app, LINK)
    assert list(await accounts(app)) == ["bob"]


async def test_what_goes_wrong_at_the_provider_is_said_on_the_start_page(
    app: httpx.AsyncClient, provider: OIDCProvider
) -> None:
    provider.user = None
    assert "Refused: access_denied" in await follow(app, LOG_IN)

    provider.user, provider.token_failure = "ann", 503
    assert "Refused: OAUTH_PROVIDER_ERROR" in await follow(app, LOG_IN)
    assert await me(app) == "nobody"


async def test_an_error_from_the_address_is_no_markup(app: httpx.AsyncClient) -> None:
    page = (await app.get("/", params={"error": "<script>evil()</script>"})).text

    assert "<script>evil" not in page
    assert "&lt;script&gt;evil" in page


@pytest.mark.usefixtures("provider")
def test_cookies_are_secure_where_the_application_is_reached_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_URL", "https://example.org")
    main = runpy.run_path(str(MAIN))

    assert main["IS_SECURE"]
    assert main["backend"].transport.cookie_secure
