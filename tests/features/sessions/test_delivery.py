"""How the refresh token comes to the client, and back."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from httpx import Response as Answer

from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users.authentication.login import complete_login, document_challenges
from fastapi_users.features.sessions import get_sessions_router
from fastapi_users.features.sessions.delivery import IssuedTokens, add_refresh_token, document_refresh_tokens
from fastapi_users.testing import frozen_clock
from tests.features.sessions.application import COOKIE, EMAIL, Application, Client, application_on
from tests.world import PASSWORD

FORM = {"username": EMAIL, "password": PASSWORD}
MONTH = 30 * 24 * 3600


def cookie_of(answer: Answer) -> dict[str, str]:
    """The attributes of the cookie with the refresh token, in small letters."""
    (header,) = [header for header in answer.headers.get_list("set-cookie") if header.startswith(f"{COOKIE}=")]
    pairs = [part.strip().partition("=") for part in header.split(";")[1:]]
    return {name.lower(): value for name, _, value in pairs}


async def test_a_bearer_gets_it_in_the_body_which_no_cache_keeps(app: Application) -> None:
    answer = await app.new_client().post("/bearer/login", data=FORM)

    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers


async def test_a_browser_gets_it_in_a_cookie_for_the_refresh_route_that_scripts_cannot_read(app: Application) -> None:
    with frozen_clock():
        client = app.new_client()
        for path in ("login", "refresh"):
            answer = await client.post(f"/cookie/{path}", data=FORM)

            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["cache-control"] == "no-store"
            assert cookie_of(answer) == {
                "max-age": str(MONTH),
                "path": "/cookie/refresh",
                "samesite": "lax",
                "httponly": "",
                "secure": "",
            }


async def test_the_cookie_of_who_is_not_remembered_ends_with_the_browser(app: Application) -> None:
    client = app.new_client()
    for path in ("login", "refresh"):
        answer = await client.post(f"/cookie/{path}", data={**FORM, "remember_me": "off"})

        assert "max-age" not in cookie_of(answer)


async def test_a_cookie_is_as_its_transport_wants_it(tmp_path: Path) -> None:
    options = {"cookie_options": {"cookie_samesite": "strict"}}
    async with application_on("memory", tmp_path, **options) as application:
        application.cookie.transport.cookie_name = "session"  # type: ignore[attr-defined]  # of a cookie transport
        application.cookie.transport.cookie_domain = "app.test"  # type: ignore[attr-defined]  # the same
        await application.register()
        answer = await application.new_client().post("/cookie/login", data=FORM)

        (header,) = [header for header in answer.headers.get_list("set-cookie") if "session_refresh=" in header]
        assert header.startswith("session_refresh=")
        assert {"SameSite=strict", "Domain=app.test"} <= {part.strip() for part in header.split(";")}


async def test_the_path_of_the_cookie_is_that_which_the_browser_sees(app: Application) -> None:
    outer = FastAPI()
    outer.mount("/api", app.app)
    client = app.new_client()
    client._transport.app = outer  # type: ignore[attr-defined]  # httpx's
    assert cookie_of(await client.post("/api/cookie/login", data=FORM))["path"] == "/api/cookie/refresh"

    app.manager_class.sessions_refresh_path = "/elsewhere"
    assert cookie_of(await client.post("/api/cookie/login", data=FORM))["path"] == "/elsewhere"


@pytest.mark.parametrize(
    ("wish", "is_remembered"),
    [("true", True), ("on", True), ("false", False), ("0", False), ("", True), ("perhaps", True), (None, True)],
)
async def test_the_form_of_the_login_says_whether_to_be_remembered(
    app: Application, wish: str | None, is_remembered: bool
) -> None:
    client = await app.log_in(**({} if wish is None else {"remember_me": wish}))

    assert await are_remembered(app) == [is_remembered]
    assert (await client.refresh()).status_code == 200
    assert await are_remembered(app) == [is_remembered]


async def test_an_application_may_forget_whoever_does_not_ask(app: Application) -> None:
    app.manager_class.sessions_remember_by_default = False
    await app.log_in()
    await app.log_in(remember_me="true")

    assert sorted(await are_remembered(app)) == [False, True]


async def are_remembered(app: Application) -> list[bool]:
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        return [session.is_remembered for session in await manager.list_sessions(user)]


@pytest.mark.parametrize("backend", ["bearer", "cookie"])
async def test_to_prove_again_who_one_is_keeps_the_wish_and_replaces_the_session(
    app: Application, backend: str
) -> None:
    client = await app.log_in(backend, remember_me="false")
    old_id, old_token = await client.own_id(), client.refresh_token

    answer = client.keep(await client.http.post(f"/{backend}/reauthenticate", json={"password": PASSWORD}))

    assert answer.is_success
    assert await are_remembered(app) == [False]
    assert await client.own_id() != old_id
    assert (await client.present(old_token)).status_code == 400
    assert (await client.refresh()).is_success

    body = {"password": PASSWORD, "remember_me": True}
    client.keep(await client.http.post(f"/{backend}/reauthenticate", json=body))
    assert await are_remembered(app) == [True]


async def test_a_login_ends_the_session_whose_place_it_takes(app: Application) -> None:
    """OWASP ASVS 5.0, 7.2.4"""
    await app.register("bob@example.org")
    browser, script = await app.log_in("cookie"), await app.log_in("bearer")
    assert len(await are_remembered(app)) == 2

    await browser.log_in()
    await script.log_in()
    assert len(await are_remembered(app)) == 2

    await browser.log_in(email="bob@example.org")  # the cookie of Ann is overwritten
    await script.log_in(email="bob@example.org")  # her token need not be forgotten
    assert len(await are_remembered(app)) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", ""),
        (b"remember_me=false", "application/x-www-form-urlencoded"),
        (b"remember_me=false", "Application/X-WWW-Form-URLencoded"),
        (b'{"remember_me": false}', "application/json"),
        (b'["remember_me"]', "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "text/plain"),
    ],
)
async def test_a_way_in_may_have_any_body(app: Application, content: bytes, kind: str) -> None:
    await log_in_through_a_route_of_its_own(app)

    answer = await app.new_client().post("/own", content=content, headers={"content-type": kind})

    assert answer.status_code == 200, answer.text
    assert await are_remembered(app) == [b"false" not in content]


async def log_in_through_a_route_of_its_own(app: Application) -> None:
    async def log_in(
        request: Request,
        user_manager: Any = Depends(app.fastapi_users.get_user_manager),
        strategy: Any = Depends(app.bearer.get_strategy),
    ) -> Response:
        user = await user_manager.get_by_email(EMAIL)
        return await complete_login(
            app.bearer, strategy, user=user, user_manager=user_manager, methods=["own"], request=request
        )

    app.app.add_api_route("/own", log_in, methods=["POST"])


async def test_a_login_without_a_request_gives_it_all_the_same(app: Application) -> None:
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        for backend in (app.bearer, app.cookie):
            strategy: Any = backend.get_strategy(manager)
            response = await complete_login(
                backend, strategy, user=user, user_manager=manager, methods=["own"], request=None
            )
            assert b"refresh_token" in bytes(response.body) or "Path=/;" in response.headers.getlist("set-cookie")[1]


async def test_a_backend_of_another_kind_gets_nothing_after_a_script_wrote_a_token(app: Application) -> None:
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        sessions: Any = app.bearer.get_strategy(manager)
        await sessions.write_token(user)
        plain: Any = app.jwt.get_strategy()
        response = await complete_login(app.jwt, plain, user=user, user_manager=manager, methods=["own"], request=None)

        assert b"refresh_token" not in bytes(response.body)


class HeaderTransport(BearerTransport):
    async def get_login_response(self, token: str) -> Response:
        return Response(headers={"x-token": token})


class ListTransport(BearerTransport):
    async def get_login_response(self, token: str) -> Response:
        return JSONResponse([token])


@pytest.mark.parametrize("transport", [HeaderTransport, ListTransport])
async def test_a_transport_without_a_place_for_it_is_told_so(transport: type[BearerTransport]) -> None:
    backend = AuthenticationBackend[Any, Any]("own", transport("login"), lambda: None)  # type: ignore[arg-type,return-value]  # not asked
    response = await backend.transport.get_login_response("TOKEN")

    with pytest.raises(NotImplementedError, match=f"The answer of {transport.__name__} has no place"):
        add_refresh_token(
            response, IssuedTokens(refresh_token="R", expires_in=1, cookie_seconds=None), backend, path="/"
        )


async def test_a_login_without_a_route_to_refresh_is_told_so(app: Application) -> None:
    bare = FastAPI()
    bare.include_router(app.fastapi_users.get_auth_router(app.bearer), prefix="/bearer")
    client = app.new_client()
    client._transport.app = bare  # type: ignore[attr-defined]  # httpx's

    with pytest.raises(RuntimeError, match="mount get_sessions_router"):
        await client.post("/bearer/login", data=FORM)


async def test_the_document_tells_of_it_beside_what_else_a_login_may_answer(app: Application) -> None:
    document_challenges([app.bearer, app.cookie])
    operations = app.app.openapi()["paths"]
    bearer = operations["/bearer/login"]["post"]["responses"]
    cookie = operations["/cookie/login"]["post"]["responses"]

    assert {"200", "202"} <= bearer.keys()
    schema = bearer["200"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("/BearerResponse")
    assert schema["required"] == ["expires_in", "refresh_token"]
    assert {"204", "202"} <= cookie.keys()
    assert COOKIE in cookie["204"]["headers"]["Set-Cookie"]["description"]
    assert "refresh_token" not in str(operations["/jwt/login"])


async def test_the_document_tells_that_the_form_may_say_whether_to_be_remembered(app: Application) -> None:
    operations = app.app.openapi()["paths"]
    forms = {
        name: operations[f"/{name}/login"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
        for name in ("bearer", "cookie", "jwt")
    }

    for name in ("bearer", "cookie"):
        schema = forms[name]["schema"]
        assert "/Body_" in schema["$ref"]
        assert schema["properties"]["remember_me"]["type"] == "boolean"
    assert "remember_me" not in str(forms["jwt"])
    assert "remember_me" not in str(operations["/bearer/reauthenticate"])  # whose body is another


def test_a_backend_that_is_just_an_object_has_no_document() -> None:
    class Backend:
        transport = BearerTransport("login")

    document_refresh_tokens(Backend())  # type: ignore[arg-type]  # as the tests of applications have them


async def test_a_dead_cookie_is_taken_away_and_a_refused_one_of_the_living_is_not(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await app.log_in("cookie")
    stranger = Client(app.new_client(), "cookie")

    answer = await stranger.present("nonsense")

    assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
    assert (cookie_of(answer)["max-age"], cookie_of(answer)["path"]) == ("0", "/cookie/refresh")
    answer = await browser.present(browser.refresh_token, "refresh/revoke")
    assert cookie_of(answer)["max-age"] == "0"
    assert any(header.startswith("__Host-session=") for header in answer.headers.get_list("set-cookie"))


@pytest.mark.parametrize("is_active", [True, False])
async def test_logging_out_takes_both_cookies_away(app: Application, is_active: bool) -> None:
    browser = await app.log_in("cookie")
    token = browser.refresh_token
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        await manager.user_db.update(user, {"is_active": is_active})

    answer = await browser.http.post("/cookie/logout")

    assert answer.status_code == (204 if is_active else 401)
    assert cookie_of(answer) == {
        "max-age": "0",
        "path": "/cookie/refresh",
        "samesite": "lax",
        "httponly": "",
        "secure": "",
    }
    assert {*browser.http.cookies} == set()
    assert len(answer.headers.get_list("set-cookie")) == 2
    assert (await browser.present(token)).status_code == 400


async def test_who_comes_to_log_out_after_the_access_token_has_expired_can_refresh_and_try_again(
    app: Application,
) -> None:
    with frozen_clock() as clock:
        browser = await app.log_in("cookie")
        clock.advance(seconds=901)
        assert (await browser.http.post("/cookie/logout")).status_code == 401
        assert {*browser.http.cookies} == {COOKIE}
        assert (await browser.refresh()).status_code == 204

        assert (await browser.http.post("/cookie/logout")).status_code == 204
        assert {*browser.http.cookies} == set()
        assert await are_remembered(app) == []


async def test_a_bearer_that_logs_out_is_sent_no_cookie(app: Application) -> None:
    client = await app.log_in()

    assert "set-cookie" not in (await client.http.post("/bearer/logout")).headers


async def test_an_own_router_may_hold_it_too(app: Application) -> None:
    """Wherever it is mounted, the route is found by its name."""
    nested = APIRouter(prefix="/v1")
    nested.include_router(app.fastapi_users.get_auth_router(app.cookie))
    nested.include_router(get_sessions_router(app.fastapi_users, app.cookie), prefix="/mine")
    outer = FastAPI()
    outer.include_router(nested, prefix="/api")
    client = app.new_client()
    client._transport.app = outer  # type: ignore[attr-defined]  # httpx's

    assert cookie_of(await client.post("/api/v1/login", data=FORM))["path"] == "/api/v1/mine/refresh"
    assert (await client.post("/api/v1/mine/refresh")).status_code == 204


async def test_an_address_is_kept_without_its_zone(app: Application) -> None:
    app.manager_class.trusted_proxies = ["127.0.0.0/8"]
    client = app.new_client(**{"x-forwarded-for": f"fe80::1%{'z' * 1000}"})
    answer = await client.post("/bearer/login", data=FORM)
    client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    assert [session["address"] for session in (await client.get("/bearer/sessions")).json()] == ["fe80::1"]


@pytest.mark.parametrize("ends_all", [True, False])
async def test_who_ends_the_own_session_keeps_no_cookie(app: Application, ends_all: bool) -> None:
    browser, other = await app.log_in("cookie"), await app.log_in("cookie")
    own_id, other_id = await browser.own_id(), await other.own_id()

    for path in (f"/cookie/sessions/{other_id}", "/cookie/sessions"):
        answer = await browser.http.delete(path)
        assert answer.status_code == 204
        assert "max-age=0" not in str(answer.headers).lower(), "the own session goes on"
        assert {*browser.http.cookies} == {"__Host-session", COOKIE}
    answer = await browser.http.delete(
        "/cookie/sessions?includes_current=true" if ends_all else f"/cookie/sessions/{own_id}"
    )

    assert (answer.status_code, answer.content) == (204, b"")
    assert {*browser.http.cookies} == set()


@pytest.mark.parametrize("backend", ["bearer", "cookie"])
@pytest.mark.parametrize("ends_own", [True, False])
@pytest.mark.parametrize("ends_all", [True, False])
async def test_what_dependencies_set_comes_with_the_end_of_sessions(
    app: Application, backend: str, ends_own: bool, ends_all: bool
) -> None:
    def stamp(response: Response) -> None:
        response.headers["x-app"] = "stamped"
        response.set_cookie("__Host-session", "stamped")

    client, other = await app.log_in(backend), await app.log_in(backend)
    session_id = await (client if ends_own else other).own_id()
    stamped = FastAPI()
    router = get_sessions_router(app.fastapi_users, getattr(app, backend))
    stamped.include_router(router, prefix=f"/{backend}", dependencies=[Depends(stamp)])
    client.http._transport.app = stamped  # type: ignore[attr-defined]  # httpx's

    path = f"sessions?includes_current={ends_own}" if ends_all else f"sessions/{session_id}"
    answer = await client.http.delete(f"/{backend}/{path}")

    assert (answer.status_code, answer.content, answer.headers["x-app"]) == (204, b"", "stamped")
    assert "content-length" not in answer.headers
    cookies = [each for each in answer.headers.get_list("set-cookie") if each.startswith("__Host-session=")]
    assert cookies[0].startswith("__Host-session=stamped")
    assert ("Max-Age=0" in cookies[-1]) == (ends_own and client.is_browser), "the last one counts"


@pytest.mark.parametrize("backend", ["bearer", "cookie"])
async def test_who_ends_all_others_gets_another_token(app: Application, backend: str) -> None:
    client = await app.log_in(backend)

    answer = await client.http.delete(f"/{backend}/sessions")

    reissued = answer.headers["set-cookie" if client.is_browser else "authorization"]
    assert reissued.startswith("__Host-session=ey" if client.is_browser else "Bearer ey")
