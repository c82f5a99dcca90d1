from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from fastapi import Request
from httpx import AsyncClient
from httpx import Response as Answer
from httpx_oauth.exceptions import GetIdEmailError
from httpx_oauth.oauth2 import GetAccessTokenError
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import create_async_engine

from fastapi_users.jwt import generate_jwt
from fastapi_users.router.oauth import CSRF_TOKEN_COOKIE_NAME, generate_csrf_token, generate_state_token
from fastapi_users.testing import frozen_clock
from tests.world import SECRET, User, UserManager, World

LOGGED_OUT: dict[str, str] = {}


async def begin(client: AsyncClient, flow: str, headers: dict[str, str] = LOGGED_OUT, **params: Any) -> str:
    """The state that the provider would send back."""
    answer = await client.get(f"/{flow}/authorize", headers=headers, params=params)
    assert answer.status_code == 200
    query = parse_qs(urlsplit(answer.json()["authorization_url"]).query)
    assert query["redirect_uri"] == [f"https://app.test/{flow}/callback"]
    state: str = query["state"][0]
    return state


async def finish(client: AsyncClient, flow: str, headers: dict[str, str] = LOGGED_OUT, **params: str) -> Answer:
    return await client.get(f"/{flow}/callback", params={"code": "CODE", **params}, headers=headers)


async def users_of(world: World) -> list[dict[str, Any]]:
    async with world.session_maker() as session:
        users = (await session.execute(select(User))).unique().scalars()
        return [
            {
                "email": user.email,
                "is_verified": user.is_verified,
                "accounts": sorted((account.account_id, account.account_email) for account in user.oauth_accounts),
            }
            for user in users
        ]


async def test_the_first_login_makes_a_user_and_the_second_one_finds_it(world: World) -> None:
    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert answer.status_code == 204
    assert answer.headers["x-logged-in"] == "ann@example.org"
    assert (await world.client.get("/users/me")).json()["email"] == "ann@example.org"
    assert world.hooks == [("registered", "ann@example.org"), ("logged in", "ann@example.org")]

    world.provider.account = ("account-1", "renamed@example.org")
    world.provider.token["access_token"] = "SECOND-TOKEN"
    world.hooks.clear()
    again = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert again.status_code == 204
    assert world.hooks == [("logged in", "ann@example.org")]
    assert await users_of(world) == [
        {"email": "ann@example.org", "is_verified": False, "accounts": [("account-1", "renamed@example.org")]}
    ]


async def test_the_provider_gets_the_scopes_and_the_browser_gets_the_cookie(world: World) -> None:
    answer = await world.client.get("/oauth/authorize", params={"scopes": ["a", "b"]})

    assert parse_qs(urlsplit(answer.json()["authorization_url"]).query)["scope"] == ["a b"]
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("fastapiusersoauthcsrf=")
    assert cookie.endswith("; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure")


async def test_a_local_user_with_the_same_address_is_not_taken_over(world: World) -> None:
    await world.insert_user()

    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_USER_ALREADY_EXISTS"})
    assert await users_of(world) == [{"email": "ann@example.org", "is_verified": False, "accounts": []}]


async def test_another_account_with_the_same_address_is_somebody_else(world: World) -> None:
    """D23: who it is, the id says, and nothing that can change."""
    assert (await finish(world.client, "oauth", state=await begin(world.client, "oauth"))).status_code == 204
    world.provider.account = ("account-2", "ann@example.org")

    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_USER_ALREADY_EXISTS"})
    assert [user["accounts"] for user in await users_of(world)] == [[("account-1", "ann@example.org")]]


async def test_a_local_user_with_the_same_address_is_linked_where_the_application_wants_it(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, associate_by_email=True, is_verified_by_default=True) as world:
        await world.insert_user()

        answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
        assert answer.status_code == 204
        world.provider.account = ("account-2", "bob@example.org")
        assert (await finish(world.client, "oauth", state=await begin(world.client, "oauth"))).status_code == 204

        assert sorted(await users_of(world), key=lambda user: str(user["email"])) == [
            {"email": "ann@example.org", "is_verified": False, "accounts": [("account-1", "ann@example.org")]},
            {"email": "bob@example.org", "is_verified": True, "accounts": [("account-2", "bob@example.org")]},
        ]


async def test_an_inactive_user_is_not_logged_in(world: World) -> None:
    await finish(world.client, "oauth", state=await begin(world.client, "oauth"))
    async with world.session_maker() as session:
        await session.execute(update(User).values(is_active=False))
        await session.commit()
    world.hooks.clear()

    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert world.hooks == []


