import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import anyio
import jwt
import pytest
from fastapi import FastAPI
from fastapi.security import OAuth2PasswordRequestForm
from httpx import AsyncClient, Response
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import select, update

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.login import (
    LoginAttempt,
    LoginInterrupted,
    LoginTicket,
    check_credentials,
    complete_login,
    document_challenges,
    read_ticket,
    resume_login,
)
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.exceptions import BadCredentials, InvalidLoginTicket, UserNotVerified
from fastapi_users.testing import frozen_clock
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests.toy import ToyManager, ToyPIN, get_toy_router
from tests.world import PASSWORD, SECRET, AccessToken, User, UserManager, World

EMAIL = "ann@example.org"
CREDENTIALS = {"username": EMAIL, "password": PASSWORD}
PIN = "1234"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An application with a second factor, and Ann who has it."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=ToyManager) as world:
        for backend in (world.bearer, world.cookie):
            world.app.include_router(get_toy_router(world.fastapi_users, backend), prefix=f"/auth/{backend.name}")
        await enrol(world, await world.insert_user(is_verified=True))
        yield world


async def enrol(world: World, user: User) -> None:
    async with world.session_maker() as session:
        session.add(ToyPIN(user_id=user.id, pin=PIN))
        await session.commit()


async def change(world: World, **fields: Any) -> None:
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.user_db.update(await manager.get_by_email(EMAIL), fields)


async def log_in(client: AsyncClient, backend: str) -> Response:
    return await client.post(f"/auth/{backend}/login", data=CREDENTIALS)


async def challenged(client: AsyncClient, backend: str = "jwt") -> str:
    ticket: str = (await log_in(client, backend)).json()["challenge"]["id"]
    return ticket


async def finish(client: AsyncClient, ticket: str, pin: str = PIN, backend: str = "jwt") -> Response:
    return await client.post(f"/auth/{backend}/toy", json={"ticket": ticket, "pin": pin})


def assert_refused(answer: Response, code: str) -> None:
    assert (answer.status_code, answer.json()) == (400, {"detail": code})
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
async def test_an_interrupted_login_answers_a_challenge_and_no_session(world: World, backend: str) -> None:
    answer = await log_in(world.client, backend)

    assert answer.status_code == 202
    assert answer.headers["cache-control"] == "no-store"
    challenge = answer.json()["challenge"]
    assert list(answer.json()) == ["challenge"]
    assert (challenge["methods"], challenge["expires_in"]) == (["pin"], 300)
    assert "fastapiusersauth" not in world.client.cookies
    assert world.hooks == []
    assert (await world.client.get("/users/me")).status_code == 401


async def test_the_right_factor_completes_a_bearer_login(world: World) -> None:
    answer = await finish(world.client, await challenged(world.client))

    claims = jwt.decode(answer.json()["access_token"], SECRET, audience="fastapi-users:auth", algorithms=["HS256"])
    assert claims["amr"] == ["pwd", "pin"]
    assert claims["auth_time"] == claims["exp"] - 3600
    assert world.hooks == [("logged in", EMAIL)]


async def test_the_right_factor_completes_a_cookie_login(world: World) -> None:
    ticket = await challenged(world.client, "cookie")

    assert (await finish(world.client, ticket, backend="cookie")).status_code == 204
    assert (await world.client.get("/users/me")).json()["email"] == EMAIL


