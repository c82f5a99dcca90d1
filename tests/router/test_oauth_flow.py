"""The flow in which browsers and auditors believe: states, cookies, PKCE, scopes, redirects."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fastapi import HTTPException
from httpx import AsyncClient, ConnectError, Response
from httpx_oauth.oauth2 import GetAccessTokenError, OAuth2Token
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from fastapi_users.authentication.login import LoginInterrupted
from fastapi_users.cipher import TokenCipher
from fastapi_users.exceptions import InsecureSecretWarning
from fastapi_users.router.oauth import generate_state_token, get_oauth_router, is_email_verified
from fastapi_users.testing import frozen_clock
from tests.router.test_oauth import begin, finish, users_of
from tests.toy import ToyManager
from tests.world import PASSWORD, SECRET, OAuthAccount, Provider, UserManager, UserRead, World

COOKIE = "fastapiusersoauthcsrf"
TARGETS = ["/welcome", "https://ui.test/back?tab=1#top"]


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[World]:
    """An application as new ones should be."""
    async with World.on(
        f"sqlite+aiosqlite:///{tmp_path / 'x.db'}",
        strict=True,
        allowed_redirects=TARGETS,
        allowed_scopes=["openid", "email"],
    ) as world:
        yield world


@pytest.fixture(params=["as upstream", "strict"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", strict=request.param == "strict") as world:
        yield world


def assert_refused(answer: Response, code: str = "OAUTH_INVALID_STATE") -> None:
    assert (answer.status_code, answer.json()) == (400, {"detail": code})
    assert "fastapiusersauth=" not in answer.headers.get("set-cookie", "")


async def query_of(client: AsyncClient, **params: Any) -> dict[str, list[str]]:
    answer = await client.get("/oauth/authorize", params=params)
    assert answer.status_code == 200, answer.text
    return parse_qs(urlsplit(answer.json()["authorization_url"]).query)


# states and cookies


async def test_a_state_is_used_once(either: World) -> None:
    """D8, weakness 15, oauth.state_replay."""
    state = await begin(either.client, "oauth")
    assert (await finish(either.client, "oauth", state=state)).status_code == 204

    assert_refused(await finish(either.client, "oauth", state=state))
    assert len(either.provider.redirects) == 1, "the second code was not spent"


async def test_the_cookies_of_a_flow_go_with_it(either: World) -> None:
    """D8, CONTRACT 16 row 22, oauth.csrf_cookie_cleared."""
    await finish(either.client, "oauth", state=await begin(either.client, "oauth"))

    assert [name for name in either.client.cookies if name.startswith(COOKIE)] == []


async def test_a_state_of_another_browser_spends_no_code(either: World) -> None:
    """CVE-2025-68481 (login CSRF), and oauth.code_spent_before_state_check."""
    async with either.new_client() as attacker:
        state = await begin(attacker, "oauth")

    assert_refused(await finish(either.client, "oauth", state=state))
    assert either.provider.redirects == []


async def test_the_cookie_of_one_flow_does_not_answer_for_the_state_of_another(either: World) -> None:
    async with either.new_client() as attacker:
        state = await begin(attacker, "oauth")
        name = next(name for name in attacker.cookies if name.startswith(f"{COOKIE}_"))
    await begin(either.client, "oauth")
    own = next(value for name, value in either.client.cookies.items() if name.startswith(f"{COOKIE}_"))
    either.client.cookies.set(name, own)

    assert_refused(await finish(either.client, "oauth", state=state))


async def test_two_tabs_can_both_be_finished(either: World) -> None:
    """D10: upstream's second tab ends the first one."""
    first, second = await begin(either.client, "oauth"), await begin(either.client, "oauth")

    assert (await finish(either.client, "oauth", state=first)).status_code == 204
    assert (await finish(either.client, "oauth", state=second)).status_code == 204


async def test_tabs_that_are_left_open_do_not_fill_the_browser_with_cookies(either: World) -> None:
    states = [await begin(either.client, "oauth") for _ in range(9)]

    assert len([name for name in either.client.cookies if name.startswith(f"{COOKIE}_")]) == 5
    assert (await finish(either.client, "oauth", state=states[-1])).status_code == 204


