from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock
from uuid import UUID

import pytest
from fastapi import Depends

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import InMemoryDenylist
from fastapi_users.testing import frozen_clock
from tests.world import PASSWORD, SECRET, User, World

CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}


async def test_bearer_login_answers_a_token_that_opens_the_own_profile(world: World) -> None:
    user = await world.insert_user()

    answer = await world.client.post("/auth/jwt/login", data=CREDENTIALS)

    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type"}
    assert answer.json()["token_type"] == "bearer"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await world.client.get("/users/me", headers=headers)).json()["id"] == str(user.id)


async def test_cookie_login_sets_a_cookie_that_opens_the_own_profile(world: World) -> None:
    user = await world.insert_user()

    answer = await world.client.post("/auth/cookie/login", data=CREDENTIALS)

    assert (answer.status_code, answer.content) == (204, b"")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("fastapiusersauth=")
    assert cookie.endswith("; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure")
    assert (await world.client.get("/users/me")).json()["id"] == str(user.id)


async def test_the_login_hook_can_change_the_answer(world: World) -> None:
    await world.insert_user()

    answer = await world.client.post("/auth/jwt/login", data=CREDENTIALS)

    assert answer.headers["x-logged-in"] == "ann@example.org"
    assert world.hooks == [("logged in", "ann@example.org")]


@pytest.mark.parametrize(
    ("credentials", "fields"),
    [
        ({"username": "bob@example.org", "password": PASSWORD}, {}),
        ({"username": "ann@example.org", "password": "wrong"}, {}),
        ({"username": "ann@example.org", "password": PASSWORD + "\0"}, {}),
        ({"username": "ann%", "password": PASSWORD}, {}),
        (CREDENTIALS, {"is_active": False}),
    ],
)
async def test_unknown_users_wrong_passwords_and_inactive_users_get_the_same_refusal(
    world: World, credentials: dict[str, str], fields: dict[str, Any]
) -> None:
    await world.insert_user(**fields)

    answer = await world.client.post("/auth/jwt/login", data=credentials)

    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert world.hooks == []


@pytest.mark.parametrize(
    "stored", ["", "!", "plain text", "$argon2id$v=19$m=65536,t=3,p=4$bad", "$2b$12$short", "\ud7ff"]
)
async def test_a_stored_hash_that_nobody_can_read_is_a_wrong_password(world: World, stored: str) -> None:
    """E4, CONTRACT 16 row 18"""
    user = await world.insert_user()
    async with world.session_maker() as session:
        session.add(user)
        user.hashed_password = stored
        await session.commit()

    answer = await world.client.post("/auth/jwt/login", data=CREDENTIALS)

    assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})


@pytest.mark.parametrize(
    "request_body",
    [
        {"data": {"username": "ann@example.org"}},
        {"data": {"password": PASSWORD}},
        {"data": {**CREDENTIALS, "grant_type": "other"}},
        {"json": CREDENTIALS},
        {"content": b"\xff\xfe%%%", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"files": {"username": b"ann@example.org", "password": b"hunter2"}},
        {},
    ],
)
async def test_a_login_that_is_no_form_with_both_fields_is_a_422(world: World, request_body: dict[str, Any]) -> None:
    answer = await world.client.post("/auth/jwt/login", **request_body)

    assert answer.status_code == 422
    assert PASSWORD not in answer.text


async def test_unverified_users_are_refused_where_verification_is_required(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", requires_verification=True) as world:
        await world.insert_user("ann@example.org")
        await world.insert_user("bob@example.org", is_verified=True)

        answer = await world.client.post("/auth/jwt/login", data=CREDENTIALS)
        assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_USER_NOT_VERIFIED"})
        assert await world.log_in("bob@example.org")


async def test_a_cookie_session_ends_with_logout(world: World) -> None:
    await world.insert_user()
    await world.client.post("/auth/cookie/login", data=CREDENTIALS)
    token = world.client.cookies["fastapiusersauth"]

    answer = await world.client.post("/auth/cookie/logout")

    assert answer.status_code == 204
    assert answer.headers["set-cookie"] == 'fastapiusersauth=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax; Secure'
    again = await world.client.get("/users/me", headers={"Cookie": f"fastapiusersauth={token}"})
    assert again.status_code == 401


async def test_bearer_logout_answers_204_and_leaves_the_token_to_expire(world: World) -> None:
    await world.insert_user()
    headers = await world.log_in()

    answer = await world.client.post("/auth/jwt/logout", headers=headers)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await world.client.get("/users/me", headers=headers)).status_code == 200


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
async def test_logout_without_a_token_is_a_401(world: World, backend: str) -> None:
    answer = await world.client.post(f"/auth/{backend}/logout")

    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