async def test_a_ticket_is_used_once(world: World) -> None:
    ticket = await challenged(world.client)
    assert (await finish(world.client, ticket)).status_code == 200

    assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_of_parallel_uses_of_a_ticket_one_wins(world: World) -> None:
    ticket = await challenged(world.client)
    answers: list[int] = []

    async def use() -> None:
        answers.append((await finish(world.client, ticket)).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(use)

    assert sorted(answers) == [200, 400, 400, 400, 400]
    assert world.hooks == [("logged in", EMAIL)]


async def test_a_ticket_expires(world: World) -> None:
    with frozen_clock() as clock:
        ticket = await challenged(world.client)
        clock.advance(seconds=301)

        assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_the_ticket_of_a_cookie_login_counts_in_the_browser_in_which_it_began(world: World) -> None:
    ticket = await challenged(world.client, "cookie")
    cookie = world.client.cookies["fastapiusersauth_challenge"]

    async with world.new_client() as thief:
        assert_refused(await finish(thief, ticket, backend="cookie"), "TOY_BAD_TICKET")
        thief.cookies.set("fastapiusersauth_challenge", "x" * len(cookie))
        assert_refused(await finish(thief, ticket, backend="cookie"), "TOY_BAD_TICKET")
    assert (await finish(world.client, ticket, backend="cookie")).status_code == 204


async def test_the_cookie_of_a_ticket_is_out_of_reach_for_scripts_and_like_that_of_the_session(world: World) -> None:
    answer = await log_in(world.client, "cookie")

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("fastapiusersauth_challenge=")
    assert cookie.endswith("; HttpOnly; Max-Age=300; Path=/; SameSite=lax; Secure")


async def test_two_tabs_of_a_browser_can_both_log_in(world: World) -> None:
    first, second = await challenged(world.client, "cookie"), await challenged(world.client, "cookie")

    assert (await finish(world.client, first, backend="cookie")).status_code == 204
    assert (await finish(world.client, second, backend="cookie")).status_code == 204


async def test_a_made_up_challenge_cookie_is_replaced(world: World) -> None:
    world.client.cookies.set("fastapiusersauth_challenge", "known to the attacker")

    answer = await log_in(world.client, "cookie")

    assert "known" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(("begun", "finished"), [("cookie", "jwt"), ("jwt", "cookie")])
async def test_a_ticket_counts_for_the_backend_it_was_made_by(world: World, begun: str, finished: str) -> None:
    """Otherwise the ticket of a cookie, which is bound to a browser, could be taken to the other backend."""
    ticket = await challenged(world.client, begun)

    assert_refused(await finish(world.client, ticket, backend=finished), "TOY_BAD_TICKET")


async def test_wrong_factors_are_counted_per_ticket(world: World) -> None:
    ticket = await challenged(world.client)
    for _ in range(5):
        assert_refused(await finish(world.client, ticket, "0000"), "TOY_BAD_PIN")

    assert_refused(await finish(world.client, ticket), "TOY_TOO_MANY_TRIES")


async def test_a_new_ticket_gives_no_new_tries_to_its_user(world: World) -> None:
    with frozen_clock() as clock:
        for _ in range(2):
            ticket = await challenged(world.client)
            for _ in range(5):
                assert_refused(await finish(world.client, ticket, "0000"), "TOY_BAD_PIN")

        assert_refused(await finish(world.client, await challenged(world.client)), "TOY_TOO_MANY_TRIES")
        clock.advance(seconds=3601)
        assert (await finish(world.client, await challenged(world.client))).status_code == 200


@pytest.mark.parametrize("fields", [{"is_active": False}, {"hashed_password": "another"}, {"email": "new@example.org"}])
async def test_what_happens_to_the_user_meanwhile_counts(world: World, fields: dict[str, Any]) -> None:
    ticket = await challenged(world.client)
    await change(world, **fields)

    answer = await finish(world.client, ticket)

    assert answer.status_code == (200 if "email" in fields else 400)


async def test_a_user_that_is_gone_has_no_login_to_finish(world: World) -> None:
    ticket = await challenged(world.client)
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.user_db.delete(await manager.get_by_email(EMAIL))

    assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_a_new_password_through_the_manager_ends_open_tickets(world: World) -> None:
    ticket = await challenged(world.client)
    await world.client.post("/auth/forgot-password", json={"email": EMAIL})
    body = {"token": world.outbox.token(to=EMAIL), "password": PASSWORD}
    assert (await world.client.post("/auth/reset-password", json=body)).status_code == 200

    assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_a_ticket_keeps_what_its_route_requires(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=ToyManager, requires_verification=True) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.bearer), prefix="/auth/jwt")
        await enrol(world, await world.insert_user(is_verified=True))
        ticket = await challenged(world.client)
        await change(world, is_verified=False)

        assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_tokens_of_other_kinds_are_no_tickets(world: World) -> None:
    await world.client.post("/auth/forgot-password", json={"email": EMAIL})
    reset_token = world.outbox.token(to=EMAIL)
    access_token = await JWTStrategy[Any, Any](SECRET, 60).write_token(User(id=uuid.uuid4()))
    other_key = jwt.encode({"aud": "fastapi-users:login-ticket", "backend": "jwt"}, "x" * 32)

    for token in (reset_token, access_token, other_key, "", "x.y.z"):
        assert_refused(await finish(world.client, token), "TOY_BAD_TICKET")