async def test_a_state_counts_for_ten_minutes(either: World) -> None:
    """CONTRACT 16 row 22"""
    with frozen_clock() as clock:
        early, late = await begin(either.client, "oauth"), await begin(either.client, "oauth")
        clock.advance(seconds=599)
        assert (await finish(either.client, "oauth", state=early)).status_code == 204
        clock.advance(seconds=2)
        answer = await finish(either.client, "oauth", state=late)

    assert answer.status_code == 400
    assert len(either.provider.redirects) == 1


async def test_a_state_serves_one_purpose(either: World) -> None:
    """D8, D9, CONTRACT 16 row 6, oauth.state_flow_confusion: log in and associate, both ways."""
    await either.insert_user()
    headers = await either.log_in()
    login, associate = await begin(either.client, "oauth"), await begin(either.client, "associate", headers)

    assert_refused(await finish(either.client, "oauth", state=associate))
    assert_refused(await finish(either.client, "associate", headers, state=login))
    assert either.provider.redirects == []


async def test_a_state_serves_one_provider(either: World) -> None:
    """D8, oauth.state_other_provider (mix-up, RFC 9700, section 4.4)."""
    other = Provider()
    other.name = "other"
    router = get_oauth_router(other, either.cookie, lambda: None, SECRET)  # type: ignore[arg-type,return-value]  # not reached
    either.app.include_router(router, prefix="/other")
    state = await begin(either.client, "oauth")

    assert_refused(await finish(either.client, "other", state=state))
    assert other.redirects == []


async def test_states_and_the_cookie_of_upstream_count_where_they_have_to(tmp_path: Path) -> None:
    """CONTRACT section 18: made with ``generate_state_token`` and sent with the one cookie."""
    headers = {"Cookie": f"{COOKIE}=C"}
    state = generate_state_token({"csrftoken": "C"}, SECRET)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        assert (await finish(world.client, "oauth", headers, state=state)).status_code == 204
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}", strict=True) as world:
        assert_refused(await finish(world.client, "oauth", headers, state=state))
        assert world.provider.redirects == []


@pytest.mark.parametrize(
    "state",
    ["", "x", "a.b.c", "\x00", generate_state_token({"csrftoken": "C"}, "x" * 32)],
    ids=["nothing", "a letter", "three parts", "NUL", "another secret"],
)
async def test_no_code_is_spent_for_a_state_that_nobody_made(strict: World, state: str) -> None:
    """Oauth.code_spent_before_state_check: whatever it looks like."""
    assert_refused(await finish(strict.client, "oauth", state=state), "ACCESS_TOKEN_DECODE_ERROR")
    assert strict.provider.redirects == []


async def test_a_refusal_takes_the_cookie_too(strict: World) -> None:
    strict.provider.account = ("account-1", None)
    state = await begin(strict.client, "oauth")

    assert_refused(await finish(strict.client, "oauth", state=state), "OAUTH_NOT_AVAILABLE_EMAIL")
    assert [name for name in strict.client.cookies if name.startswith(COOKIE)] == []


# PKCE and scopes


