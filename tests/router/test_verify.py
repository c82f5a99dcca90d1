from collections.abc import Callable

import pytest

from fastapi_users.jwt import generate_jwt
from fastapi_users.testing import frozen_clock
from tests.world import SECRET, User, World

BAD_TOKEN = {"detail": "VERIFY_USER_BAD_TOKEN"}


async def mailed_token(world: World) -> str:
    answer = await world.client.post("/auth/request-verify-token", json={"email": "ann@example.org"})
    assert (answer.status_code, answer.json()) == (202, None)
    return world.outbox.token(to="ann@example.org")


async def test_a_mailed_token_verifies_the_user_once(world: World) -> None:
    user = await world.insert_user()
    token = await mailed_token(world)

    answer = await world.client.post("/auth/verify", json={"token": token})

    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["is_verified"]) == (str(user.id), True)
    assert world.hooks == [("verified", "ann@example.org")]
    again = await world.client.post("/auth/verify", json={"token": token})
    assert (again.status_code, again.json()) == (400, {"detail": "VERIFY_USER_ALREADY_VERIFIED"})


@pytest.mark.parametrize("email", ["nobody@example.org", "inactive@example.org", "verified@example.org"])
async def test_asking_for_a_token_answers_the_same_for_everyone(world: World, email: str) -> None:
    await world.insert_user("inactive@example.org", is_active=False)
    await world.insert_user("verified@example.org", is_verified=True)

    answer = await world.client.post("/auth/request-verify-token", json={"email": email})

    assert (answer.status_code, answer.json()) == (202, None)
    assert world.outbox.messages == []


async def test_an_inactive_user_can_be_verified_and_stays_inactive(world: World) -> None:
    """D19, as it was."""
    user = await world.insert_user()
    token = await mailed_token(world)
    async with world.session_maker() as session:
        session.add(user)
        user.is_active = False
        await session.commit()

    answer = await world.client.post("/auth/verify", json={"token": token})

    assert (answer.json()["is_verified"], answer.json()["is_active"]) == (True, False)


async def test_a_token_dies_with_the_address_it_was_mailed_to(world: World) -> None:
    await world.insert_user()
    token = await mailed_token(world)
    await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=await world.log_in())

    answer = await world.client.post("/auth/verify", json={"token": token})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)


async def test_a_token_expires(world: World) -> None:
    await world.insert_user()
    with frozen_clock() as clock:
        token = await mailed_token(world)
        clock.advance(seconds=3601)

        answer = await world.client.post("/auth/verify", json={"token": token})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)


def claims(user: User) -> dict[str, object]:
    return {"sub": str(user.id), "email": user.email, "aud": "fastapi-users:verify"}


@pytest.mark.parametrize(
    "forge",
    [
        lambda user: "",
        lambda user: "x.y.z",
        lambda user: generate_jwt(claims(user), "another secret, also longer than 32 bytes"),
        lambda user: generate_jwt({**claims(user), "aud": "fastapi-users:reset"}, SECRET),
        lambda user: generate_jwt({"sub": str(user.id), "aud": "fastapi-users:verify"}, SECRET),
        lambda user: generate_jwt({"email": user.email, "aud": "fastapi-users:verify"}, SECRET),
        lambda user: generate_jwt({**claims(user), "email": "nobody@example.org"}, SECRET),
        lambda user: generate_jwt({**claims(user), "sub": "not an id"}, SECRET),
        lambda user: generate_jwt({**claims(user), "sub": "00000000-0000-0000-0000-000000000000"}, SECRET),
    ],
)
async def test_a_token_that_is_not_the_mailed_one_is_refused(world: World, forge: Callable[[User], str]) -> None:
    user = await world.insert_user()

    answer = await world.client.post("/auth/verify", json={"token": forge(user)})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert not reloaded.is_verified


@pytest.mark.parametrize("body", [b"{}", b'{"token": null}', b'{"token": "hunter2 \\ud800"}', b'"hunter2"'])
async def test_a_body_that_does_not_fit_is_a_422(world: World, body: bytes) -> None:
    assert (await world.client.post("/auth/verify", content=body)).status_code == 422
