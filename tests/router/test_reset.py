from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, Request

from fastapi_users.jwt import generate_jwt
from fastapi_users.router.reset import RESET_PASSWORD_RESPONSES
from fastapi_users.testing import frozen_clock
from tests.world import PASSWORD, SECRET, User, World

NEW_PASSWORD = "another horse, another battery"
BAD_TOKEN = {"detail": "RESET_PASSWORD_BAD_TOKEN"}


async def mailed_token(world: World, email: str = "ann@example.org") -> str:
    answer = await world.client.post("/auth/forgot-password", json={"email": email})
    assert (answer.status_code, answer.json()) == (202, None)
    return world.outbox.token(to="ann@example.org")


async def test_a_mailed_token_sets_a_new_password_once(world: World) -> None:
    await world.insert_user()
    body = {"token": await mailed_token(world, "ANN@example.org"), "password": NEW_PASSWORD}

    answer = await world.client.post("/auth/reset-password", json=body)

    assert (answer.status_code, answer.json()) == (200, None)
    assert world.hooks == [("reset", "ann@example.org")]
    assert await world.log_in(password=NEW_PASSWORD)
    old = await world.client.post("/auth/jwt/login", data={"username": "ann@example.org", "password": PASSWORD})
    assert old.status_code == 400
    again = await world.client.post("/auth/reset-password", json=body)
    assert (again.status_code, again.json()) == (400, BAD_TOKEN)


@pytest.mark.parametrize("email", ["nobody@example.org", "inactive@example.org"])
async def test_asking_for_a_token_answers_the_same_for_everyone(world: World, email: str) -> None:
    await world.insert_user("inactive@example.org", is_active=False)

    answer = await world.client.post("/auth/forgot-password", json={"email": email})

    assert (answer.status_code, answer.json()) == (202, None)
    assert world.outbox.messages == []


@pytest.mark.parametrize("body", [{}, {"email": None}, {"email": "ann"}, {"email": ["ann@example.org"]}, []])
async def test_asking_for_a_token_needs_an_address(world: World, body: object) -> None:
    assert (await world.client.post("/auth/forgot-password", json=body)).status_code == 422


async def test_a_token_expires(world: World) -> None:
    await world.insert_user()
    with frozen_clock() as clock:
        token = await mailed_token(world)
        clock.advance(seconds=3601)

        answer = await world.client.post("/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)


def claims(user: User) -> dict[str, object]:
    return {"sub": str(user.id), "password_fgpt": "x", "aud": "fastapi-users:reset"}


@pytest.mark.parametrize(
    "forge",
    [
        lambda user: "",
        lambda user: "x",
        lambda user: "x.y.z",
        lambda user: "é" * 50,
        lambda user: generate_jwt(claims(user), "another secret, also longer than 32 bytes"),
        lambda user: generate_jwt({**claims(user), "aud": "fastapi-users:verify"}, SECRET),
        lambda user: generate_jwt({"sub": str(user.id), "aud": "fastapi-users:reset"}, SECRET),
        lambda user: generate_jwt({"password_fgpt": "x", "aud": "fastapi-users:reset"}, SECRET),
        lambda user: generate_jwt({**claims(user), "sub": "not an id"}, SECRET),
        lambda user: generate_jwt({**claims(user), "sub": "00000000-0000-0000-0000-000000000000"}, SECRET),
        lambda user: generate_jwt(claims(user), SECRET),
        lambda user: generate_jwt({**claims(user), "password_fgpt": None}, SECRET),
    ],
)
async def test_a_token_that_is_not_the_mailed_one_is_refused(world: World, forge: Callable[[User], str]) -> None:
    token = forge(await world.insert_user())

    answer = await world.client.post("/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)
    assert await world.log_in()


async def test_a_token_is_refused_when_the_user_was_deactivated_since(world: World) -> None:
    user = await world.insert_user()
    token = await mailed_token(world)
    async with world.session_maker() as session:
        session.add(user)
        user.is_active = False
        await session.commit()

    answer = await world.client.post("/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})

    assert (answer.status_code, answer.json()) == (400, BAD_TOKEN)


async def test_a_refused_password_leaves_the_token_usable(world: World) -> None:
    await world.insert_user()
    token = await mailed_token(world)

    refused = await world.client.post("/auth/reset-password", json={"token": token, "password": "short"})
    assert refused.status_code == 400
    assert refused.json() == {"detail": {"code": "RESET_PASSWORD_INVALID_PASSWORD", "reason": "Too short"}}
    accepted = await world.client.post("/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})
    assert accepted.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"token": "hunter2"}',
        b'{"password": "hunter2"}',
        b'{"token": null, "password": "hunter2"}',
        b'{"token": "hunter2 \\ud800", "password": "x"}',
        b'{"token": "x", "password": "hunter2 \\udfff"}',
        b'{"token": "x", "password": "hunter2\\u0000"}',
    ],
)
async def test_a_body_that_does_not_fit_is_a_422_that_repeats_no_secret(world: World, body: bytes) -> None:
    answer = await world.client.post("/auth/reset-password", content=body)

    assert answer.status_code == 422
    assert "hunter2" not in answer.text


def test_the_documented_refusals_are_exported() -> None:
    examples = RESET_PASSWORD_RESPONSES[400]["content"]["application/json"]["examples"]

    assert list(examples) == ["RESET_PASSWORD_BAD_TOKEN", "RESET_PASSWORD_INVALID_PASSWORD"]


async def test_a_hook_may_hand_its_mail_to_the_background_tasks_of_the_request(world: World) -> None:
    """It is called when the answer is sent, and those are run afterwards."""
    user, sent = await world.insert_user(), list[str]()

    async def get_user_manager(tasks: BackgroundTasks) -> AsyncIterator[Any]:
        async def hand_over(user: User, token: str, request: Request | None) -> None:
            tasks.add_task(sent.append, user.email)

        async with world.session_maker() as session:
            manager = world.make_manager(session)
            manager.on_after_forgot_password = manager.on_after_request_verify = hand_over
            yield manager

    world.app.dependency_overrides[world.fastapi_users.get_user_manager] = get_user_manager
    for path in ("/auth/forgot-password", "/auth/request-verify-token"):
        assert (await world.client.post(path, json={"email": user.email})).status_code == 202

    assert sent == [user.email] * 2