async def test_pkce_binds_the_code_to_the_flow(strict: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11, oauth.pkce (RFC 7636): the verifier is the one of the challenge, and none that was sent."""
    verifiers: list[str | None] = []

    async def exchange(code: str, redirect_uri: str, code_verifier: str | None = None) -> OAuth2Token:
        verifiers.append(code_verifier)
        return OAuth2Token(dict(strict.provider.token))

    monkeypatch.setattr(strict.provider, "get_access_token", exchange)
    query = await query_of(strict.client)
    answer = await finish(strict.client, "oauth", state=query["state"][0], code_verifier="of an attacker")
    assert answer.status_code == 204

    (verifier,) = verifiers
    assert verifier is not None
    digest = hashlib.sha256(verifier.encode()).digest()
    assert query["code_challenge"] == [base64.urlsafe_b64encode(digest).rstrip(b"=").decode()]
    assert query["code_challenge_method"] == ["S256"]
    assert (await query_of(strict.client))["code_challenge"] != query["code_challenge"]


class WithoutPKCE(Provider):
    async def get_access_token(self, code: str, redirect_uri: str, *args: None) -> OAuth2Token:  # type: ignore[override]  # older
        assert args == (None,)
        return OAuth2Token(dict(self.token))


async def test_a_client_that_knows_no_pkce_goes_without(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, strict=True, provider=WithoutPKCE()) as world:
        query = await query_of(world.client)
        assert "code_challenge" not in query
        assert (await finish(world.client, "oauth", state=query["state"][0])).status_code == 204


class TakesAnything(Provider):
    async def get_authorization_url(self, *args: Any, **kwargs: Any) -> str:
        return await super().get_authorization_url(*args, **kwargs)


async def test_a_client_that_passes_on_what_it_gets_has_pkce(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, strict=True, provider=TakesAnything()) as world:
        assert "code_challenge" in await query_of(world.client)


class Odd(Provider):
    """Its profile is no mapping, and takes an argument more."""

    async def get_profile(self, token: str, *, fields: str = "") -> Any:
        return ("account-1", fields)

    async def get_id_email(self, token: str) -> tuple[str, str | None]:
        account_id, email = await self.get_profile(token, fields="ann@example.org")
        return account_id, email


class WithoutProfile(Provider):
    get_profile = None  # type: ignore[assignment]  # as clients of the application may lack it


@pytest.mark.parametrize("client", [Odd, WithoutProfile])
async def test_clients_of_the_application_may_be_odd(tmp_path: Path, client: type[Provider]) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", provider=client()) as world:
        assert (await finish(world.client, "oauth", state=await begin(world.client, "oauth"))).status_code == 204


async def test_upstreams_call_gets_upstreams_arguments(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        assert set(await query_of(world.client)) == {"response_type", "client_id", "redirect_uri", "state"}


@pytest.mark.parametrize(("scopes", "status_code"), [([], 200), (["openid"], 200), (["openid", "admin"], 400)])
async def test_a_client_asks_for_the_allowed_scopes_only(strict: World, scopes: list[str], status_code: int) -> None:
    """D11, oauth.scopes_from_client."""
    answer = await strict.client.get("/oauth/authorize", params={"scopes": scopes})

    assert answer.status_code == status_code
    if status_code == 400:
        assert answer.json() == {"detail": "OAUTH_SCOPE_NOT_ALLOWED"}
        assert "set-cookie" not in answer.headers


async def test_a_time_that_no_column_takes_is_not_kept(either: World) -> None:
    """Fivexx.huge expires_at."""
    for expires_at in (2**80, -1):
        either.provider.token["expires_at"] = expires_at
        assert (await finish(either.client, "oauth", state=await begin(either.client, "oauth"))).status_code == 204


@pytest.mark.parametrize("account_id", ["x" * 321, "a\0b"])
async def test_an_account_that_no_column_takes_is_a_refusal(either: World, account_id: str) -> None:
    either.provider.account = (account_id, "ann@example.org")

    assert_refused(
        await finish(either.client, "oauth", state=await begin(either.client, "oauth")), "OAUTH_PROVIDER_ERROR"
    )


@pytest.mark.parametrize("method", ["get_access_token", "get_id_email"])
async def test_a_provider_that_cannot_be_reached_is_a_refusal(
    either: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def fail(*args: Any) -> Any:
        raise ConnectError("no route to host")

    monkeypatch.setattr(either.provider, method, fail)

    assert_refused(
        await finish(either.client, "oauth", state=await begin(either.client, "oauth")), "OAUTH_PROVIDER_ERROR"
    )


# redirects


async def begin_in_browser(world: World, target: str = "/welcome", flow: str = "oauth", **headers: str) -> str:
    answer = await world.client.get(f"/{flow}/authorize", params={"redirect": target}, headers=headers)
    assert answer.status_code == 303
    location = urlsplit(answer.headers["location"])
    assert location.netloc == "provider.test"
    return parse_qs(location.query)["state"][0]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_browser_is_logged_in_and_brought_to_its_target(strict: World, target: str) -> None:
    answer = await finish(strict.client, "oauth", state=await begin_in_browser(strict, target))

    assert (answer.status_code, answer.headers["location"]) == (303, target)
    assert answer.headers["x-logged-in"] == "ann@example.org", "what the hook set is sent"
    assert (await strict.client.get("/users/me")).json()["email"] == "ann@example.org"
    assert [name for name in strict.client.cookies if name.startswith(COOKIE)] == []


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "/welcome/",
        "/Welcome",
        "/welcome?x",
        "//evil.test/welcome",
        "/\\evil.test",
        "\\\\evil.test",
        "https://evil.test/",
        "https://ui.test@evil.test/back?tab=1#top",
        "https://ui.test/back?tab=1#top.evil.test",
        "https://ui.test/back?tab=1%23top",
        "https:ui.test/back?tab=1#top",
        "%2Fwelcome",
        "/welcome\n",
        "\t/welcome",
        "javascript:alert(1)",
    ],
)
@pytest.mark.parametrize("flow", ["oauth", "associate"])
async def test_no_other_target_is_taken(strict: World, target: str, flow: str) -> None:
    """Open redirect (Flask-Security GHSA-w2j7-f3c6-g8cw): the list is compared to the letter."""
    await strict.insert_user()
    headers = await strict.log_in()
    query = urlencode({"redirect": target})  # httpx before 0.28 leaves %2F as it is
    answer = await strict.client.get(f"/{flow}/authorize?{query}", headers=headers)

    assert_refused(answer, "OAUTH_INVALID_REDIRECT")
    assert "location" not in answer.headers


async def test_without_a_list_a_redirect_means_nothing(either: World) -> None:
    answer = await either.client.get("/oauth/authorize?redirect=https://evil.test")

    assert (answer.status_code, list(answer.json())) == (200, ["authorization_url"])


async def test_an_answer_of_the_application_comes_as_it_is(strict: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: Any) -> None:
        raise HTTPException(503, "closed", {"Retry-After": "60"})

    monkeypatch.setattr(UserManager, "on_after_login", refuse)

    answer = await finish(strict.client, "oauth", state=await begin_in_browser(strict))

    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"detail": "closed"}, "60")


async def test_cookies_that_only_look_alike_are_left_alone(either: World) -> None:
    for name in [f"{COOKIE}_{number}" for number in range(9)] + [f"{COOKIE}_token", f"{COOKIE}_{{a}}"]:
        either.client.cookies.set(name, "of the application", domain="app.test")

    answer = await either.client.get("/oauth/authorize")

    assert answer.status_code == 200
    assert "Max-Age=0" not in answer.headers["set-cookie"]


async def test_a_registrant_is_out_also_where_the_owner_is_not_let_in_yet(tmp_path: Path) -> None:
    """D6, oauth.prehijack_session: the login is refused, and the sessions end all the same."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, associate_by_email=True, oauth_requires_verification=True) as world:
        await world.insert_user()
        async with world.new_client() as registrant:
            credentials = {"username": "ann@example.org", "password": PASSWORD}
            assert (await registrant.post("/auth/cookie/login", data=credentials)).status_code == 204
            answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
            assert_refused(answer, "LOGIN_USER_NOT_VERIFIED")

            assert (await registrant.get("/users/me")).status_code == 401
            assert (await registrant.post("/auth/cookie/login", data=credentials)).status_code == 400


async def test_a_login_without_a_refresh_token_keeps_the_one_from_before(either: World) -> None:
    """Google gives one with the first consent only."""
    await finish(either.client, "oauth", state=await begin(either.client, "oauth"))
    del either.provider.token["refresh_token"]
    await finish(either.client, "oauth", state=await begin(either.client, "oauth"))

    async with either.session_maker() as session:
        assert [account.refresh_token for account in await session.scalars(select(OAuthAccount))] == ["REFRESH"]


@pytest.mark.parametrize(("params", "status"), [({}, 204), ({"error": "access_denied"}, 400)])
async def test_a_target_that_is_no_longer_allowed_is_not_gone_to(
    strict: World, params: dict[str, str], status: int
) -> None:
    claims: dict[str, str] = {
        "csrftoken": "C",
        "provider": "provider",
        "purpose": "login",
        "redirect": "https://evil.test",
    }
    name = f"{COOKIE}_{hashlib.sha256(b'C').hexdigest()[:10]}"

    state = generate_state_token(claims, SECRET)
    answer = await finish(strict.client, "oauth", {"Cookie": f"{name}=C"}, state=state, **params)

    assert answer.status_code == status
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"error": "access_denied"}, "access_denied"),
        ({"error": "<script>"}, "OAUTH_PROVIDER_ERROR"),
        ({"code": "REFUSED"}, "OAUTH_PROVIDER_ERROR"),
    ],
)
async def test_errors_come_back_at_the_target(strict: World, params: dict[str, str], error: str) -> None:
    state = await begin_in_browser(strict, TARGETS[1])
    strict.provider.refusal = GetAccessTokenError("the text of the provider")

    answer = await finish(strict.client, "oauth", {}, state=state, **params)

    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://ui.test/back?tab=1&error={error}#top"
    assert [name for name in strict.client.cookies if name.startswith(COOKIE)] == []


