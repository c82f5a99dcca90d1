import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from fastapi_users import FastAPIUsers
from fastapi_users.authentication import CookieTransport
from fastapi_users.authentication.transport.cross_site import CROSS_SITE_TOKEN, CrossSiteErrorCode, is_cross_site
from tests.authentication.test_authenticator import open_websocket
from tests.toy import ToyManager, ToyPIN, get_toy_router
from tests.world import PASSWORD, User, World

CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}
REFUSAL = (403, {"detail": "CROSS_SITE_REQUEST"})
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
TRUSTED = {"Sec-Fetch-Site": "cross-site", "Origin": "https://pages.test"}


def request(method: str = "POST", scheme: str = "https", **headers: str) -> HTTPConnection:
    named = {"host": "app.test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return HTTPConnection({"type": "http", "method": method, "scheme": scheme, "headers": raw})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An application for pages on another site: its cookies go with every request that any page makes."""
    options = {"cookie_samesite": "none", "trusted_origins": ["https://pages.test"]}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", cookie_options=options) as world:
        yield world


async def log_in_by_cookie(world: World) -> User:
    user = await world.insert_user()
    assert (await world.client.post("/auth/cookie/login", data=CREDENTIALS)).status_code == 204
    return user


def status_and_json(answer: Any) -> tuple[int, Any]:
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, False),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": ""}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://evil.test"}, False),
        ({"sec_fetch_site": "cross-site", "origin": "https://app.test"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://pages.test"}, False),
        ({"sec_fetch_site": "same-site", "origin": "https://pages.test"}, False),
        ({"origin": "https://app.test"}, False),
        ({"origin": "https://pages.test"}, False),
        ({"origin": "http://app.test"}, True),
        ({"origin": "https://app.test:8443"}, True),
        ({"origin": "https://app.test.evil.test"}, True),
        ({"origin": "https://evil.test"}, True),
        ({"origin": "https://evil.test/https://pages.test"}, True),
        ({"origin": "null"}, True),
        ({"origin": "null", "host": ""}, True),
        ({"origin": ""}, True),
        ({"origin": "app.test"}, True),
    ],
)
def test_browsers_say_whose_page_a_request_comes_from(headers: dict[str, str], verdict: bool) -> None:
    assert is_cross_site(request(**headers), ["https://pages.test"]) is verdict


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_methods_that_change_nothing_are_open_to_every_page(method: str) -> None:
    assert not is_cross_site(request(method, origin="https://evil.test"), [])


def test_behind_a_proxy_that_ends_tls_a_page_seems_to_post_over_plain_http() -> None:
    assert not is_cross_site(request(scheme="http", origin="https://app.test"), [])
    assert not is_cross_site(request(scheme="http", origin="http://app.test"), [])
    assert is_cross_site(request(scheme="http", origin="ftp://app.test"), [])


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.text(alphabet=st.characters(max_codepoint=255)))
def test_whatever_the_headers_hold_there_is_a_verdict(origin: str, site: str) -> None:
    raw = [(b"host", b"app.test"), (b"origin", origin.encode("latin-1")), (b"sec-fetch-site", site.encode("latin-1"))]
    connection = HTTPConnection({"type": "http", "method": "POST", "headers": raw})

    assert is_cross_site(connection, []) is (site not in ("same-origin", "none"))


@pytest.mark.parametrize(
    "origin", ["https://app.example", "http://localhost:3000", "capacitor://localhost", "http://[::1]:8080"]
)
def test_an_origin_can_be_trusted(origin: str) -> None:
    assert CookieTransport(trusted_origins=[origin]).trusted_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *["app.example", "//app.example", "https://", "https://app.example/", "https://app.example/path", "*", "null"],
        *["https://*.example", "https://App.example", "https://app.example:443", "http://app.example:80", ""],
        *["https://user@app.example", "https://app.example?x", "https://b\u00fccher.example", "https://app.example:"],
        *["https://app.example\n", "https://app.example:port"],
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match="as browsers send it"):
        CookieTransport(trusted_origins=["https://pages.test", origin])


def test_a_text_is_no_list_of_origins() -> None:
    with pytest.raises(TypeError, match="list"):
        CookieTransport(trusted_origins="https://app.example")


@pytest.mark.parametrize(
    ("samesite", "chosen", "is_protected"),
    [("lax", None, False), ("strict", None, False), ("none", None, True), ("None", None, True), ("lax", True, True)],
)
def test_the_protection_is_on_where_nothing_else_protects(
    samesite: Any, chosen: bool | None, is_protected: bool
) -> None:
    """Requirement 70: "one argument elsewhere"."""
    transport = CookieTransport(cookie_samesite=samesite, csrf_protection=chosen)

    assert transport.csrf_protection is is_protected
    assert transport.scheme.scheme_name == "APIKeyCookie"
    assert transport.scheme.model.name == "fastapiusersauth"