async def test_tokens_of_both_backends_end_with_their_lifetime(world: World, backend: str) -> None:
    await world.insert_user()
    with frozen_clock() as clock:
        answer = await world.client.post(f"/auth/{backend}/login", data=CREDENTIALS)
        bearer = answer.json()["access_token"] if answer.content else "none"
        cookie = answer.cookies.get("fastapiusersauth", "none")
        headers = {"Authorization": f"Bearer {bearer}", "Cookie": f"fastapiusersauth={cookie}"}
        world.client.cookies.clear()

        clock.advance(seconds=3599)
        assert (await world.client.get("/users/me", headers=headers)).status_code == 200
        clock.advance(seconds=2)
        assert (await world.client.get("/users/me", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Authorization": "Bearer " + "a" * 10_000},
        {"Cookie": "fastapiusersauth"},
        {"Cookie": b"fastapiusersauth=\xff\xfe"},
        {"Cookie": 'fastapiusersauth="\\000\\377"'},
        {"Cookie": "fastapiusersauth=" + "a" * 10_000},
    ],
)
async def test_headers_and_cookies_that_are_no_tokens_are_a_401(world: World, headers: dict[Any, Any]) -> None:
    answer = await world.client.get("/users/me", headers=headers)

    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


async def test_a_route_of_the_application_gets_the_user(world: World) -> None:
    @world.app.get("/hello")
    async def hello(user: Any = Depends(world.fastapi_users.current_user(active=True))) -> str:
        return f"Hello {user.email}"

    await world.insert_user()

    assert (await world.client.get("/hello")).status_code == 401
    assert (await world.client.get("/hello", headers=await world.log_in())).json() == "Hello ann@example.org"


async def test_a_revocable_bearer_token_ends_with_the_logout(world: World) -> None:
    """Requirement 43: also for whoever kept a copy."""
    denylist = InMemoryDenylist()
    strategies = world.app.dependency_overrides
    strategies[world.bearer.get_strategy] = lambda: JWTStrategy[User, UUID](SECRET, 3600, revoke=denylist)
    await world.insert_user()
    headers, other = await world.log_in(), await world.log_in()

    assert (await world.client.post("/auth/jwt/logout", headers=headers)).status_code == 204

    assert (await world.client.get("/users/me", headers=headers)).status_code == 401
    assert (await world.client.get("/users/me", headers=other)).status_code == 200


class FakeManager:
    """What upstream's routes call to log in and out, and nothing else."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.parse_id = UUID
        self.on_after_login = AsyncMock()

    async def authenticate(self, credentials: Any) -> User | None:
        return self.user if credentials.password == PASSWORD else None

    async def get(self, user_id: UUID) -> User:
        return self.user


def mock_manager(user: User) -> Any:
    fake = FakeManager(user)
    names = ("parse_id", "on_after_login", "authenticate", "get")
    return MagicMock(**{name: getattr(fake, name) for name in names})


@pytest.mark.parametrize("make", [FakeManager, mock_manager])
async def test_the_manager_may_be_anything_with_the_methods_that_are_called(world: World, make: Any) -> None:
    """As the tests of applications put in its place."""
    manager = make(await world.insert_user())
    world.app.dependency_overrides[world.fastapi_users.get_user_manager] = lambda: manager

    headers = await world.log_in()
    refused = await world.client.post("/auth/jwt/login", data={**CREDENTIALS, "password": "wrong"})
    logged_out = await world.client.post("/auth/jwt/logout", headers=headers)

    assert (refused.status_code, logged_out.status_code) == (400, 204)
    manager.on_after_login.assert_awaited_once()