async def test_an_account_is_linked_to_the_user_who_is_logged_in(world: World) -> None:
    user = await world.insert_user()
    headers = await world.log_in()
    world.provider.account = ("account-1", "other@example.org")

    answer = await finish(world.client, "associate", headers, state=await begin(world.client, "associate", headers))

    assert (answer.status_code, answer.json()["id"]) == (200, str(user.id))
    assert await users_of(world) == [
        {"email": "ann@example.org", "is_verified": False, "accounts": [("account-1", "other@example.org")]}
    ]
    assert world.hooks[-1] == ("updated", "ann@example.org", {})


async def test_linking_needs_a_login(world: World) -> None:
    for route in ("authorize", "callback"):
        answer = await world.client.get(f"/associate/{route}", params={"code": "CODE"})
        assert answer.status_code == 401


A_DAY = 24 * 3600  # the states are signed before the first test begins, on a slow machine an hour before theirs


@pytest.mark.parametrize("flow", ["oauth", "associate"])
@pytest.mark.parametrize(
    ("state", "code"),
    [
        (None, "ACCESS_TOKEN_DECODE_ERROR"),
        ("", "ACCESS_TOKEN_DECODE_ERROR"),
        ("x", "ACCESS_TOKEN_DECODE_ERROR"),
        ("é.é.é", "ACCESS_TOKEN_DECODE_ERROR"),
        (generate_state_token({"csrftoken": "C"}, SECRET + "!"), "ACCESS_TOKEN_DECODE_ERROR"),
        (generate_state_token({"csrftoken": "C"}, SECRET, -1), "ACCESS_TOKEN_ALREADY_EXPIRED"),
        (generate_jwt({"csrftoken": "C", "aud": "fastapi-users:auth"}, SECRET), "OAUTH_INVALID_STATE"),
        (generate_jwt({"csrftoken": "C"}, SECRET), "OAUTH_INVALID_STATE"),
        (generate_state_token({"csrftoken": "D"}, SECRET, A_DAY), "OAUTH_INVALID_STATE"),
        (generate_state_token({}, SECRET, A_DAY), "OAUTH_INVALID_STATE"),
        (generate_state_token({"csrftoken": 1}, SECRET, A_DAY), "OAUTH_INVALID_STATE"),  # type: ignore[dict-item]  # the point
        (generate_state_token({"csrftoken": "é"}, SECRET, A_DAY), "OAUTH_INVALID_STATE"),
    ],
    ids=[
        *[
            "none",
            "nothing",
            "a letter",
            "three letters",
            "another secret",
            "expired",
            "another audience",
            "no audience",
        ],
        *["another browser", "no browser", "a number", "not ASCII"],
    ],
)
async def test_a_state_that_is_not_the_one_of_this_browser_is_refused(
    world: World, flow: str, state: str | None, code: str
) -> None:
    """D9, CONTRACT 16 row 5 and row 7"""
    await world.insert_user()
    headers = {**await world.log_in(), "Cookie": f"{CSRF_TOKEN_COOKIE_NAME}=C"}
    params = {} if state is None else {"state": state}

    answer = await finish(world.client, flow, headers, **params)

    assert (answer.status_code, answer.json()) == (400, {"detail": code})
    assert await users_of(world) == [{"email": "ann@example.org", "is_verified": False, "accounts": []}]


@pytest.mark.parametrize("cookie", ["", "=", f"{CSRF_TOKEN_COOKIE_NAME}=", f"{CSRF_TOKEN_COOKIE_NAME}=D", b"\xff=\xff"])
@pytest.mark.parametrize("flow", ["oauth", "associate"])
async def test_a_browser_without_the_right_cookie_is_refused(world: World, flow: str, cookie: str | bytes) -> None:
    user = await world.insert_user()
    token = (await world.log_in())["Authorization"]
    headers: Any = {"Authorization": token, "Cookie": cookie}
    state = generate_state_token({"csrftoken": "C", "sub": str(user.id)}, SECRET)

    answer = await finish(world.client, flow, headers, state=state)

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_INVALID_STATE"})


async def test_a_cookie_that_is_not_ascii_is_refused(world: World) -> None:
    """D9, CONTRACT 16 row 7"""
    state = generate_state_token({"csrftoken": "\xe9"}, SECRET)
    headers: Any = {"Cookie": f"{CSRF_TOKEN_COOKIE_NAME}=".encode() + b"\xe8"}

    answer = await finish(world.client, "oauth", headers, state=state)

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_INVALID_STATE"})