async def test_a_ticket_can_be_read_by_its_holder_and_changed_by_nobody(world: World) -> None:
    ticket = await challenged(world.client)
    header, _, signature = ticket.split(".")
    claims = jwt.decode(ticket, options={"verify_signature": False})
    assert PASSWORD not in json.dumps(claims)
    assert claims["amr"] == ["pwd"]
    forged = jwt.encode({**claims, "amr": ["pwd", "pin"]}, SECRET).split(".")[1]

    assert_refused(await finish(world.client, f"{header}.{forged}.{signature}"), "TOY_BAD_TICKET")


@given(ticket=st.text(st.characters(codec=None)))
@example(ticket="\ud800")
def test_whatever_is_sent_as_a_ticket_is_a_refusal(ticket: str) -> None:
    class Secrets:
        def _login_ticket_secret(self) -> str:
            return SECRET

    async def read() -> None:
        nothing: Any = None
        manager: Any = Secrets()
        with pytest.raises(InvalidLoginTicket):
            await read_ticket(nothing, ticket, user_manager=manager, request=nothing)

    anyio.run(read)


async def test_a_ticket_that_another_request_has_used_since_it_was_read_ends_in_no_session(world: World) -> None:
    user = await world.insert_user("bob@example.org")
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        ticket = LoginTicket[User, uuid.UUID](
            user=user,
            proven_methods=("pwd",),
            auth_time=datetime.now(timezone.utc),
            required_methods=("pin",),
            requires_verification=False,
            replaces=None,
            secret="used",
        )
        assert "used" not in repr(ticket)
        strategy = JWTStrategy[User, uuid.UUID](SECRET, 60)
        request: Any = None
        with pytest.raises(InvalidLoginTicket):
            await resume_login(
                world.bearer, strategy, ticket=ticket, method="pin", user_manager=manager, request=request
            )


@pytest.mark.parametrize(
    ("fields", "refusal"), [({"is_active": False}, BadCredentials), ({"is_verified": False}, UserNotVerified)]
)
async def test_the_door_itself_refuses_whom_a_route_forgot_to_refuse(
    world: World, fields: dict[str, Any], refusal: type[Exception]
) -> None:
    user = await world.insert_user("bob@example.org", **fields)
    async with world.session_maker() as session:
        with pytest.raises(refusal):
            await complete_login(
                world.bearer,
                JWTStrategy[User, uuid.UUID](SECRET, 60),
                user=user,
                user_manager=world.make_manager(session),
                methods=["pwd"],
                request=None,
                requires_verification=True,
            )


async def test_a_login_without_a_request_can_be_interrupted_as_well(world: World) -> None:
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        answer = await complete_login(
            world.cookie,
            JWTStrategy[User, uuid.UUID](SECRET, 60),
            user=await manager.get_by_email(EMAIL),
            user_manager=manager,
            methods=["pwd"],
            request=None,
        )

    assert answer.status_code == 202


class TwoFactors(ToyManager):
    """After the PIN comes another factor, which nobody has."""

    async def _seam_before_session(self, attempt: LoginAttempt[User, uuid.UUID]) -> None:
        await super()._seam_before_session(attempt)
        raise LoginInterrupted(["second"])


async def test_the_first_of_two_factors_gives_no_new_tries_for_the_second(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}", manager_class=TwoFactors) as world:
        world.app.include_router(get_toy_router(world.fastapi_users, world.bearer), prefix="/auth/jwt")
        await enrol(world, await world.insert_user())
        codes = []
        for _ in range(3):
            after_the_first = await finish(world.client, await challenged(world.client))
            if after_the_first.status_code == 202:
                second = after_the_first.json()["challenge"]["id"]
                codes += [(await finish(world.client, second, "0000")).json()["detail"] for _ in range(4)]
            else:
                codes.append(after_the_first.json()["detail"])

        assert codes == ["TOY_BAD_PIN"] * 8 + ["TOY_TOO_MANY_TRIES"]