def test_the_protection_can_be_switched_off() -> None:
    assert not CookieTransport(cookie_samesite="none", csrf_protection=False).csrf_protection


async def test_a_page_of_another_site_changes_nothing_with_the_cookie_of_its_visitor(world: World) -> None:
    """Weakness 19, requirement 70 (cookies.csrf_*)."""
    user = await log_in_by_cookie(world)

    answer = await world.client.patch("/users/me", json={"nickname": "Evil"}, headers=FOREIGN)

    assert status_and_json(answer) == REFUSAL
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert reloaded.nickname is None
    assert (await world.client.get("/users/me", headers=FOREIGN)).status_code == 200, "reading is what CORS guards"


@pytest.mark.parametrize("headers", [{}, TRUSTED, {"Origin": "https://app.test"}, {"Sec-Fetch-Site": "same-origin"}])
async def test_own_and_trusted_pages_and_programs_do(world: World, headers: dict[str, str]) -> None:
    await log_in_by_cookie(world)

    assert (await world.client.patch("/users/me", json={"nickname": "Ann"}, headers=headers)).status_code == 200


async def test_a_bearer_token_in_the_same_request_still_counts(world: World) -> None:
    await log_in_by_cookie(world)
    bearer = await world.log_in()

    answer = await world.client.patch("/users/me", json={"nickname": "Ann"}, headers={**bearer, **FOREIGN})

    assert answer.status_code == 200
    forged = {"Authorization": "Bearer nonsense", **FOREIGN}
    assert status_and_json(await world.client.patch("/users/me", json={}, headers=forged)) == REFUSAL


async def test_without_a_cookie_a_request_of_another_site_is_just_one_without_a_token(world: World) -> None:
    for headers in (FOREIGN, {**FOREIGN, "Cookie": "fastapiusersauth="}):
        answer = await world.client.patch("/users/me", json={}, headers=headers)
        assert status_and_json(answer) == (401, {"detail": "Unauthorized"})


async def test_an_optional_user_is_nobody_in_a_request_of_another_site(world: World) -> None:
    users = world.fastapi_users
    scheme: Any = world.cookie.transport.scheme

    @world.app.post("/who")
    async def who(
        user_and_token: Any = Depends(users.authenticator.current_user_token(optional=True)),
        raw: Any = Depends(scheme),
    ) -> list[Any]:
        user, token = user_and_token
        return [user and user.email, token is not None, raw == CROSS_SITE_TOKEN]

    await log_in_by_cookie(world)

    assert (await world.client.post("/who", headers=FOREIGN)).json() == [None, False, True]
    assert (await world.client.post("/who")).json() == ["ann@example.org", True, False]


async def test_a_page_of_another_site_cannot_log_its_visitor_in_as_somebody(world: World) -> None:
    """Login CSRF (weakness 19, cookies.csrf_login): refused before the password is looked at."""
    await world.insert_user()
    for credentials in (CREDENTIALS, {**CREDENTIALS, "password": "wrong"}, {}):
        answer = await world.client.post("/auth/cookie/login", data=credentials, headers=FOREIGN)
        assert status_and_json(answer) == REFUSAL
        assert "set-cookie" not in answer.headers

    assert (await world.client.post("/auth/cookie/login", data=CREDENTIALS, headers=TRUSTED)).status_code == 204
    assert (await world.client.post("/auth/jwt/login", data=CREDENTIALS, headers=FOREIGN)).status_code == 200


@pytest.mark.parametrize(("path", "body"), [("logout", None), ("reauthenticate", {"password": PASSWORD})])
async def test_a_page_of_another_site_neither_ends_nor_renews_a_session(world: World, path: str, body: Any) -> None:
    await log_in_by_cookie(world)
    before = world.client.cookies["fastapiusersauth"]

    answer = await world.client.post(f"/auth/cookie/{path}", json=body, headers=FOREIGN)

    assert status_and_json(answer) == REFUSAL
    assert world.client.cookies["fastapiusersauth"] == before
    assert (await world.client.get("/users/me")).status_code == 200
    assert (await world.client.post(f"/auth/cookie/{path}", json=body, headers=TRUSTED)).status_code == 204


async def test_a_way_in_that_forgets_the_check_meets_it_at_the_door(tmp_path: Path) -> None:
    options: dict[str, Any] = {"cookie_options": {"csrf_protection": True}, "manager_class": ToyManager}
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **options) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.cookie), prefix="/auth/cookie")
        user = await world.insert_user()
        async with world.session_maker() as session:
            session.add(ToyPIN(user_id=user.id, pin="1234"))
            await session.commit()
        ticket = (await world.client.post("/auth/cookie/login", data=CREDENTIALS)).json()["challenge"]["id"]
        body = {"ticket": ticket, "pin": "1234"}

        assert status_and_json(await world.client.post("/auth/cookie/toy", json=body, headers=FOREIGN)) == REFUSAL
        assert "fastapiusersauth" not in world.client.cookies