async def test_a_flow_that_took_too_long_is_told_at_the_target(strict: World) -> None:
    with frozen_clock() as clock:
        state = await begin_in_browser(strict)
        clock.advance(seconds=601)
        answer = await finish(strict.client, "oauth", state=state)

    assert answer.headers["location"] == "/welcome?error=ACCESS_TOKEN_ALREADY_EXPIRED"
    assert strict.provider.redirects == []


async def test_a_user_who_has_gone_meanwhile_is_told_at_the_target(strict: World) -> None:
    await strict.insert_user()
    await strict.insert_user("bob@example.org")
    state = await begin_in_browser(strict, flow="associate", **await strict.log_in())

    assert (await finish(strict.client, "associate", state=state)).headers[
        "location"
    ] == "/welcome?error=login_required"
    state = await begin_in_browser(strict, flow="associate", **await strict.log_in())
    answer = await finish(strict.client, "associate", await strict.log_in("bob@example.org"), state=state)
    assert answer.headers["location"] == "/welcome?error=OAUTH_INVALID_STATE"


async def test_an_inactive_user_is_told_at_the_target(strict: World) -> None:
    await finish(strict.client, "oauth", state=await begin(strict.client, "oauth"))
    async with strict.session_maker() as session:
        manager = strict.make_manager(session)
        user = await manager.get_by_email("ann@example.org")
        await manager.user_db.update(user, {"is_active": False})

    answer = await finish(strict.client, "oauth", state=await begin_in_browser(strict))

    assert answer.headers["location"] == "/welcome?error=LOGIN_BAD_CREDENTIALS"