async def test_a_step_that_checks_nothing_counts_nothing(world: World) -> None:
    ticket = await challenged(world.client)
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        request: Any = None
        for _ in range(9):
            opened = await read_ticket(world.bearer, ticket, user_manager=manager, request=request, count_try=False)
            assert opened.user.email == EMAIL

    assert (await finish(world.client, ticket)).status_code == 200


async def test_a_login_that_upgrades_the_hash_can_be_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user in the hands of the login may be the one from before."""
    authenticate = ToyManager.authenticate

    async def authenticate_with_a_stale_user(self: ToyManager, credentials: Any) -> User | None:
        user = await authenticate(self, credentials)
        assert user is not None
        return User(id=user.id, email=user.email, hashed_password="from before", is_active=True, is_verified=True)

    monkeypatch.setattr(ToyManager, "authenticate", authenticate_with_a_stale_user)

    assert (await finish(world.client, await challenged(world.client))).status_code == 200


async def test_a_manager_that_is_all_mocks_has_its_hook_called(world: World) -> None:
    user = await world.insert_user("bob@example.org")
    manager = AsyncMock()
    manager.authenticate.return_value = user

    found: User = await check_credentials(
        manager, OAuth2PasswordRequestForm(username="bob", password="x"), request=None
    )
    response = await complete_login(
        world.bearer,
        JWTStrategy[User, uuid.UUID](SECRET, 60),
        user=found,
        user_manager=manager,
        methods=["pwd"],
        request=None,
    )

    assert response.status_code == 200
    manager.on_after_login.assert_awaited_once_with(user, None, response)


async def rows_of(world: World) -> int:
    async with world.session_maker() as session:
        return len((await session.scalars(select(AccessToken))).all())


@pytest.mark.parametrize("brings_the_old_cookie", [True, False])
async def test_an_interrupted_reauthentication_replaces_the_session_in_the_end(
    world: World, brings_the_old_cookie: bool
) -> None:
    ticket = await challenged(world.client, "cookie")
    async with world.session_maker() as session:
        database = SQLAlchemyAccessTokenDatabase(session, AccessToken)
        user = await world.make_manager(session).get_by_email(EMAIL)
        old = await DatabaseStrategy[User, uuid.UUID, AccessToken](database, 3600).write_token(user)
    world.client.cookies.set("fastapiusersauth", old, domain="app.test")
    interrupted = await world.client.post("/auth/cookie/reauthenticate", json={"password": PASSWORD})
    assert await rows_of(world) == 1
    ticket = interrupted.json()["challenge"]["id"]
    assert old not in ticket
    if not brings_the_old_cookie:
        world.client.cookies.delete("fastapiusersauth")

    assert (await finish(world.client, ticket, backend="cookie")).status_code == 204
    assert await rows_of(world) == (1 if brings_the_old_cookie else 2)
    # Without the old session it is a login like others.
    assert world.hooks == ([] if brings_the_old_cookie else [("logged in", EMAIL)])


async def test_interrupting_without_a_table_of_one_time_secrets_says_what_to_set(world: World) -> None:
    class Careless(UserManager):
        async def _seam_before_session(self, attempt: Any) -> None:
            await super()._seam_before_session(attempt)
            raise LoginInterrupted(["pin"])

    user = await world.insert_user("bob@example.org")
    async with world.session_maker() as session:
        user_db = world.make_manager(session).user_db
        with pytest.raises(NotImplementedError, match="one_time_secret_model"):
            await complete_login(
                world.bearer,
                JWTStrategy[User, uuid.UUID](SECRET, 60),
                user=user,
                user_manager=Careless(user_db, world),
                methods=["pwd"],
                request=None,
            )


def login_codes(app: FastAPI) -> dict[str, list[str]]:
    paths = app.openapi()["paths"]
    return {
        path: sorted(operation["responses"])
        for path in ("/auth/jwt/login", "/auth/cookie/login", "/oauth/callback", "/auth/jwt/reauthenticate")
        for operation in paths[path].values()
    }


async def test_the_challenge_is_documented_where_a_login_can_be_interrupted(world: World) -> None:
    assert login_codes(world.app) == {
        "/auth/jwt/login": ["200", "202", "400", "422"],
        "/auth/cookie/login": ["200", "202", "204", "400", "422"],
        "/oauth/callback": ["200", "202", "204", "400", "422"],
        "/auth/jwt/reauthenticate": ["200", "202", "400", "401", "422", "503"],
    }
    responses = world.app.openapi()["paths"]["/auth/jwt/login"]["post"]["responses"]
    schema = responses["202"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]["challenge"]["properties"]) == ["id", "methods", "expires_in"]


async def test_a_backend_of_the_application_that_never_called_ours_goes_on_to_work(tmp_path: Path) -> None:
    class Own:
        """Two attributes and two methods are all that a backend needs."""

        def __init__(self, world: World) -> None:
            self.name = "own"
            self.transport, self.get_strategy = world.bearer.transport, world.bearer.get_strategy
            self.login, self.logout = world.bearer.login, world.bearer.logout

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}") as plain:
        own: Any = Own(plain)
        plain.app.include_router(plain.fastapi_users.get_auth_router(own), prefix="/auth/own")
        await plain.insert_user()
        document_challenges([own])

        assert (await log_in(plain.client, "own")).status_code == 200
        assert "202" not in plain.app.openapi()["paths"]["/auth/own/login"]["post"]["responses"]


async def test_the_document_of_an_application_without_a_second_factor_stays_as_it_was(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}") as plain:
        assert [code for codes in login_codes(plain.app).values() for code in codes if code == "202"] == []


async def test_a_login_that_waits_goes_on_after_the_secret_was_rotated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requirement 59: signature, digest and fingerprint of the ticket are those of the older secret."""
    ticket = await challenged(world.client)
    newer = "a newer secret of the tests, longer than 32 bytes"
    monkeypatch.setattr(ToyManager, "login_ticket_secret", [newer, SECRET])

    assert (await finish(world.client, ticket)).status_code == 200

    ticket = await challenged(world.client)
    monkeypatch.setattr(ToyManager, "login_ticket_secret", SECRET)
    assert_refused(await finish(world.client, ticket), "TOY_BAD_TICKET")


