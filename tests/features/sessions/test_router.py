"""What the routes refuse, and what their document says."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.routing import APIRoute

from fastapi_users.authentication.login import CredentialCheck
from fastapi_users.events import Event, LoginFailed
from fastapi_users.exceptions import InsecureSecretWarning
from fastapi_users.features import sessions
from fastapi_users.features.sessions import SessionsErrorCode, get_sessions_admin_router, get_sessions_router
from fastapi_users.testing import frozen_clock
from tests.features.sessions.application import EMAIL, Application, Client, application_on
from tests.world import PASSWORD, SECRET


async def test_a_page_of_another_site_refreshes_nothing(tmp_path: Path) -> None:
    options = {"cookie_options": {"cookie_samesite": "none", "trusted_origins": ["https://page.test"]}}
    async with application_on("memory", tmp_path, **options) as application:
        await application.register()
        client = await application.log_in("cookie")
        token = client.refresh_token
        for path in ("refresh", "refresh/revoke"):
            answer = await client.http.post(f"/cookie/{path}", headers={"sec-fetch-site": "cross-site"})
            assert (answer.status_code, answer.json()) == (403, {"detail": "CROSS_SITE_REQUEST"})
            assert "set-cookie" not in answer.headers
        answer = await client.http.delete("/cookie/sessions", headers={"origin": "https://evil.test"})
        assert answer.status_code == 403

        own_page = {"origin": "https://page.test", "sec-fetch-site": "cross-site"}
        assert (await client.http.post("/cookie/refresh", headers=own_page)).status_code == 204
        assert client.http.cookies["__Secure-session_refresh"] != token


@pytest.mark.parametrize(
    "body",
    [{}, {"refresh_token": None}, {"refresh_token": "x" * 201}, {"refresh_token": 1}, [], None],
)
async def test_what_is_no_text_is_refused_and_not_repeated(app: Application, body: Any) -> None:
    answer = await app.new_client().post("/bearer/refresh", json=body)

    assert answer.status_code == 422
    assert "x" * 201 not in answer.text


@pytest.mark.parametrize("token", ["", "nonsense", "A" * 92, "\u00e4", "\0", "eyJ.e30.x"])
async def test_what_is_no_refresh_token_is_refused_alike(app: Application, token: str) -> None:
    answer = await Client(app.new_client(), "bearer").present(token)

    assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
    assert answer.headers["cache-control"] == "no-store"


async def test_a_browser_without_a_cookie_has_no_session(app: Application) -> None:
    answer = await app.new_client().post("/cookie/refresh")
    assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
    assert app.event_names == ["registered"]  # no attempt
    assert (await app.new_client().post("/cookie/refresh/revoke")).status_code == 204


async def test_an_access_token_does_not_refresh_and_a_refresh_token_opens_nothing(app: Application) -> None:
    client = await app.log_in()
    access_token = client.http.headers["authorization"].removeprefix("Bearer ")
    status_code = (await client.present(access_token)).status_code
    client.http.headers["authorization"] = f"Bearer {client.refresh_token}"

    assert status_code == (422 if len(access_token) > 200 else 400)
    assert await client.me() == 401


async def test_a_failed_refresh_goes_through_the_seams_of_credentials(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, checks, failures = await app.log_in("cookie"), list[CredentialCheck](), list[tuple[str, Any]]()

    async def before(_manager: Any, check: CredentialCheck) -> None:
        checks.append(check)
        if len(checks) > 2:
            raise HTTPException(429, "SLOW_DOWN")

    async def failed(_manager: Any, check: CredentialCheck, user: Any) -> None:
        failures.append((check.method, user))

    monkeypatch.setattr(app.manager_class, "_seam_before_credentials", before)
    monkeypatch.setattr(app.manager_class, "_seam_credentials_failed", failed)
    assert (await client.refresh()).status_code == 204
    assert (await client.present("nonsense")).status_code == 400
    refused = await client.refresh()

    assert (refused.status_code, "set-cookie" in refused.headers) == (429, False)
    assert [(check.method, check.identifier) for check in checks] == [("refresh", None)] * 3
    assert failures == [("refresh", None)]
    (event,) = [event for event in app.events if isinstance(event, LoginFailed)]
    assert (event.method, event.identifier) == ("refresh", None)


async def test_a_dead_token_of_ours_is_no_guess_and_a_stolen_one_is(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An office whose sessions have ended comes with all of them, and has to log in anew from the same address."""
    failures: list[str] = []

    async def failed(_manager: Any, check: CredentialCheck, user: Any) -> None:
        failures.append(check.method)

    monkeypatch.setattr(app.manager_class, "_seam_credentials_failed", failed)
    with frozen_clock() as clock:
        client = await app.log_in()
        first = client.refresh_token
        await client.refresh()
        clock.advance(seconds=11)
        assert (await client.present(first)).json() == {"detail": "SESSIONS_REFRESH_TOKEN_REUSED"}
        assert failures == ["refresh"]

        for token in (first, client.refresh_token):
            assert (await client.present(token)).json() == {"detail": "SESSIONS_BAD_REFRESH_TOKEN"}
        assert failures == ["refresh"]


async def test_who_is_not_verified_is_let_in_where_that_is_not_asked_for(tmp_path: Path) -> None:
    options = {"options": {"requires_verification": True}}
    async with application_on("memory", tmp_path, **options) as application:
        user = await application.register()
        client = await application.log_in("cookie")

        answer = await client.refresh()
        assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_USER_NOT_VERIFIED"})
        assert "set-cookie" not in answer.headers
        assert (await client.http.get("/cookie/sessions")).status_code == 403
        user.is_verified = True
        assert (await client.refresh()).status_code == 204
        assert len(await client.sessions()) == 1
        codes = application.app.openapi()["paths"]["/cookie/refresh"]["post"]["responses"]["400"]
        assert "SESSIONS_USER_NOT_VERIFIED" in str(codes)