async def test_a_state_that_is_not_ours_brings_nobody_anywhere(strict: World) -> None:
    async with strict.new_client() as attacker:
        stolen = await attacker.get("/oauth/authorize?redirect=/welcome")
    state = parse_qs(urlsplit(stolen.headers["location"]).query)["state"][0]

    assert_refused(await finish(strict.client, "oauth", state=state))


async def test_linking_in_a_browser_ends_at_the_target(strict: World) -> None:
    await strict.insert_user()
    headers = await strict.log_in()
    state = await begin_in_browser(strict, flow="associate", **headers)

    answer = await finish(strict.client, "associate", headers, state=state)

    assert (answer.status_code, answer.headers["location"]) == (303, "/welcome")
    assert [user["accounts"] for user in await users_of(strict)] == [[("account-1", "ann@example.org")]]


class Interrupting(ToyManager):
    async def _seam_before_session(self, attempt: Any) -> None:
        await super()._seam_before_session(attempt)
        raise LoginInterrupted(["pin"])


async def test_an_interrupted_login_brings_its_ticket_to_the_target(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=Interrupting, strict=True, allowed_redirects=TARGETS) as world:
        answer = await finish(world.client, "oauth", state=await begin_in_browser(world))

        location = urlsplit(answer.headers["location"])
        assert (answer.status_code, location.path) == (303, "/welcome")
        assert parse_qs(location.query)["challenge"][0].count(".") == 2
        assert "fastapiusersauth_challenge" in world.client.cookies
        assert "fastapiusersauth" not in world.client.cookies


async def test_a_bearer_token_cannot_be_redirected(strict: World) -> None:
    get_user_manager: Any = None
    with pytest.raises(ValueError, match="use cookies"):
        get_oauth_router(Provider(), strict.bearer, get_user_manager, SECRET, allowed_redirects=["/welcome"])


@pytest.mark.parametrize("options", [{"allowed_redirects": "/welcome"}, {"allowed_scopes": "email"}])
async def test_a_text_is_no_list(strict: World, options: dict[str, Any]) -> None:
    get_user_manager: Any = lambda: None  # noqa: E731 -- not reached
    with pytest.raises(TypeError, match="are lists"):
        get_oauth_router(Provider(), strict.cookie, get_user_manager, SECRET, **options)