@pytest.mark.parametrize("claims", [{}, {"sub": "somebody else"}])
async def test_linking_refuses_a_state_that_names_another_user_or_none(world: World, claims: dict[str, str]) -> None:
    """D9, CONTRACT 16 row 6"""
    await world.insert_user()
    headers = {**await world.log_in(), "Cookie": f"{CSRF_TOKEN_COOKIE_NAME}=C"}
    state = generate_state_token({"csrftoken": "C", **claims}, SECRET)

    answer = await finish(world.client, "associate", headers, state=state)

    assert (answer.status_code, answer.json()) == (400, {"detail": "Bad Request"})


async def test_a_state_expires(world: World) -> None:
    with frozen_clock() as clock:
        state = await begin(world.client, "oauth")
        csrf_token = world.client.cookies[CSRF_TOKEN_COOKIE_NAME]
        clock.advance(seconds=3601)
        answer = await finish(world.client, "oauth", {"Cookie": f"{CSRF_TOKEN_COOKIE_NAME}={csrf_token}"}, state=state)

    assert (answer.status_code, answer.json()) == (400, {"detail": "ACCESS_TOKEN_ALREADY_EXPIRED"})


@pytest.mark.parametrize("flow", ["oauth", "associate"])
async def test_what_the_provider_refuses_is_a_400(world: World, flow: str) -> None:
    """CONTRACT 16 row 23"""
    await world.insert_user()
    headers = await world.log_in()

    async def call(**params: str) -> tuple[int, Any]:
        answer = await finish(world.client, flow, headers, state=await begin(world.client, flow, headers), **params)
        return answer.status_code, answer.json()["detail"]

    assert await call(error="access_denied") == (400, "access_denied")
    world.provider.refusal = GetAccessTokenError("the text of the provider")
    assert await call() == (400, "OAUTH_PROVIDER_ERROR")
    world.provider.refusal = None
    world.provider.token = {}
    assert await call() == (400, "OAUTH_PROVIDER_ERROR")
    world.provider.token = {"access_token": "T"}
    world.provider.account = ("account-1", None)
    assert await call() == (400, "OAUTH_NOT_AVAILABLE_EMAIL")


async def test_a_profile_that_cannot_be_read_is_a_400(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(token: str) -> tuple[str, str | None]:
        raise GetIdEmailError("the text of the provider")

    monkeypatch.setattr(world.provider, "get_id_email", refuse)

    answer = await finish(world.client, "oauth", state=await begin(world.client, "oauth"))

    assert (answer.status_code, answer.json()) == (400, {"detail": "OAUTH_PROVIDER_ERROR"})


async def test_an_error_of_a_hook_is_not_answered_as_a_refusal_of_the_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: UserManager, user: User, request: Request | None = None) -> None:
        raise jwt.DecodeError

    monkeypatch.setattr(UserManager, "on_after_register", fail)

    with pytest.raises(jwt.DecodeError):
        await finish(world.client, "oauth", state=await begin(world.client, "oauth"))


async def test_a_callback_without_a_code_is_a_400(world: World) -> None:
    answer = await world.client.get("/oauth/callback", params={"state": await begin(world.client, "oauth")})

    assert (answer.status_code, answer.json()) == (400, {"detail": "Bad Request"})


async def test_a_redirect_url_of_the_application_is_used_for_both_steps(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, redirect_url="https://front.test/back") as world:
        answer = await world.client.get("/oauth/authorize")
        query = parse_qs(urlsplit(answer.json()["authorization_url"]).query)
        assert query["redirect_uri"] == ["https://front.test/back"]
        assert (await finish(world.client, "oauth", state=query["state"][0])).status_code == 204
        assert world.provider.redirects == ["https://front.test/back"]


def test_csrf_tokens_are_random_and_long() -> None:
    assert len(generate_csrf_token()) == 43
    assert generate_csrf_token() != generate_csrf_token()


async def test_the_cookies_of_a_flow_keep_the_promise_of_their_name(tmp_path: Path) -> None:
    """Requirement 68 (oauth.csrf_cookie_prefix; RFC 6265bis, section 4.1.3)."""
    name = "__Host-oauth"
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", csrf_token_cookie_name=name) as world:
        answer = await world.client.get("/oauth/authorize")

    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert cookie.startswith(name)
        assert cookie.endswith("; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure")


@pytest.mark.parametrize(
    "flags",
    [
        {"csrf_token_cookie_secure": False},
        {"csrf_token_cookie_path": "/oauth"},
        {"csrf_token_cookie_domain": "app.test"},
    ],
)
def test_a_name_that_promises_what_the_cookie_of_a_flow_is_not_is_refused_at_the_start(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'__Host-oauth' only"):
        World(create_async_engine("sqlite+aiosqlite://"), csrf_token_cookie_name="__Host-oauth", **flags)