async def test_the_callback_of_a_provider_is_a_get_with_a_protection_of_its_own(world: World) -> None:
    authorize = await world.client.get("/oauth/authorize")
    state = authorize.json()["authorization_url"].partition("state=")[2].partition("&")[0]

    answer = await world.client.get(
        f"/oauth/callback?code=CODE&state={state}", headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("scheme", "headers", "verdict"),
    [
        ("wss", {}, False),
        ("wss", {"origin": "https://app.test"}, False),
        ("ws", {"origin": "http://app.test"}, False),
        ("ws", {"origin": "https://app.test"}, False),  # whose proxy ends TLS
        ("wss", {"origin": "https://pages.test", "sec_fetch_site": "cross-site"}, False),
        ("wss", {"origin": "http://app.test"}, True),
        ("wss", {"origin": "wss://app.test"}, True),
        ("ws", {"origin": "ws://app.test"}, True),
        ("wss", {"origin": "https://evil.test"}, True),
        ("wss", {"origin": "https://app.test", "sec_fetch_site": "cross-site"}, True),
    ],
)
def test_a_websocket_may_change_anything(scheme: str, headers: dict[str, str], verdict: bool) -> None:
    scope = {**request(**headers).scope, "type": "websocket", "scheme": scheme}
    del scope["method"]
    assert is_cross_site(HTTPConnection(scope), ["https://pages.test"]) is verdict


async def test_a_websocket_of_another_site_has_no_user_by_the_cookie_of_its_visitor(world: World) -> None:
    """With SameSite "none" the browser sends it along, and there may be no ``current_websocket_user``."""
    await log_in_by_cookie(world)
    users = FastAPIUsers[User, uuid.UUID](world.make_manager, [world.cookie])
    cookie = f"fastapiusersauth={world.client.cookies['fastapiusersauth']}"

    @world.app.websocket("/live")
    async def live(websocket: WebSocket, user: Any = Depends(users.current_user())) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)

    @world.app.websocket("/maybe")
    async def maybe(websocket: WebSocket, user: Any = Depends(users.current_user(optional=True))) -> None:
        await websocket.accept()
        await websocket.send_text(user.email if user else "nobody")

    async def greeted(path: str, origin: str) -> Any:
        first, *rest = await open_websocket(world.app, path, {"cookie": cookie, "origin": origin})
        return rest[0]["text"] if first["type"] == "websocket.accept" else first.get("status")

    for origin in ("https://app.test", "https://pages.test"):
        assert await greeted("/live", origin) == "ann@example.org"
        assert await greeted("/maybe", origin) == "ann@example.org"
    assert await greeted("/live", "https://evil.test") == 403
    assert await greeted("/maybe", "https://evil.test") == "nobody"


async def test_origins_that_a_websocket_allows_need_not_be_trusted_elsewhere(world: World) -> None:
    await log_in_by_cookie(world)
    current_user = world.fastapi_users.authenticator.current_websocket_user(allowed_origins=["https://ui.test"])

    @world.app.websocket("/live")
    async def live(websocket: WebSocket, user: Any = Depends(current_user)) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)

    cookie = f"fastapiusersauth={world.client.cookies['fastapiusersauth']}"
    for origin, is_known in (("https://app.test", True), ("https://ui.test", True), ("https://evil.test", False)):
        sent = await open_websocket(world.app, "/live", {"cookie": cookie, "origin": origin})
        assert (sent[0]["type"] == "websocket.accept") is is_known


async def test_where_it_is_off_nothing_looks_at_the_headers(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}") as world:
        await log_in_by_cookie(world)

        assert (await world.client.patch("/users/me", json={}, headers=FOREIGN)).status_code == 200
        assert (await world.client.post("/auth/cookie/logout", headers=FOREIGN)).status_code == 204


async def test_the_document_tells_of_the_refusal_where_the_protection_is_on(world: World, tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'off.db'}") as other:
        documents = [other.app.openapi(), world.app.openapi()]
    told, schemes = [], []
    for document in documents:
        told.append(
            {
                f"{method} {path}"
                for path, operations in document["paths"].items()
                for method, operation in operations.items()
                if "CROSS_SITE_REQUEST" in str(operation["responses"].get("403"))
            }
        )
        schemes.append(document["components"]["securitySchemes"])

    assert told == [
        set(),
        {
            *["post /auth/cookie/login", "post /auth/cookie/logout", "post /auth/cookie/reauthenticate"],
            *["patch /users/me", "patch /users/{id}", "delete /users/{id}", "delete /account/oauth-accounts/{id}"],
        },
    ]
    assert schemes[0] == schemes[1]
    assert CrossSiteErrorCode.CROSS_SITE_REQUEST == "CROSS_SITE_REQUEST"
