"""Guessing is slowed down on every way in, and the owner is not locked out by it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import email_validator
import pytest
from fastapi import HTTPException, Request
from fastapi import Response as Answer
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordRequestForm
from httpx import AsyncClient, Response

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.login import CredentialCheck, check_credentials, complete_login, report_failure
from fastapi_users.events import Event, Subscribers
from fastapi_users.exceptions import BadCredentials, InsecureSettingWarning, UserNotExists
from fastapi_users.features.throttle import Throttle, Throttled, ThrottleErrorCode, ThrottleMixin
from fastapi_users.features.throttle.limits import StorageUnavailable
from fastapi_users.testing import frozen_clock
from tests.features.throttle.throttled import (
    EMAIL,
    WRONG,
    client_at,
    device_of,
    log_in,
    redis_storage,
    throttled_world,
)
from tests.services import REDIS_URL
from tests.toy import ToyMixin, ToyPIN, get_toy_router
from tests.world import PASSWORD, SECRET, OneTimeSecret, UserManager, UserUpdate, World

ROOT = Path(__file__).parents[3]
STORAGES = ["memory", "redis"]


@asynccontextmanager
async def throttle_on(storage: str, **settings: Any) -> AsyncIterator[Throttle]:
    prefix, settings = f"test {uuid.uuid4()}", {"patience_seconds": 60, **settings}  # for slow machines
    if storage == "memory":
        yield Throttle("memory://", key_prefix=prefix, **settings)
    else:
        async with redis_storage() as redis:
            yield Throttle(redis, key_prefix=prefix, storage_timeout_seconds=30, **settings)


@pytest.fixture(params=STORAGES)
async def throttle(request: pytest.FixtureRequest) -> AsyncIterator[Throttle]:
    async with throttle_on(request.param) as throttle:
        yield throttle


@pytest.fixture
async def world(tmp_path: Path, throttle: Throttle) -> AsyncIterator[World]:
    async with throttled_world(tmp_path, throttle) as world:
        await world.insert_user()
        yield world


@asynccontextmanager
async def in_memory(folder: Path, **settings: Any) -> AsyncIterator[World]:
    async with throttled_world(folder, Throttle("memory://", **settings)) as world:
        await world.insert_user()
        yield world


def addresses(count: int) -> Iterator[str]:
    return (f"198.51.100.{number}" for number in range(1, count + 1))


def statuses(answers: list[Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def refused_by(answer: Response) -> str:
    assert answer.status_code == 429, answer.text
    return answer.headers["ratelimit"].split('"')[1]


async def test_of_a_hundred_wrong_logins_from_one_address_ten_are_looked_at(world: World) -> None:
    answers = [await log_in(world.client, email=f"user{number}@example.org") for number in range(100)]

    assert statuses(answers) == [400] * 10 + [429] * 90
    assert refused_by(answers[10]) == "failures-per-address"


async def test_one_address_has_five_wrong_logins_for_one_identifier(world: World) -> None:
    answers = [await log_in(world.client) for _ in range(6)]

    assert statuses(answers) == [400] * 5 + [429]
    refusal = answers[-1]
    assert refusal.json() == {"detail": "THROTTLE_TOO_MANY_REQUESTS"}
    seconds = int(refusal.headers["retry-after"])
    assert 0 < seconds <= 300
    assert refusal.headers["ratelimit-policy"] == '"failures-per-identifier-and-address";q=5;w=300'
    assert refusal.headers["ratelimit"] == f'"failures-per-identifier-and-address";r=0;t={seconds}'
    assert refusal.headers["cache-control"] == "no-store"


async def test_of_a_hundred_wrong_logins_from_a_hundred_addresses_fifty_are_looked_at(world: World) -> None:
    device = await device_of(world.client)

    answers = [await log_in(world.client, address=address) for address in addresses(100)]

    assert statuses(answers) == [400] * 50 + [429] * 50
    assert refused_by(answers[50]) == "failures-per-identifier"
    right = await log_in(world.client, PASSWORD, address="198.51.100.200")
    assert refused_by(right) == "failures-per-identifier"  # and nobody learns that it was right
    owner = await log_in(world.client, PASSWORD, address="198.51.100.200", cookies=device)
    assert owner.status_code == 200


async def test_an_account_that_is_not_there_is_refused_alike(world: World) -> None:
    def essence(answer: Response) -> Any:
        names = {"retry-after", "ratelimit", "ratelimit-policy", "content-type"}
        return answer.status_code, answer.json(), {*answer.headers} & names, answer.headers.get("ratelimit-policy")

    known = [await log_in(world.client, address=address) for address in addresses(52)]
    unknown = [await log_in(world.client, email="nobody@example.org", address=address) for address in addresses(52)]

    assert [essence(answer) for answer in known] == [essence(answer) for answer in unknown]
    assert {answer.status_code for answer in known} == {400, 429}


async def test_fifty_wrong_logins_at_once_come_to_no_more_than_the_limit(world: World) -> None:
    answers = await asyncio.gather(*(log_in(world.client) for _ in range(50)))

    assert Counter(statuses(answers)) == {400: 5, 429: 45}


async def test_fifty_wrong_logins_at_once_for_as_many_users_come_to_no_more_than_the_limit(world: World) -> None:
    names = [f"user{number}@example.org" for number in range(50)]

    answers = await asyncio.gather(*(log_in(world.client, email=name) for name in names))

    assert Counter(statuses(answers)) == {400: 10, 429: 40}


async def test_sixty_wrong_logins_at_once_from_as_many_addresses_come_to_no_more_than_the_limit(world: World) -> None:
    answers = await asyncio.gather(*(log_in(world.client, address=address) for address in addresses(60)))

    assert Counter(statuses(answers)) == {400: 50, 429: 10}


async def test_a_class_behind_one_address_logs_in_at_once(world: World) -> None:
    names = [f"pupil{number}@example.org" for number in range(30)]
    for name in names:
        await world.insert_user(name)

    answers = await asyncio.gather(*(log_in(world.client, PASSWORD, email=name) for name in names))

    assert statuses(answers) == [200] * 30


async def test_logins_of_one_address_are_limited_also_where_they_are_right(world: World) -> None:
    answers = [await log_in(world.client, PASSWORD) for _ in range(31)]

    assert statuses(answers) == [200] * 30 + [429]
    assert refused_by(answers[-1]) == "login"


async def test_spellings_of_an_identifier_and_neighbours_in_a_network_are_one(world: World) -> None:
    spellings = ["ann@example.org", "ANN@example.org", "ann@example.org ", " ann@example.org", "ann@Example.org"]
    answers = [
        await log_in(world.client, email=spelling, address=f"2001:db8::{number}")
        for number, spelling in enumerate(spellings)
    ]

    assert statuses(answers) == [400] * 5
    assert (await log_in(world.client, PASSWORD, address="2001:db8::99")).status_code == 429
    assert (await log_in(world.client, PASSWORD, address="2001:db8:0:1::99")).status_code == 200


async def test_a_right_login_ends_the_count_of_wrong_ones(world: World) -> None:
    for password in (WRONG, WRONG, WRONG, WRONG, PASSWORD, WRONG, WRONG, WRONG, WRONG):
        answer = await log_in(world.client, password)
        assert answer.status_code == (200 if password == PASSWORD else 400)


async def test_a_reset_of_the_password_unlocks(world: World) -> None:
    for address in addresses(51):
        await log_in(world.client, address=address)
    answer = await world.client.post("/reset/forgot-password", json={"email": EMAIL})
    assert answer.status_code == 202
    assert refused_by(await log_in(world.client, PASSWORD)) == "failures-per-identifier"

    body = {"token": world.outbox.token(EMAIL), "password": "a new password"}
    assert (await world.client.post("/reset/reset-password", json=body)).status_code == 200

    assert (await log_in(world.client, "a new password")).status_code == 200


@contextmanager
def served(world: World, throttle: Throttle) -> Iterator[str]:
    """Another process with the same database and Redis, on a socket that is open before it runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"""
import socket, uvicorn
from sqlalchemy.ext.asyncio import create_async_engine
from fastapi_users.features.throttle import Throttle
from fastapi_users.features.throttle.limits import StorageUnavailable
from tests.features.throttle.throttled import manager_with, throttled_app
from tests.world import World
throttle = Throttle({REDIS_URL!r}, key_prefix={throttle.key_prefix!r}, storage_timeout_seconds=30)
world = World(create_async_engine({str(world.engine.url)!r}), manager_class=manager_with(throttle))
config = uvicorn.Config(throttled_app(world), log_level="error", proxy_headers=False)
uvicorn.Server(config).run(sockets=[socket.socket(fileno={server.fileno()})])
"""
        process = subprocess.Popen(  # noqa: S603 -- ours
            [sys.executable, "-c", program],
            cwd=ROOT,
            pass_fds=[server.fileno()],
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


async def test_two_servers_share_the_limits_in_redis(tmp_path: Path) -> None:
    async with throttle_on("redis") as throttle, throttled_world(tmp_path, throttle) as world:
        await world.insert_user()
        with served(world, throttle) as one_url, served(world, throttle) as other_url:
            async with (
                AsyncClient(base_url=one_url, timeout=120) as one,
                AsyncClient(base_url=other_url, timeout=120) as other,
            ):
                device = await device_of(one)
                servers = [one, other] * 50
                at_once = await asyncio.gather(
                    *(log_in(server, email=f"user{n}@example.org") for n, server in enumerate(servers[:50]))
                )
                assert Counter(statuses(at_once)) == {400: 10, 429: 40}

                answers = [
                    await log_in(server, address=address)
                    for server, address in zip(servers, addresses(100), strict=True)
                ]
                assert statuses(answers) == [400] * 50 + [429] * 50
                for server in (one, other):
                    assert (await log_in(server, PASSWORD, address="203.0.113.1")).status_code == 429
                    owner = await log_in(server, PASSWORD, address="203.0.113.1", cookies=device)
                    assert owner.status_code == 200


async def test_the_delay_grows_and_ends_by_itself(tmp_path: Path) -> None:
    with frozen_clock() as clock:
        async with in_memory(tmp_path) as world:
            for seconds in (300, 600, 1200, 2400, 3600, 3600):
                for _ in range(5):
                    assert (await log_in(world.client)).status_code == 400
                refusal = await log_in(world.client, PASSWORD)
                assert refusal.headers["retry-after"] == str(seconds)
                clock.advance(seconds=seconds - 1)
                assert (await log_in(world.client, PASSWORD)).status_code == 429
                clock.advance(seconds=1)
            assert (await log_in(world.client, PASSWORD)).status_code == 200


async def test_a_delay_is_no_longer_than_it_says_where_an_earlier_one_was_longer(tmp_path: Path) -> None:
    with frozen_clock() as clock:
        async with in_memory(tmp_path, device_cookie_lifetime_seconds=None) as world:
            for seconds in (300, 600, 1200):
                for _ in range(5):
                    assert (await log_in(world.client)).status_code == 400
                clock.advance(seconds=seconds)
            assert (await log_in(world.client)).status_code == 400  # which would last for 2400 seconds
            assert (await log_in(world.client, PASSWORD)).status_code == 200

            clock.advance(seconds=60)
            assert statuses([await log_in(world.client) for _ in range(5)]) == [400] * 5
            assert (await log_in(world.client)).headers["retry-after"] == "300"
            clock.advance(seconds=300)
            assert (await log_in(world.client, PASSWORD)).status_code == 200


async def test_an_account_bears_a_hundred_wrong_logins_in_a_row(tmp_path: Path) -> None:
    with frozen_clock() as clock:
        async with in_memory(tmp_path) as world:
            for _ in range(2):
                answers = [await log_in(world.client, address=address) for address in addresses(50)]
                assert statuses(answers) == [400] * 50
                clock.advance(seconds=3601)
            refusal = await log_in(world.client)
            assert refused_by(refusal) == "failures-in-a-row"

            clock.advance(seconds=int(refusal.headers["retry-after"]))
            assert (await log_in(world.client, PASSWORD)).status_code == 200


async def test_spellings_that_a_database_may_take_for_the_same_are_bounded_together(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        spellings = [f"ann{chr(0x300 + number)}@example.org" for number in range(51)]
        answers = [
            await log_in(world.client, email=spelling, address=address)
            for spelling, address in zip(spellings, addresses(51), strict=True)
        ]

        assert statuses(answers) == [400] * 50 + [429]


async def test_who_owns_a_lookalike_of_an_address_clears_nothing_of_it(tmp_path: Path) -> None:
    async with in_memory(tmp_path, failures_in_a_row="3/day") as world:
        await world.insert_user("\u00e1nn@example.org")
        device = await device_of(world.client, email="\u00e1nn@example.org")
        for _ in range(3):
            assert (await log_in(world.client)).status_code == 400
            own = await log_in(world.client, PASSWORD, email="\u00e1nn@example.org", address="198.51.100.1")
        assert own.status_code == 429
        assert refused_by(await log_in(world.client, PASSWORD)) == "failures-in-a-row"
        own = await log_in(world.client, PASSWORD, email="\u00e1nn@example.org", cookies=device)
        assert own.status_code == 200  # nor is it locked out together with it


async def test_a_login_ends_the_row(tmp_path: Path) -> None:
    async with in_memory(tmp_path, failures_in_a_row="3/day") as world:
        for address in addresses(2):
            assert (await log_in(world.client, address=address)).status_code == 400
        assert (await log_in(world.client, PASSWORD)).status_code == 200
        answers = [await log_in(world.client, address=address) for address in addresses(4)]
        assert statuses(answers) == [400, 400, 400, 429]


async def get_by_email_or_name(manager: Any, name: str) -> Any:
    return await UserManager.get_by_email(manager, {"ann": EMAIL}.get(name, name))


async def test_a_login_by_a_name_ends_the_delay_and_the_row_of_the_name(tmp_path: Path) -> None:
    throttle = Throttle(
        "memory://", failures_in_a_row="5/day", failures_per_address=None, device_cookie_lifetime_seconds=None
    )
    async with throttled_world(tmp_path, throttle, settings={"get_by_email": get_by_email_or_name}) as world:
        await world.insert_user()
        passwords = [*[WRONG] * 4, PASSWORD] * 3
        answers = [await log_in(world.client, password, email="ann") for password in passwords]

        assert statuses(answers) == [400, 400, 400, 400, 200] * 3


async def test_a_login_by_a_name_from_a_known_device_ends_the_row_of_the_name(tmp_path: Path) -> None:
    throttle = Throttle("memory://", failures_in_a_row="3/day")
    async with throttled_world(tmp_path, throttle, settings={"get_by_email": get_by_email_or_name}) as world:
        await world.insert_user()
        device = await device_of(world.client, email="ann")
        for address in addresses(2):
            assert (await log_in(world.client, email="ann", address=address)).status_code == 400
        assert (await log_in(world.client, PASSWORD, email="ann", cookies=device)).status_code == 200

        answers = [await log_in(world.client, email="ann", address=address) for address in addresses(4)]
        assert statuses(answers) == [400, 400, 400, 429]


async def test_a_login_ends_nothing_of_a_name_that_was_guessed_at_in_the_same_request(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        await world.insert_user("bob@example.org")

        @world.app.post("/either")
        async def log_in_as_either(request: Request) -> Answer:
            async with world.session_maker() as session:
                manager = world.make_manager(session)
                try:
                    user: Any = await check_credentials(manager, form(EMAIL, WRONG), request=request)
                except BadCredentials:
                    user = await check_credentials(manager, form("bob@example.org", PASSWORD), request=request)
                strategy = JWTStrategy[Any, Any](SECRET, 60)
                return await complete_login(
                    world.bearer, strategy, user=user, user_manager=manager, methods=["pwd"], request=request
                )

        def form(username: str, password: str) -> OAuth2PasswordRequestForm:
            return OAuth2PasswordRequestForm(username=username, password=password)

        headers = {"x-forwarded-for": "192.0.2.1"}
        answers = [await world.client.post("/either", headers=headers) for _ in range(6)]
        assert statuses(answers) == [200] * 5 + [429]
        device = {"fastapiusersdevice": answers[0].cookies["fastapiusersdevice"]}
        assert refused_by(await log_in(world.client, PASSWORD)) == "failures-per-identifier-and-address"
        assert (await log_in(world.client, PASSWORD, cookies=device)).status_code == 429  # Bob's


# A known device


async def test_a_known_device_has_tries_of_its_own_and_not_more_than_others(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        device = await device_of(world.client)
        for address in addresses(5):
            assert (await log_in(world.client, address=address, cookies=device)).status_code == 400

        refusal = await log_in(world.client, PASSWORD, address="198.51.100.99", cookies=device)
        assert refused_by(refusal) == "failures-per-identifier-and-address"
        assert (await log_in(world.client, PASSWORD, address="198.51.100.99")).status_code == 200


async def test_a_known_device_does_not_pass_the_limits_of_its_address(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        device = await device_of(world.client)
        for number in range(10):
            await log_in(world.client, email=f"user{number}@example.org")

        assert refused_by(await log_in(world.client, PASSWORD, cookies=device)) == "failures-per-address"


async def test_a_device_is_known_of_its_user_only_as_long_as_the_password_stays(tmp_path: Path) -> None:
    async with in_memory(tmp_path, failures_per_identifier="1/hour") as world:
        bob = await world.insert_user("bob@example.org")
        device, bobs = await device_of(world.client), await device_of(world.client, email="bob@example.org")
        assert (await log_in(world.client)).status_code == 400
        assert (await log_in(world.client, email="bob@example.org", address="192.0.2.2")).status_code == 400

        for wrong in (bobs, {"fastapiusersdevice": "x.y.z"}, {"fastapiusersdevice": ""}):
            assert (await log_in(world.client, PASSWORD, cookies=wrong)).status_code == 429
        assert (await log_in(world.client, PASSWORD, cookies=device)).status_code == 200

        async with world.session_maker() as session:
            manager = world.make_manager(session)
            await manager.delete(await manager.get(bob.id))
            ann = await manager.get_by_email(EMAIL)
            await manager.user_db.update(ann, {"hashed_password": manager.password_helper.hash("another one")})
        assert (await log_in(world.client, PASSWORD, email="bob@example.org", cookies=bobs)).status_code == 429
        assert (await log_in(world.client, "another one", cookies=device)).status_code == 429


async def test_devices_of_the_former_owner_of_an_address_are_not_known_of_the_next(tmp_path: Path) -> None:
    async with in_memory(tmp_path, failures_per_identifier="1/hour") as world:
        devices = [await device_of(world.client) for _ in range(2)]
        async with world.session_maker() as session:
            users = world.make_manager(session).user_db
            await users.update(await users.get_by_email(EMAIL), {"email": "ANN@example.org"})  # the same address
        own = await log_in(world.client, cookies=devices[0])
        assert own.status_code == 400
        async with world.session_maker() as session:
            users = world.make_manager(session).user_db
            await users.update(await users.get_by_email(EMAIL), {"email": "ann.b@example.org"})
        await world.insert_user()

        answers = [await log_in(world.client, address="192.0.2.2", cookies=device) for device in devices * 2]
        assert statuses(answers) == [400, 429, 429, 429]
        assert {refused_by(answer) for answer in answers[1:]} == {"failures-per-identifier"}


async def test_the_cookie_of_a_device_can_be_left_out_and_is_out_of_reach_for_scripts(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        cookie = (await log_in(world.client, PASSWORD)).headers["set-cookie"]
        assert cookie.startswith("fastapiusersdevice=")
        for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", f"Max-Age={90 * 24 * 3600}"):
            assert attribute in cookie

    (tmp_path / "without").mkdir()
    async with in_memory(tmp_path / "without", device_cookie_lifetime_seconds=None) as world:
        assert "set-cookie" not in (await log_in(world.client, PASSWORD)).headers


async def test_a_device_stays_known_when_the_secret_is_rotated_and_for_a_limited_time(tmp_path: Path) -> None:
    with frozen_clock() as clock:
        async with in_memory(tmp_path, failures_per_identifier="1/hour") as world:
            device = await device_of(world.client)
            manager_class = type(world.make_manager(world.session_maker()))
            manager_class.login_ticket_secret = ["a newer secret, longer than thirty-two bytes", SECRET]
            assert (await log_in(world.client)).status_code == 400
            assert (await log_in(world.client, PASSWORD)).status_code == 429
            assert (await log_in(world.client, PASSWORD, cookies=device)).status_code == 200

            clock.advance(seconds=90 * 24 * 3600 + 1)
            assert (await log_in(world.client)).status_code == 400
            assert (await log_in(world.client, PASSWORD, cookies=device)).status_code == 429


# Other ways in


async def test_a_provider_s_logins_are_counted_with_the_others(tmp_path: Path) -> None:
    async with in_memory(tmp_path, login="2/minute") as world:

        async def log_in_with_provider() -> Response:
            url = (await world.client.get("/oauth/authorize")).json()["authorization_url"]
            state = url.split("state=")[1].split("&")[0]
            return await world.client.get("/oauth/callback", params={"code": "CODE", "state": state})

        world.provider.account = ("account-1", "new@example.org")
        answers = [await log_in_with_provider() for _ in range(3)]
        assert statuses(answers) == [204, 204, 429]
        assert refused_by(answers[-1]) == "login"


async def test_a_password_asked_for_in_a_session_is_counted_and_a_right_one_is_no_failure(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        token = (await log_in(world.client, PASSWORD)).json()["access_token"]
        headers = {"authorization": f"Bearer {token}", "x-forwarded-for": "192.0.2.1"}

        async def patch(password: str) -> Response:
            body = {"nickname": "Ann", "current_password": password}
            return await world.client.patch("/users/me", json=body, headers=headers)

        assert statuses([await patch(PASSWORD) for _ in range(7)]) == [200] * 7
        assert statuses([await patch(WRONG) for _ in range(6)]) == [400] * 5 + [429]
        again = await world.client.post("/again/reauthenticate", json={"password": PASSWORD}, headers=headers)
        assert again.status_code == 429


async def test_a_right_password_that_does_not_suffice_is_no_failure(tmp_path: Path) -> None:
    async with throttled_world(tmp_path, Throttle("memory://"), requires_verification=True) as world:
        await world.insert_user()
        answers = [await log_in(world.client, PASSWORD) for _ in range(8)]

        assert {answer.json()["detail"] for answer in answers} == {"LOGIN_USER_NOT_VERIFIED"}


@pytest.mark.parametrize("error", [HTTPException(401, "Wrong address or password"), LookupError()], ids=type)
async def test_an_application_that_raises_for_a_wrong_password_is_guarded_alike(
    tmp_path: Path, error: Exception
) -> None:
    async def authenticate(manager: Any, credentials: Any) -> Any:
        user = await UserManager.authenticate(manager, credentials)
        if user is None:
            raise error
        return user

    settings = {"authenticate": authenticate}
    async with throttled_world(tmp_path, Throttle("memory://"), settings=settings) as world:
        world.app.add_exception_handler(LookupError, lambda request, error: JSONResponse(None, 401))
        await world.insert_user()
        token = (await log_in(world.client, PASSWORD)).json()["access_token"]

        assert statuses([await log_in(world.client) for _ in range(6)]) == [401] * 5 + [429]
        headers = {"authorization": f"Bearer {token}", "x-forwarded-for": "192.0.2.2"}
        for path, method, field in (
            ("/again/reauthenticate", "POST", "password"),
            ("/users/me", "PATCH", "current_password"),
        ):
            async with world.session_maker() as session:
                await world.make_manager(session).throttle_unlock(EMAIL, "192.0.2.2")
            answers = [await world.client.request(method, path, json={field: WRONG}, headers=headers) for _ in range(6)]
            assert statuses(answers) == [401] * 5 + [429]


async def test_an_error_of_the_server_is_no_failure(tmp_path: Path) -> None:
    async def authenticate(manager: Any, credentials: Any) -> Any:
        raise HTTPException(503, "Too many wait")

    settings = {"authenticate": authenticate}
    async with throttled_world(tmp_path, Throttle("memory://"), settings=settings) as world:
        assert statuses([await log_in(world.client) for _ in range(12)]) == [503] * 12


async def test_a_database_that_fails_locks_nobody_out(tmp_path: Path) -> None:
    is_down = True

    async def authenticate(manager: Any, credentials: Any) -> Any:
        if is_down:
            raise OSError("no connection")
        return await UserManager.authenticate(manager, credentials)

    settings = {"authenticate": authenticate}
    async with throttled_world(tmp_path, Throttle("memory://"), settings=settings) as world:
        await world.insert_user()
        for _ in range(8):
            with pytest.raises(OSError, match="no connection"):
                await log_in(world.client, PASSWORD)
        is_down = False

        assert (await log_in(world.client, PASSWORD)).status_code == 200


async def test_an_exception_of_ours_is_a_wrong_password(tmp_path: Path) -> None:
    async def authenticate(manager: Any, credentials: Any) -> Any:
        raise UserNotExists

    settings = {"authenticate": authenticate}
    async with throttled_world(tmp_path, Throttle("memory://"), settings=settings) as world:
        for _ in range(5):
            with pytest.raises(UserNotExists):
                await log_in(world.client)

        assert (await log_in(world.client)).status_code == 429


@pytest.mark.parametrize("mixins", list(permutations([ThrottleMixin, ToyMixin, UserManager])))
async def test_a_second_factor_is_guessed_as_slowly_as_a_password(
    tmp_path: Path, mixins: tuple[type[Any], ...]
) -> None:
    settings = {
        "throttle": Throttle("memory://"),
        "trusted_proxies": (),
        "toy_model": ToyPIN,
        "toy_log": [],
        "one_time_secret_model": OneTimeSecret,
    }
    manager_class = type("Manager", mixins, settings)
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.bearer), prefix="/auth/jwt")
        user = await world.insert_user()
        async with world.session_maker() as session:
            session.add(ToyPIN(user_id=user.id, pin="1234"))
            await session.commit()

        async def guess(pin: str) -> Response:
            answer = await log_in(world.client, PASSWORD)
            ticket = answer.json()["challenge"]["id"]
            return await world.client.post("/auth/jwt/toy", json={"ticket": ticket, "pin": pin})

        assert statuses([await guess("0000") for _ in range(5)]) == [400] * 5
        refusal = await log_in(world.client, PASSWORD)
        assert refused_by(refusal) == "failures-per-identifier-and-address"


@pytest.mark.parametrize(
    ("method", "limit"),
    [("pwd", "login"), ("refresh", "refresh"), ("otp", "codes"), ("a method of tomorrow", "codes")],
)
async def test_each_way_in_has_its_limit_of_tries(tmp_path: Path, method: str, limit: str) -> None:
    settings = {"login": "1/minute", "refresh": "1/minute", "codes": "1/minute"}
    async with in_memory(tmp_path, **settings) as world:
        add_route_with_secret(world, method)

        answers = [await world.client.post("/secret", params={"secret": "right"}) for _ in range(2)]
        assert statuses(answers) == [200, 429]
        assert refused_by(answers[1]) == limit


def add_route_with_secret(world: World, method: str, identifier: str | None = None) -> None:
    """A way to prove something, on a plain route, where nobody is told when the answer was sent."""

    @world.app.post("/secret")
    async def check_secret(request: Request, secret: str, is_asked_twice: bool = False) -> str:
        async with world.session_maker() as session:
            manager = world.make_manager(session)
            check = CredentialCheck(method=method, identifier=identifier, request=request)
            await manager._seam_before_credentials(check)
            if is_asked_twice:
                other = CredentialCheck(method="another", identifier=identifier, request=request)
                await manager._seam_before_credentials(other)
            if secret != "right":
                await report_failure(manager, check, user=None)
                await report_failure(manager, check, user=None)  # a mistake, which counts once
                return "wrong"
            return "right"


async def test_a_secret_without_an_identifier_counts_for_its_address(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        add_route_with_secret(world, "refresh")

        answers = [await world.client.post("/secret", params={"secret": "wrong"}) for _ in range(11)]
        assert statuses(answers) == [200] * 10 + [429]


async def test_a_check_that_nobody_hears_of_again_counts_as_a_failure_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with in_memory(tmp_path, patience_seconds=3600) as world:
        add_route_with_secret(world, "refresh")
        params: dict[str, Any] = {"secret": "wrong", "is_asked_twice": True}

        answers = [await world.client.post("/secret", params=params) for _ in range(6)]
        assert statuses(answers) == [200] * 5 + [429]


async def test_what_no_request_started_is_not_counted(tmp_path: Path) -> None:
    async with in_memory(tmp_path, failures_in_a_row="1/day") as world, world.session_maker() as session:
        manager = world.make_manager(session)
        user = await manager.get_by_email(EMAIL)
        for _ in range(3):
            check = CredentialCheck(method="pwd", identifier=EMAIL, request=None)
            await manager._seam_before_credentials(check)
            await report_failure(manager, check, user=user)
        answer = await complete_login(
            world.bearer,
            JWTStrategy(SECRET, 3600),
            user=user,
            user_manager=manager,
            methods=["pwd"],
            request=None,
        )
        assert "set-cookie" not in answer.headers
        await manager.update(UserUpdate(nickname=None, password="a new password"), user, safe=True)
        assert (await log_in(world.client, "a new password")).status_code == 200


async def test_a_new_address_gets_one_mail_in_a_minute_and_the_request_comes_to_nothing(tmp_path: Path) -> None:
    settings = {"email_change_requires_confirmation": True}
    async with throttled_world(tmp_path, Throttle("memory://"), settings=settings) as world:
        await world.insert_user()
        token = (await log_in(world.client, PASSWORD)).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}

        async def patch(**fields: str) -> Response:
            return await world.client.patch("/users/me", json=fields, headers=headers)

        assert (await patch(email="victim@example.org")).status_code == 200
        refusal = await patch(email="Victim@example.org", nickname="Ann")
        assert refused_by(refusal) == "mails"
        assert (await world.client.get("/users/me", headers=headers)).json()["nickname"] is None
        assert (await patch(email="another@example.org")).status_code == 200

        async with world.session_maker() as session:  # a script
            manager = world.make_manager(session)
            user = await manager.get_by_email(EMAIL)
            await manager.update(UserUpdate(nickname=None, email="another@example.org"), user, safe=True)


# Who is told


async def test_a_refusal_is_told_once_and_each_decision_is_measured(tmp_path: Path) -> None:
    measured: Counter[tuple[str, bool]] = Counter()
    told: list[Event] = []
    subscribers = Subscribers()

    @subscribers.after_commit(Throttled)
    async def keep(event: Throttled, user_manager: Any) -> None:
        told.append(event)

    throttle = Throttle("memory://", metrics=lambda name, is_allowed: measured.update([(name, is_allowed)]))
    async with throttled_world(tmp_path, throttle, settings={"subscribers": subscribers}) as world:
        for _ in range(8):
            await log_in(world.client)
        assert world.hooks == [("throttled", "failures-per-identifier-and-address", EMAIL)]

    (event,) = told
    assert isinstance(event, Throttled)
    assert event.name == "throttled"
    assert event.request is not None
    assert (event.request.address, event.identifier, event.user_id) == ("192.0.2.1", EMAIL, None)
    assert 0 < event.retry_after <= 300
    assert measured["failures-per-identifier-and-address", True] == 5
    assert measured["failures-per-identifier-and-address", False] == 3
    assert measured["login", True] == 8


@pytest.mark.parametrize("identifier", ["my password, in the wrong field", "P@ssw0rd", f"{'a' * 310}@example.org"])
async def test_what_cannot_be_an_address_is_not_told(tmp_path: Path, identifier: str) -> None:
    async with in_memory(tmp_path) as world:
        for _ in range(6):
            await log_in(world.client, email=identifier)
        assert world.hooks == [("throttled", "failures-per-identifier-and-address", None)]


async def test_the_form_of_a_huge_address_is_not_looked_at_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    validate_email = email_validator.validate_email

    def measure(email: str, **options: Any) -> Any:
        lengths.append(len(email))
        return validate_email(email, **options)

    for place in ("email_validator", "fastapi_users.router.common"):
        monkeypatch.setattr(f"{place}.validate_email", measure)
    async with in_memory(tmp_path, mails="1/minute") as world:
        huge = {"email": f"{'a' * 100_000}@example.org"}
        answers = [await world.client.post("/reset/forgot-password", json=huge) for _ in range(2)]
        assert statuses(answers) == [422, 429]
        assert world.hooks == [("throttled", "mails", None)]
        assert (await world.client.post("/reset/forgot-password", json={"email": EMAIL})).status_code == 202
    assert lengths
    assert max(lengths) <= 320


# Where a request comes from


@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8",)])
async def test_a_forged_header_changes_nothing(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    async with throttled_world(tmp_path, Throttle("memory://"), settings={"trusted_proxies": proxies}) as world:
        answers = [
            await log_in(world.client, email=f"user{number}@example.org", address=address)
            for number, address in enumerate(addresses(11))
        ]

        assert statuses(answers) == [400] * 10 + [429]


async def test_requests_without_an_address_share_no_limit_and_the_log_tells_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_memory(tmp_path) as world, client_at(world, "a socket") as client:
        with caplog.at_level(logging.ERROR, "fastapi_users.throttle"):
            answers = [await log_in(client, email=f"user{number}@example.org") for number in range(20)]
        assert statuses(answers) == [400] * 20
        assert len([record for record in caplog.records if "without the address" in record.message]) == 1
        answers = [await log_in(client) for _ in range(6)]
        assert statuses(answers) == [400] * 5 + [429]
        async with world.session_maker() as session:
            await world.make_manager(session).throttle_unlock(EMAIL)
        assert (await log_in(client, PASSWORD)).status_code == 200


def test_who_has_not_decided_about_proxies_is_warned_when_the_class_is_made() -> None:
    secrets = dict.fromkeys(("reset_password_token_secret", "verification_token_secret"), SECRET)
    settings: dict[str, Any] = {"throttle": Throttle("memory://"), **secrets}
    bases = (ThrottleMixin, UUIDIDMixin, BaseUserManager)

    with pytest.warns(InsecureSettingWarning, match="Careless is throttled by the address of the connection"):
        type("Careless", bases, settings)
    type("Decided", bases, {**settings, "trusted_proxies": ()})
    with pytest.raises(TypeError, match="set throttle in it"):
        type("Unset", bases, {**settings, "throttle": None, "trusted_proxies": ()})


# The storage, and tests of applications


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A port at which nobody answers, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}"


async def test_without_its_storage_it_lets_pass_and_the_log_tells_of_it(
    tmp_path: Path, unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    throttle = Throttle(unreachable, storage_timeout_seconds=0.05)
    async with throttled_world(tmp_path, throttle) as world:
        await world.insert_user()
        with caplog.at_level(logging.ERROR, "fastapi_users.throttle"):
            answers = [await log_in(world.client, password) for password in (WRONG, WRONG, PASSWORD)]
        assert statuses(answers) == [400, 400, 200]
    complaints = [record for record in caplog.records if "does not answer: requests are not counted" in record.message]
    assert len(complaints) == 1


async def test_without_its_storage_it_refuses_where_it_is_told_to(tmp_path: Path, unreachable: str) -> None:
    throttle = Throttle(unreachable, storage_timeout_seconds=0.05, fails_open=False)
    async with throttled_world(tmp_path, throttle) as world:
        await world.insert_user()
        answer = await log_in(world.client, PASSWORD)

    assert (answer.status_code, answer.json()) == (503, {"detail": "THROTTLE_STORAGE_UNAVAILABLE"})
    assert answer.headers["retry-after"] == "5"
    assert ThrottleErrorCode.THROTTLE_STORAGE_UNAVAILABLE == "THROTTLE_STORAGE_UNAVAILABLE"


async def test_a_storage_that_goes_away_in_between_leaves_a_refusal_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_memory(tmp_path, failures_per_identifier_and_address="1/minute") as world:
        counters = type(world.make_manager(world.session_maker())).throttle.limiter.counters
        add = counters.add

        async def forget_who_was_told(key: str, seconds: int) -> int:
            if key.startswith("told:"):
                raise StorageUnavailable
            return int(await add(key, seconds))

        monkeypatch.setattr(counters, "add", forget_who_was_told)
        assert statuses([await log_in(world.client) for _ in range(2)]) == [400, 429]
        assert world.hooks == []


async def test_an_unlocking_without_a_storage_is_logged(
    tmp_path: Path, unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    throttle = Throttle(unreachable, storage_timeout_seconds=0.05)
    async with throttled_world(tmp_path, throttle) as world, world.session_maker() as session:
        with caplog.at_level(logging.ERROR, "fastapi_users.throttle"):
            await world.make_manager(session).throttle_unlock(EMAIL)
    assert len(caplog.records) == 1


async def test_tests_of_applications_can_do_without(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as world:
        manager_class = type(world.make_manager(world.session_maker()))
        throttle = manager_class.throttle
        with throttle.paused():
            answers = [await log_in(world.client) for _ in range(12)]
            assert (await log_in(world.client, PASSWORD)).status_code == 200
            assert (await world.client.post("/reset/forgot-password", json={"email": EMAIL})).status_code == 202
            body = {"token": world.outbox.token(EMAIL), "password": "a new password"}
            assert (await world.client.post("/reset/reset-password", json=body)).status_code == 200
        assert statuses(answers) == [400] * 12
        assert throttle.is_enabled
        assert statuses([await log_in(world.client) for _ in range(6)]) == [400] * 5 + [429]
