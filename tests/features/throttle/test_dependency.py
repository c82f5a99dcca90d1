from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, Request, Response

from fastapi_users.features.throttle import THROTTLE_RESPONSES, Throttle, rate_limit
from tests.features.throttle.throttled import client_at, log_in, throttled_world
from tests.world import PASSWORD, World


def add_routes(world: World) -> None:
    app, get_user_manager = world.app, world.fastapi_users.get_user_manager
    user = world.fastapi_users.current_user(active=True)
    limited = Depends(rate_limit("2/minute; 3/hour", get_user_manager))
    by_user = Depends(rate_limit("1/minute", get_user_manager, by=user))

    def tenant(request: Request) -> str | None:
        return request.headers.get("x-tenant")

    shared = Depends(rate_limit("1/minute", get_user_manager, by=tenant, name="exports"))

    @app.get("/search", dependencies=[limited], responses=THROTTLE_RESPONSES)
    async def search() -> str:
        return "found"

    @app.get("/other", dependencies=[limited])
    async def other() -> Response:
        return Response("found")

    @app.get("/mine", dependencies=[by_user])
    async def mine() -> None: ...

    @app.get("/export/{name}", dependencies=[shared])
    @app.post("/export", dependencies=[shared])
    async def export() -> None: ...


async def test_any_route_can_be_limited_by_address(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        add_routes(world)
        get = world.client.get
        first, second, third = [await get("/search") for _ in range(3)]

        assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
        assert first.headers["ratelimit-policy"] == '"rate-limit";q=2;w=60, "rate-limit";q=3;w=3600'
        assert second.headers["ratelimit"] == '"rate-limit";r=0, "rate-limit";r=1'
        assert third.headers["ratelimit-policy"] == '"rate-limit";q=2;w=60'
        assert (await get("/search", headers={"x-forwarded-for": "192.0.2.7"})).status_code == 200
        assert (await get("/other")).status_code == 200
        assert "429" in world.app.openapi()["paths"]["/search"]["get"]["responses"]


async def test_or_by_user_or_by_what_a_dependency_says(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        add_routes(world)
        for name, statuses in (("ann", [200, 429]), ("bob", [200, 429])):
            await world.insert_user(f"{name}@example.org")
            token = (await log_in(world.client, PASSWORD, email=f"{name}@example.org")).json()["access_token"]
            headers = {"authorization": f"Bearer {token}"}
            assert [(await world.client.get("/mine", headers=headers)).status_code for _ in range(2)] == statuses

        tenant = {"x-tenant": "acme"}
        assert (await world.client.get("/export/a", headers=tenant)).status_code == 200
        shared = await world.client.post("/export", headers=tenant)
        assert shared.headers["ratelimit"].startswith('"exports";r=0;t=')
        for _ in range(3):
            assert (await world.client.post("/export")).status_code == 200


async def test_without_an_address_nothing_is_counted_by_it(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        add_routes(world)
        async with client_at(world, "a socket") as client:
            assert {(await client.get("/search")).status_code for _ in range(5)} == {200}


@pytest.mark.parametrize(
    ("limit", "options"),
    [("often", {}), ("0/minute", {}), ("1/minute", {"name": 'a "name"'}), ("1/minute", {"name": ""})],
)
async def test_a_limit_that_cannot_be_meant_is_refused_when_it_is_written(
    world: World, limit: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        rate_limit(limit, world.fastapi_users.get_user_manager, **options)