async def test_only_what_can_be_asked_for_is_documented(strict: World, tmp_path: Path) -> None:
    operation = strict.app.openapi()["paths"]["/oauth/authorize"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["scopes", "redirect"]
    assert sorted(operation["responses"]) == ["200", "303", "400", "422"]

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}") as world:
        operation = world.app.openapi()["paths"]["/oauth/authorize"]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == ["scopes"]
        assert sorted(operation["responses"]) == ["200", "422"]


# whom the provider vouches for


@pytest.mark.parametrize(
    ("profile", "verified"),
    [
        ({}, None),
        ({"email_verified": True}, True),
        ({"email_verified": False}, False),
        ({"email_verified": "true"}, False),
        ({"email_verified": None}, False),
        ({"email_verified": 1}, False),
        ({"verified_email": True}, True),
        ({"emailAddresses": []}, None),
        ({"emailAddresses": None}, None),
        ({"emailAddresses": ["ann@example.org", {}, {"metadata": None}]}, None),
        ({"emailAddresses": [{"metadata": {}}, {"metadata": {"primary": True, "verified": True}}]}, True),
        ({"emailAddresses": [{"metadata": {"primary": True}}]}, False),
    ],
)
def test_nothing_but_true_is_verified(profile: dict[str, Any], verified: bool | None) -> None:
    assert is_email_verified(profile) is verified


class Vouching(Provider):
    """Asks for a profile, as the clients of httpx-oauth do."""

    profile: dict[str, Any]

    async def get_profile(self, token: str) -> dict[str, Any]:
        return self.profile

    async def get_id_email(self, token: str) -> tuple[str, str | None]:
        profile = await self.get_profile(token)
        return profile["sub"], profile["email"]


@pytest.mark.parametrize(
    ("strict", "local_is_verified", "says", "is_linked"),
    [
        (False, True, {}, True),
        (False, True, {"email_verified": True}, True),
        (False, True, {"email_verified": False}, False),
        (False, True, {"email_verified": "true"}, False),
        (True, True, {"email_verified": True}, True),
        (True, True, {}, False),
        (True, True, {"email_verified": False}, False),
        (True, False, {"email_verified": True}, False),
    ],
)
async def test_an_account_is_linked_by_its_address_if_both_sides_vouch_for_it(
    tmp_path: Path, strict: bool, local_is_verified: bool, says: dict[str, Any], is_linked: bool
) -> None:
    """D6, oauth.prehijack_provider_unverified, associate_by_email_unverified_local; with ``strict`` silence is a no."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    provider = Vouching()
    provider.profile = {"sub": "account-1", "email": "ann@example.org", **says}
    async with World.on(url, strict=strict, associate_by_email=True, provider=provider) as world:
        await world.insert_user(is_verified=local_is_verified)
        answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

        if is_linked:
            assert answer.status_code == 204
        else:
            assert_refused(answer, "OAUTH_USER_ALREADY_EXISTS")
        assert [len(user["accounts"]) for user in await users_of(world)] == [int(is_linked)]


@pytest.mark.parametrize(("says", "is_verified"), [({}, True), ({"email_verified": False}, False)])
async def test_a_provider_that_does_not_vouch_makes_no_verified_user(
    tmp_path: Path, says: dict[str, Any], is_verified: bool
) -> None:
    provider = Vouching()
    provider.profile = {"sub": "account-1", "email": "ann@example.org", **says}
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, is_verified_by_default=True, provider=provider) as world:
        await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

        assert [user["is_verified"] for user in await users_of(world)] == [is_verified]


async def test_a_login_can_require_a_verified_address(tmp_path: Path) -> None:
    """D11: upstream lets everybody in here."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, oauth_requires_verification=True) as world:
        answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
        assert_refused(answer, "LOGIN_USER_NOT_VERIFIED")
        responses = world.app.openapi()["paths"]["/oauth/callback"]["get"]["responses"]
        assert "LOGIN_USER_NOT_VERIFIED" in responses["400"]["content"]["application/json"]["examples"]


class Mapping(UserManager):
    async def get_oauth_user_fields(self, oauth_name: str, profile: Any) -> dict[str, Any]:
        return {"nickname": f"{profile['name']} of {oauth_name}"}


