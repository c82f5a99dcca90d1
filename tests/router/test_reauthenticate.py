from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import func, select

from fastapi_users.testing import frozen_clock
from tests.toy import ToyManager, ToyPIN, get_toy_router
from tests.world import PASSWORD, SECRET, AccessToken, User, UserManager, World

CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, audience="fastapi-users:auth", algorithms=["HS256"])


async def test_the_password_gives_a_bearer_client_a_new_token(world: World) -> None:
    await world.insert_user()
    with frozen_clock() as clock:
        headers = await world.log_in()
        clock.advance(seconds=1000)
        answer = await world.client.post("/auth/jwt/reauthenticate", json={"password": PASSWORD}, headers=headers)

        assert answer.status_code == 200
        claims = claims_of(answer.json()["access_token"])
        assert (claims["auth_time"], claims["amr"]) == (int(clock.now.timestamp()), ["pwd"])


async def test_the_password_gives_a_browser_a_new_cookie_in_place_of_the_old_one(world: World) -> None:
    await world.insert_user()
    await world.client.post("/auth/cookie/login", data=CREDENTIALS)
    old = world.client.cookies["fastapiusersauth"]

    assert (await world.client.post("/auth/cookie/reauthenticate", json={"password": PASSWORD})).status_code == 204

    assert world.client.cookies["fastapiusersauth"] != old
    assert (await world.client.get("/users/me")).status_code == 200
    async with world.session_maker() as session:
        assert await session.scalar(select(func.count()).select_from(AccessToken)) == 1
    async with world.new_client() as other:
        headers = {"Cookie": f"fastapiusersauth={old}"}
        assert (await other.get("/users/me", headers=headers)).status_code == 401


@pytest.mark.parametrize("password", ["wrong", "", "x" * 5000])
async def test_a_wrong_password_changes_nothing(world: World, password: str) -> None:
    await world.insert_user()
    await world.client.post("/auth/cookie/login", data=CREDENTIALS)
    old = world.client.cookies["fastapiusersauth"]

    answer = await world.client.post("/auth/cookie/reauthenticate", json={"password": password})

    assert (answer.status_code, answer.json()) == (400, {"detail": "REAUTHENTICATE_BAD_CREDENTIALS"})
    assert world.client.cookies["fastapiusersauth"] == old
    assert (await world.client.get("/users/me")).status_code == 200


async def test_it_wants_a_session_of_the_same_backend(world: World) -> None:
    await world.insert_user()
    body = {"password": PASSWORD}

    assert (await world.client.post("/auth/jwt/reauthenticate", json=body)).status_code == 401
    headers = await world.log_in()
    assert (await world.client.post("/auth/cookie/reauthenticate", json=body, headers=headers)).status_code == 401


async def test_the_password_of_another_user_proves_nothing(tmp_path: Path) -> None:
    """The proof must be of the user of the session (Flask-Security, GHSA-f66q-9rf6-8795)."""

    class Confused(UserManager):
        async def authenticate(self, credentials: Any) -> User | None:
            credentials.username = "bob@example.org"
            return await super().authenticate(credentials)

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=Confused) as world:
        await world.insert_user()
        await world.insert_user("bob@example.org", password="of bob")
        get_strategy: Any = world.bearer.get_strategy
        async with world.session_maker() as session:
            user = await world.make_manager(session).get_by_email("ann@example.org")
        headers = {"Authorization": f"Bearer {await get_strategy().write_token(user)}"}

        answer = await world.client.post("/auth/jwt/reauthenticate", json={"password": "of bob"}, headers=headers)

        assert answer.json() == {"detail": "REAUTHENTICATE_BAD_CREDENTIALS"}


async def test_it_goes_through_the_door_and_an_old_second_factor_proves_nothing_any_more(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=ToyManager) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.bearer), prefix="/auth/jwt")
        user = await world.insert_user()
        before = await world.log_in()
        async with world.session_maker() as session:
            session.add(ToyPIN(user_id=user.id, pin="1234"))
            await session.commit()

        # Her session is from before she had a PIN, which is asked for now.
        body = {"password": PASSWORD}
        challenged = await world.client.post("/auth/jwt/reauthenticate", json=body, headers=before)
        assert challenged.status_code == 202
        ticket = challenged.json()["challenge"]["id"]
        finished = await world.client.post("/auth/jwt/toy", json={"ticket": ticket, "pin": "1234"})
        assert claims_of(finished.json()["access_token"])["amr"] == ["pwd", "pin"]

        headers = {"Authorization": f"Bearer {finished.json()['access_token']}"}
        again = await world.client.post("/auth/jwt/reauthenticate", json=body, headers=headers)
        assert again.status_code == 202
