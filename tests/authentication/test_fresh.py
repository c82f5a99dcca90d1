from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends
from httpx import Response

from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES, refuse_stale
from fastapi_users.testing import frozen_clock
from tests.toy import ToyManager
from tests.world import PASSWORD, World

CREDENTIALS = {"username": "ann@example.org", "password": PASSWORD}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=ToyManager) as world:
        fresh_user = world.fastapi_users.current_user(active=True, fresh=600)
        fresh_user_or_none = world.fastapi_users.current_user(optional=True, fresh=600)
        fresh_token = world.fastapi_users.authenticator.current_user_token(fresh=600)

        @world.app.get("/danger", responses=REAUTHENTICATION_RESPONSES)
        async def danger(user: Any = Depends(fresh_user)) -> str:
            return str(user.email)

        @world.app.get("/perhaps")
        async def perhaps(user: Any = Depends(fresh_user_or_none)) -> bool:
            return user is not None

        @world.app.get("/token")
        async def token(user_token: Any = Depends(fresh_token)) -> str:
            return str(user_token[0].email)

        await world.insert_user()
        yield world


async def log_in(world: World, backend: str) -> dict[str, str]:
    """With a bearer token, the headers; the cookie is the client's."""
    if backend == "jwt":
        return await world.log_in()
    assert (await world.client.post("/auth/cookie/login", data=CREDENTIALS)).status_code == 204
    return {}


def assert_stale(answer: Response, methods: list[str]) -> None:
    assert answer.status_code == 401
    assert answer.json() == {"detail": {"code": "REAUTHENTICATION_REQUIRED", "methods": methods, "max_age": 600}}
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_user_authentication", max_age="600"'


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
@pytest.mark.parametrize("path", ["/danger", "/token"])
async def test_a_session_is_fresh_until_its_login_is_too_old(world: World, backend: str, path: str) -> None:
    with frozen_clock() as clock:
        headers = await log_in(world, backend)
        clock.advance(seconds=599)
        assert (await world.client.get(path, headers=headers)).json() == "ann@example.org"
        clock.advance(seconds=2)

        assert_stale(await world.client.get(path, headers=headers), ["pwd"])
        assert (await world.client.get("/users/me", headers=headers)).status_code == 200


async def test_the_refusal_lists_every_factor_of_the_user(world: World) -> None:
    with frozen_clock() as clock:
        headers = await world.log_in()
        async with world.session_maker() as session:
            manager = world.make_manager(session)
            await manager.set_toy_pin(await manager.get_by_email("ann@example.org"), "1234")
        clock.advance(seconds=601)

        assert_stale(await world.client.get("/danger", headers=headers), ["pwd", "pin"])


async def test_an_optional_user_who_is_not_fresh_is_none(world: World) -> None:
    with frozen_clock() as clock:
        headers = await world.log_in()
        assert (await world.client.get("/perhaps", headers=headers)).json() is True
        clock.advance(seconds=601)
        assert (await world.client.get("/perhaps", headers=headers)).json() is False
    assert (await world.client.get("/perhaps")).json() is False


async def test_without_a_session_it_is_the_usual_refusal(world: World) -> None:
    answer = await world.client.get("/danger")

    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


async def test_a_token_from_before_is_accepted_but_never_fresh(world: World) -> None:
    """Of upstream, or of a strategy that was called directly: when the user proved anything is not known."""
    async with world.session_maker() as session:
        user = await world.make_manager(session).get_by_email("ann@example.org")
    get_strategy: Any = world.bearer.get_strategy
    headers = {"Authorization": f"Bearer {await get_strategy().write_token(user)}"}

    assert (await world.client.get("/users/me", headers=headers)).status_code == 200
    assert_stale(await world.client.get("/danger", headers=headers), ["pwd"])


async def test_a_strategy_that_never_knows_is_an_error_of_the_application(world: World) -> None:
    class Own:
        """Three methods are all that a strategy needs, and no base class."""

    own: Any = Own()
    nobody: Any = None
    with pytest.raises(NotImplementedError, match="Own has no read_authentication"):
        await refuse_stale(own, "token", user=nobody, user_manager=nobody, max_age=600)


async def test_the_refusal_is_documented(world: World) -> None:
    document = world.app.openapi()
    schema = document["paths"]["/danger"]["get"]["responses"]["401"]["content"]["application/json"]["schema"]

    assert schema == {"$ref": "#/components/schemas/ReauthenticationModel"}
    assert list(document["components"]["schemas"]["ReauthenticationDetail"]["properties"]) == [
        "code",
        "methods",
        "max_age",
    ]