async def test_the_profile_becomes_fields_of_a_new_user(tmp_path: Path) -> None:
    provider = Vouching()
    provider.profile = {"sub": "account-1", "email": "ann@example.org", "name": "Ann"}
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=Mapping, provider=provider) as world:
        await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

        assert (await world.client.get("/users/me")).json()["nickname"] == "Ann of provider"


@pytest.mark.parametrize("email", ["", "no address", "a@b@c", "x" * 400 + "@example.org", "ann@example.org\n"])
async def test_an_address_that_is_none_is_not_taken_over(either: World, email: str) -> None:
    """Weakness 16: an empty one merges strangers, a malformed one cannot be shown again."""
    either.provider.account = ("account-1", email)

    answer = await finish(either.client, "oauth", state=await begin(either.client, "oauth"))

    assert_refused(answer, "OAUTH_NOT_AVAILABLE_EMAIL")
    assert await users_of(either) == []


class Encrypting(UserManager):
    oauth_token_cipher = TokenCipher(["a secret of the cipher, longer than 32 bytes"])


async def test_the_tokens_of_a_provider_can_be_kept_encrypted(tmp_path: Path) -> None:
    """D22, storage.oauth_tokens_plain."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=Encrypting) as world:
        for refresh_token in ("REFRESH", None):
            world.provider.token["refresh_token"] = refresh_token
            await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
            async with world.session_maker() as session:
                account = (await session.scalars(select(OAuthAccount))).one()

            assert "PROVIDER-TOKEN" not in account.access_token
            assert Encrypting.oauth_token_cipher.decrypt(account.access_token) == "PROVIDER-TOKEN"
            # The second login brings none, so that the first one stays.
            assert account.refresh_token is not None
            assert Encrypting.oauth_token_cipher.decrypt(account.refresh_token) == "REFRESH"
            assert account.refresh_token != "REFRESH"


def test_what_a_callback_answers_is_documented() -> None:
    """CONTRACT 16 row 17: version 15 knows the 200 of a bearer token only, no 401 and few of the codes."""
    world = World(create_async_engine("sqlite+aiosqlite://"), allowed_redirects=TARGETS)
    paths = world.app.openapi()["paths"]

    codes = {path: {*paths[path]["get"]["responses"]} for path in paths if path.endswith(("/authorize", "/callback"))}
    assert codes == {
        "/oauth/authorize": {"200", "303", "400", "422"},
        "/oauth/callback": {"200", "204", "303", "400", "422"},
        "/associate/authorize": {"200", "303", "400", "401", "422"},
        "/associate/callback": {"200", "303", "400", "401", "422"},
    }
    careful = World(create_async_engine("sqlite+aiosqlite://"), requires_verification=True).app.openapi()["paths"]
    for path in ("/associate/authorize", "/associate/callback", "/account/oauth-accounts"):
        assert {"401", "403"} <= {*careful[path]["get"]["responses"]}
    assert {"401", "403"} <= {*careful["/account/oauth-accounts/{id}"]["delete"]["responses"]}
    for flow, refusal in (("oauth", "OAUTH_USER_ALREADY_EXISTS"), ("associate", "OAUTH_ACCOUNT_ALREADY_LINKED")):
        refusals = paths[f"/{flow}/callback"]["get"]["responses"]["400"]["content"]["application/json"]["examples"]
        assert {"OAUTH_INVALID_STATE", "OAUTH_NOT_AVAILABLE_EMAIL", refusal} <= {*refusals}


# secrets


async def test_a_weak_secret_is_told_of_when_the_router_is_made(strict: World) -> None:
    """D16, requirement 58."""
    users = strict.fastapi_users
    with pytest.warns(InsecureSecretWarning, match="state_secret is well-known") as told:
        users.get_oauth_router(strict.provider, strict.cookie, "SECRET")
    assert [warning.filename for warning in told] == [__file__], "the line to change"

    users.get_oauth_associate_router(strict.provider, UserRead, [SECRET, "SECRET"])


async def test_strict_refuses_a_weak_secret(strict: World) -> None:
    users = strict.fastapi_users
    with pytest.raises(ValueError, match="state_secret is well-known"):
        users.get_oauth_router(strict.provider, strict.cookie, "SECRET", strict=True)
    with pytest.raises(ValueError, match="state_secret is only 1 bytes long"):
        users.get_oauth_associate_router(strict.provider, UserRead, [SECRET, "x"], strict=True)