async def test_to_end_sessions_one_may_have_to_prove_who_one_is(tmp_path: Path) -> None:
    async with application_on("memory", tmp_path, options={"fresh": 600}) as application:
        await application.register()
        with frozen_clock() as clock:
            client = await application.log_in()
            clock.advance(seconds=700)
            own_id = await client.own_id()
            for path in ("/bearer/sessions", f"/bearer/sessions/{own_id}"):
                answer = await client.http.delete(path)
                assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "REAUTHENTICATION_REQUIRED")
            client.keep(await client.http.post("/bearer/reauthenticate", json={"password": PASSWORD}))
            assert (await client.http.delete("/bearer/sessions")).status_code == 204


async def test_a_session_has_one_path(app: Application) -> None:
    client = await app.log_in()
    own_id = await client.own_id()

    for spelling in (f"{{{own_id}}}", f"urn:uuid:{own_id}", f"{own_id}0", "me", str(uuid.uuid4()), "%00"):
        assert (await client.http.delete(f"/bearer/sessions/{spelling}")).status_code == 404
    assert (await client.http.delete(f"/bearer/sessions/{own_id}")).status_code == 204
    assert await client.me() == 401


async def test_the_list_is_for_who_has_a_session(app: Application) -> None:
    async with app.new_client() as stranger:
        for method, path in (("get", ""), ("delete", ""), ("delete", f"/{uuid.uuid4()}")):
            assert (await getattr(stranger, method)(f"/bearer/sessions{path}")).status_code == 401
        answer = await stranger.post("/jwt/login", data={"username": EMAIL, "password": PASSWORD})
        stranger.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        assert (await stranger.get("/users/me")).status_code == 200
        assert (await stranger.get("/bearer/sessions")).status_code == 401  # of another backend


async def test_the_sessions_of_others_are_for_superusers(app: Application) -> None:
    user = await app.register("bob@example.org")
    await app.register("root@example.org", is_superuser=True)
    ann, root = await app.log_in(), await app.log_in(email="root@example.org")
    paths = [("get", ""), ("delete", ""), ("delete", f"/{uuid.uuid4()}")]

    for method, path in paths:
        url = f"/users/{user.id}/sessions{path}"
        assert (await getattr(app.new_client(), method)(url)).status_code == 401
        assert (await getattr(ann.http, method)(url)).status_code == 403
        for nobody in (uuid.uuid4(), "x", f"{{{user.id}}}"):
            answer = await getattr(root.http, method)(f"/users/{nobody}/sessions{path}")
            assert answer.status_code == 404
    assert (await root.http.delete(f"/users/{user.id}/sessions/x")).status_code == 404


async def test_the_document_names_the_routes_and_their_refusals(app: Application) -> None:
    paths = app.app.openapi()["paths"]
    refresh = paths["/bearer/refresh"]["post"]
    examples = refresh["responses"]["400"]["content"]["application/json"]["examples"]
    answer = refresh["responses"]["200"]["content"]["application/json"]["schema"]

    assert {*examples} == {"SESSIONS_BAD_REFRESH_TOKEN", "SESSIONS_REFRESH_TOKEN_REUSED"}
    assert answer["$ref"].endswith("/RefreshResponse")
    cookie = paths["/cookie/refresh"]["post"]
    assert cookie["security"] == [{"APIKeyCookie_refresh_cookie": []}]
    assert ("requestBody" in cookie, "204" in cookie["responses"]) == (False, True)
    for path, method in (
        ("/bearer/sessions", "get"),
        ("/bearer/sessions", "delete"),
        ("/bearer/sessions/{id}", "delete"),
    ):
        assert "401" in paths[path][method]["responses"]


async def test_the_page_names_the_routes_codes_and_events_and_nothing_else(app: Application) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sessions.md").read_text("utf-8")
    routers = [get_sessions_router(app.fastapi_users, app.bearer), get_sessions_admin_router(app.fastapi_users)]
    routes = {
        (f"{method} {route.path}", route.name.replace(":bearer.", ":{backend}."))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    events = {name for name, kind in vars(sessions).items() if isinstance(kind, type) and issubclass(kind, Event)}

    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \| `(\S+)` \|", text, re.MULTILINE)) == routes
    assert set(re.findall(r"^\| `(SESSIONS_\w+)` \|", text, re.MULTILINE)) == {code.value for code in SessionsErrorCode}
    assert set(re.findall(r"^\| `([A-Z][a-z]\w+)` \|", text, re.MULTILINE)) == events


@pytest.mark.parametrize("secret", ["", ["short", SECRET]], ids=["empty", "one of two"])
async def test_a_weak_key_of_refresh_tokens_is_refused_where_that_is_strict(secret: Any, app: Application) -> None:
    with pytest.raises(ValueError, match=r"Strict\.sessions_secret"):
        type("Strict", (app.manager_class,), {"strict": True, "sessions_secret": secret})
    with pytest.warns(InsecureSecretWarning, match=r"Lax\.sessions_secret"):
        type("Lax", (app.manager_class,), {"sessions_secret": secret})
    type("Strong", (app.manager_class,), {"strict": True, "sessions_secret": SECRET})