async def test_a_session_that_an_override_has_closed_is_not_used_again(tmp_path: Path) -> None:
    """Nobody would give its connection back: applications with many tenants look up each user in a session of its own."""

    class OfManyTenants(UserManager):
        async def authenticate(self, credentials: OAuth2PasswordRequestForm) -> User | None:
            async with self.world.session_maker() as session:
                self.user_db = SQLAlchemyUserDatabase(session, User)
                return await super().authenticate(credentials)

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=OfManyTenants) as world:
        await world.insert_user()

        assert (await world.client.post("/auth/cookie/login", data=CREDENTIALS)).status_code == 204

        assert cast("Any", world.engine.pool).checkedout() == 0


async def test_a_password_that_changes_while_its_user_is_read_elsewhere_logs_nobody_in(tmp_path: Path) -> None:
    class WithSessionsOfItsOwn(UserManager):
        async def authenticate(self, credentials: OAuth2PasswordRequestForm) -> User | None:
            async with self.world.session_maker() as session:
                user = await SQLAlchemyUserDatabase[User, uuid.UUID](session, User).get_by_email(credentials.username)
            async with self.world.session_maker() as session:
                await session.execute(update(User).values(hashed_password="another one"))
                await session.commit()
            return user

    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=WithSessionsOfItsOwn) as world:
        await world.insert_user()

        answer = await world.client.post("/auth/cookie/login", data=CREDENTIALS)

        assert_refused(answer, "LOGIN_BAD_CREDENTIALS")


async def test_a_manager_that_is_wrapped_keeps_its_features(world: World) -> None:
    class Traced:
        def __init__(self, manager: Any) -> None:
            self._manager = manager

        def __getattr__(self, name: str) -> Any:
            return getattr(self._manager, name)

    async def get_traced() -> AsyncIterator[Any]:
        async with world.session_maker() as session:
            yield Traced(world.make_manager(session))

    world.app.dependency_overrides[world.fastapi_users.get_user_manager] = get_traced

    assert (await log_in(world.client, "jwt")).status_code == 202
