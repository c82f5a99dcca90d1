from pathlib import Path

import pytest
from fastapi import APIRouter
from httpx import Response
from starlette.routing import Route

from fastapi_users.features.throttle import Throttle, get_throttled_router
from tests.features.throttle.throttled import EMAIL, throttled_world
from tests.world import PASSWORD


def at(number: int) -> dict[str, str]:
    return {"x-forwarded-for": f"198.51.100.{number}"}


def essence(answer: Response) -> tuple[int, bytes, str | None]:
    return answer.status_code, answer.content, answer.headers.get("ratelimit-policy")


@pytest.mark.parametrize("path", ["/reset/forgot-password", "/verify/request-verify-token"])
async def test_an_address_gets_so_many_mails_and_whether_it_is_known_does_not_show(tmp_path: Path, path: str) -> None:
    async with throttled_world(tmp_path, Throttle("memory://", mails="1/minute; 5/hour")) as world:
        await world.insert_user()

        async def ask(email: str) -> list[tuple[int, bytes, str | None]]:
            spellings = [email, email.upper(), email]
            return [
                essence(await world.client.post(path, json={"email": spelling}, headers=at(number)))
                for number, spelling in enumerate(spellings)
            ]

        known = await ask(EMAIL)
        assert known == await ask("nobody@example.org")
        assert [status for status, _, _ in known] == [202, 429, 429]
        assert len(world.outbox.messages) == 1


SPELLINGS = ("a <{}>", "b <{}>", '"Ann B." <{}>', "a" * 1200 + " <{}>", "  {} ", "{}")


@pytest.mark.parametrize("path", ["/reset/forgot-password", "/verify/request-verify-token"])
async def test_a_name_before_an_address_brings_it_no_more_mails(tmp_path: Path, path: str) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        await world.insert_user()
        answers = [
            await world.client.post(path, json={"email": spelling.format(EMAIL)}, headers=at(number))
            for number, spelling in enumerate(SPELLINGS)
        ]

        assert [answer.status_code for answer in answers] == [202, 429, 429, 429, 429, 429]
        assert len(world.outbox.messages) == 1
        assert world.hooks[-1] == ("throttled", "mails", EMAIL)


@pytest.mark.parametrize("domain", ["example.org", "b\u00fccher.example"])
async def test_an_address_is_registered_so_often_in_all_its_spellings(tmp_path: Path, domain: str) -> None:
    async with throttled_world(tmp_path, Throttle("memory://", registrations_per_email="2/hour")) as world:

        async def register(email: str) -> int:
            return (await world.client.post("/auth/register", json={"email": email, "password": PASSWORD})).status_code

        spellings = ["x <v@{}>", "v@{}", "y <V@{}>"]
        assert [await register(spelling.format(domain)) for spelling in spellings] == [201, 400, 429]
        assert await register(f"v@{domain.encode('idna').decode()}") == 429


async def test_who_asks_for_one_kind_of_mail_leaves_the_other_to_the_owner(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        await world.insert_user(is_verified=True)
        post = world.client.post
        assert (await post("/verify/request-verify-token", json={"email": EMAIL})).status_code == 202
        assert (await post("/verify/request-verify-token", json={"email": EMAIL})).status_code == 429
        assert (await post("/reset/forgot-password", json={"email": EMAIL})).status_code == 202


async def test_who_asks_for_a_lookalike_leaves_the_mails_to_the_owner(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        await world.insert_user()

        async def ask(email: str) -> int:
            return (await world.client.post("/reset/forgot-password", json={"email": email})).status_code

        assert [await ask("\u00e1nn@example.org"), await ask("\u00e0nn@example.org")] == [202, 429]
        assert await ask(EMAIL) == 202


async def test_an_address_gets_five_mails_in_an_hour(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://", mails="5/hour", mail_requests="7/minute")) as world:
        await world.insert_user()

        async def ask(email: str) -> int:
            return (await world.client.post("/reset/forgot-password", json={"email": email})).status_code

        assert [await ask(EMAIL) for _ in range(6)] == [202] * 5 + [429]
        assert [await ask("bob@example.org"), await ask("eve@example.org")] == [202, 429]  # those of one client


@pytest.mark.parametrize("neutral", [False, True])
async def test_registrations_are_limited_by_client_and_by_address(tmp_path: Path, neutral: bool) -> None:
    throttle = Throttle("memory://", register="3/minute", registrations_per_email="2/hour")
    async with throttled_world(tmp_path, throttle, neutral=neutral) as world:

        async def register(email: str, client: int) -> str:
            body = {"email": email, "password": PASSWORD}
            answer = await world.client.post("/auth/register", json=body, headers=at(client))
            return str(answer.headers["ratelimit"].split('"')[1]) if answer.status_code == 429 else "passed"

        assert [await register(f"user{number}@example.org", 1) for number in range(4)] == ["passed"] * 3 + ["register"]
        answers = [await register("victim@example.org", number) for number in range(2, 5)]
        assert answers == ["passed", "passed", "registrations-per-email"]


@pytest.mark.parametrize("path", ["/reset/reset-password", "/verify/verify"])
async def test_mailed_tokens_are_guessed_slowly(tmp_path: Path, path: str) -> None:
    async with throttled_world(tmp_path, Throttle("memory://", tokens="2/minute")) as world:
        body = {"token": "x", "password": PASSWORD}
        answers = [await world.client.post(path, json=body) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [400, 400, 429]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"[1]", b'{"email": 1}', b"\xff", b'{"email": "\\ud800"}']
)
async def test_a_body_that_is_none_is_answered_as_without_limits(tmp_path: Path, content: bytes) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        headers = {"content-type": "application/json"}
        for path in ("/reset/forgot-password", "/auth/register"):
            answer = await world.client.post(path, content=content, headers=headers)
            assert answer.status_code == 422


@pytest.mark.parametrize("code", ["429", "503"])
async def test_the_document_has_the_answer_where_it_can_come(tmp_path: Path, code: str) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        documented = {
            f"{method.upper()} {path}"
            for path, operations in world.app.openapi()["paths"].items()
            for method, operation in operations.items()
            if code in operation["responses"]
        }
    assert documented == {
        "POST /auth/jwt/login",
        "POST /auth/cookie/login",
        "POST /again/reauthenticate",
        "POST /auth/register",
        "POST /reset/forgot-password",
        "POST /reset/reset-password",
        "POST /verify/request-verify-token",
        "POST /verify/verify",
        "PATCH /users/me",
        "PATCH /users/{id}",
        "GET /oauth/callback",
    }


async def test_nothing_else_in_the_routes_changes(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://")) as world:
        plain = APIRouter()
        plain.include_router(world.fastapi_users.get_reset_password_router())
        plain.routes.append(Route("/other", lambda request: Response(200)))
        throttled = get_throttled_router(world.fastapi_users, plain)

        assert [type(route) for route in throttled.routes] == [type(route) for route in plain.routes]
        responses = world.app.openapi()["paths"]["/reset/forgot-password"]["post"]["responses"]
        assert {*responses} == {"202", "422", "429", "503"}
