"""How sessions go on and end, on every store."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import Request
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import text

from fastapi_users import BaseUserManager, UUIDIDMixin, schemas
from fastapi_users.authentication.login import LoginAttempt
from fastapi_users.db.sqlalchemy import SQLAlchemyStore
from fastapi_users.features.sessions import (
    InvalidRefreshToken,
    RefreshTokenReused,
    RefreshTokenStrategy,
    Session,
    SessionEnded,
    SessionNotExists,
    SessionsMixin,
)
from fastapi_users.password import PasswordHelper
from fastapi_users.router import get_reset_password_router
from fastapi_users.testing import InMemoryStore, InMemoryUserDatabase, User, frozen_clock
from tests.features.sessions.application import COOKIE, EMAIL, Application, Client, application_on
from tests.world import PASSWORD, SECRET

DAY = 24 * 3600
BAD = (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
REUSED = (400, {"detail": "SESSIONS_REFRESH_TOKEN_REUSED"})


def refusal(answer: Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


async def test_each_refresh_gives_new_tokens_in_place_of_the_old_ones(application: Application) -> None:
    client = await application.log_in()
    first, header = client.refresh_token, client.http.headers["authorization"]

    answer = await client.refresh()

    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 900)
    assert client.refresh_token != first
    assert client.http.headers["authorization"] != header
    assert await client.me() == 200
    assert (await client.refresh()).status_code == 200
    assert len(await client.sessions()) == 1


async def test_a_browser_keeps_itself_logged_in_by_a_cookie_that_goes_to_the_refresh_route_only(
    application: Application,
) -> None:
    with frozen_clock() as clock:
        client = await application.log_in("cookie")
        first = client.refresh_token
        clock.advance(seconds=901)
        assert await client.me() == 401

        answer = await client.refresh()

        assert (answer.status_code, answer.content) == (204, b"")
        assert client.refresh_token not in ("", first)
        assert await client.me() == 200


async def test_whoever_comes_again_for_a_lost_answer_gets_the_same_one(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        parent = client.refresh_token
        child = (await client.refresh()).json()["refresh_token"]
        clock.advance(seconds=9)

        answer = await client.present(parent)

        assert answer.json()["refresh_token"] == child
        assert (await client.refresh()).status_code == 200
        assert application.thefts == []


async def test_a_token_that_was_replaced_long_ago_is_theft_and_ends_the_session(application: Application) -> None:
    with frozen_clock() as clock:
        client, other = await application.log_in(), await application.log_in()
        stolen = client.refresh_token
        await client.refresh()
        clock.advance(seconds=10)

        assert refusal(await client.present(stolen)) == REUSED

        assert await client.me() == 401
        assert refusal(await client.refresh()) == BAD
        assert refusal(await client.present(stolen)) == BAD  # there is nothing left to end
        assert await other.me() == 200
    assert application.thefts == [EMAIL]
    assert application.event_names.count("refresh_token_theft") == 1


async def test_three_tabs_whose_refreshes_follow_each_other_stay_logged_in(application: Application) -> None:
    """The third was under way with the first token while the others had refreshed one after the other."""
    with frozen_clock() as clock:
        client = await application.log_in()
        for _ in range(2):  # beginning with the token of the login, and later
            parent = client.refresh_token
            child = (await client.refresh()).json()["refresh_token"]
            clock.advance(seconds=3)
            assert (await client.refresh()).json()["refresh_token"] == child != parent
            clock.advance(seconds=6.9)

            assert (await client.present(parent)).json()["refresh_token"] == child
            clock.advance(seconds=600)
        assert application.thefts == []
        assert await generation(application) == 2

        assert (await client.refresh()).is_success
        assert refusal(await client.present(parent)) == REUSED  # the grandparent of what counts now
        assert application.thefts == [EMAIL]


async def test_a_token_is_replaced_at_the_next_use_after_the_grace(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        await client.refresh()
        young = client.refresh_token
        clock.advance(seconds=9.9)
        assert (await client.refresh()).json()["refresh_token"] == young
        (before,) = await client.sessions()
        clock.advance(seconds=0.1)

        assert (await client.refresh()).json()["refresh_token"] != young

        (after,) = await client.sessions()
        assert after["expires_at"] > before["expires_at"]
        assert await generation(application) == 2


@pytest.mark.parametrize("is_thief_first", [True, False])
async def test_a_copy_of_a_young_token_betrays_itself_after_the_grace(
    application: Application, is_thief_first: bool
) -> None:
    """The thief who comes within the grace gets no token that the owner has not."""
    with frozen_clock() as clock:
        client = await application.log_in()
        await client.refresh()
        stolen = client.refresh_token
        clock.advance(seconds=5)
        assert (await client.present(stolen)).json()["refresh_token"] == stolen
        clock.advance(seconds=600)

        first, second = (stolen, None) if is_thief_first else (None, stolen)
        assert (await client.present(first or client.refresh_token)).is_success
        clock.advance(seconds=10)

        assert refusal(await client.present(second or client.refresh_token)) == REUSED
        assert await client.me() == 401
        assert application.thefts == [EMAIL]


async def test_without_a_grace_each_repetition_is_theft(tmp_path: Path) -> None:
    async with application_on("memory", tmp_path, settings={"sessions_grace_seconds": 0}) as application:
        await application.register()
        client = await application.log_in()
        parent = client.refresh_token
        await client.refresh()

        assert refusal(await client.present(parent)) == REUSED


@pytest.mark.parametrize("backend", ["bearer", "cookie"])
async def test_of_twenty_parallel_refreshes_one_rotates_and_nobody_is_logged_out(
    application: Application, backend: str
) -> None:
    with frozen_clock() as clock:
        client = await application.log_in(backend)
        for rotations in (1, 2):  # of the token of a login, and of a later one
            parent = client.refresh_token
            answers = await present_at_once(client, [parent] * 20)

            assert {answer.status_code for answer in answers} == {204 if backend == "cookie" else 200}
            assert {parent} != {token_of(answer) for answer in answers} == {token_of(answers[0])}
            assert await generation(application) == rotations
            client.refresh_token = token_of(answers[0])
            clock.advance(seconds=10)
        assert (await client.present(client.refresh_token)).is_success
        assert application.thefts == []


@pytest.mark.parametrize("backend", ["bearer", "cookie"])
async def test_twenty_refreshes_of_mixed_generations_within_the_grace_get_one_token(
    application: Application, backend: str
) -> None:
    with frozen_clock() as clock:
        client = await application.log_in(backend)
        for rotations in (1, 2):
            parent = client.refresh_token
            child = token_of(await client.present(parent))
            clock.advance(seconds=9.9)

            answers = await present_at_once(client, [parent, child] * 10)

            assert {token_of(answer) for answer in answers} == {child}
            assert await generation(application) == rotations
            client.refresh_token = child
            clock.advance(seconds=0.1)
        answers = await present_at_once(client, [child] * 20)
        assert len({token_of(answer) for answer in answers} - {child}) == 1
        assert application.thefts == []


async def test_tabs_that_refresh_again_and_again_beside_each_other_rotate_once(application: Application) -> None:
    with frozen_clock():
        client = await application.log_in()
        parent, given = client.refresh_token, set[str]()

        async def refresh_thrice() -> None:
            token = parent
            for _ in range(3):
                token = token_of(await client.present(token))
                given.add(token)

        async with anyio.create_task_group() as tasks:
            for _ in range(7):
                tasks.start_soon(refresh_thrice)

        assert len(given) == 1
        assert await generation(application) == 1
        assert application.thefts == []


async def present_at_once(client: Client, tokens: list[str]) -> list[Response]:
    answers = list[Response]()

    async def present(token: str) -> None:
        answers.append(await client.present(token))

    async with anyio.create_task_group() as tasks:
        for token in tokens:
            tasks.start_soon(present, token)
    return answers


def token_of(answer: Response) -> str:
    assert answer.is_success, answer.text
    return str(answer.cookies[COOKIE] if answer.status_code == 204 else answer.json()["refresh_token"])


async def generation(application: Application) -> int:
    async with application.manager() as manager:
        (session,) = await manager.list_sessions(await manager.get_by_email(EMAIL))
        return int(session.generation)


tabs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), st.booleans()), max_size=12)


@given(tabs)
def test_whatever_tabs_do_only_a_token_that_was_replaced_before_the_grace_is_theft(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Each step: seconds that pass, the tab that refreshes, and whether the answer reaches it."""

    async def walk() -> None:
        user_db = InMemoryUserDatabase[User, uuid.UUID](User)
        settings = {"reset_password_token_secret": SECRET, "sessions_model": Session}
        manager: Any = type("Manager", (SessionsMixin, UUIDIDMixin, BaseUserManager), settings)(user_db)
        started = await manager.start_session(await user_db.create({"email": EMAIL, "hashed_password": "h"}))
        current, replaced_at, held = started.refresh_token, dict[str, datetime](), [started.refresh_token] * 3
        for seconds, tab, arrives in steps:
            clock.advance(seconds=seconds)
            presented = held[tab]
            if clock.now - replaced_at.get(presented, clock.now) >= timedelta(seconds=10):
                with pytest.raises(RefreshTokenReused):
                    await manager.refresh_session(presented)
                with pytest.raises(InvalidRefreshToken):
                    await manager.refresh_session(current)
                return
            given = (await manager.refresh_session(presented)).refresh_token
            if given != current:
                assert presented == current
                assert all(clock.now - moment >= timedelta(seconds=10) for moment in replaced_at.values())
                replaced_at[current] = clock.now
                current = given
            if arrives:
                held[tab] = given

    with frozen_clock() as clock:
        anyio.run(walk)


async def test_of_twenty_thieves_at_once_the_theft_is_told_once(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        stolen, codes = client.refresh_token, list[str]()
        await client.refresh()
        clock.advance(seconds=3600)

        async def refresh() -> None:
            codes.append((await client.present(stolen)).json()["detail"])

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(refresh)

    assert {"SESSIONS_REFRESH_TOKEN_REUSED"} <= {*codes} <= {REUSED[1]["detail"], BAD[1]["detail"]}
    assert application.event_names.count("refresh_token_theft") == len(application.thefts) == 1


async def test_a_session_that_nobody_refreshes_ends(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        clock.advance(seconds=29 * DAY)
        assert (await client.refresh()).status_code == 200
        clock.advance(seconds=29 * DAY)
        assert (await client.refresh()).status_code == 200
        clock.advance(seconds=30 * DAY)

        assert refusal(await client.refresh()) == BAD
        assert application.thefts == []


async def test_a_session_ends_however_often_it_is_refreshed(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        for _ in range(4):
            clock.advance(seconds=22 * DAY)
            assert (await client.refresh()).status_code == 200
        clock.advance(seconds=2 * DAY - 100)
        answer = await client.refresh()
        assert 99 <= answer.json()["expires_in"] <= 100  # no token outlives its session; MongoDB keeps milliseconds
        clock.advance(seconds=100)

        assert await client.me() == 401
        assert refusal(await client.refresh()) == BAD


async def test_who_does_not_want_to_be_remembered_is_forgotten_within_a_day(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in("cookie", remember_me="false")
        for _ in range(2):
            clock.advance(seconds=DAY // 2 - 10)
            assert (await client.refresh()).status_code == 204
        clock.advance(seconds=20)

        assert refusal(await client.refresh()) == BAD


async def test_what_has_ended_is_cleaned_up(application: Application) -> None:
    with frozen_clock() as clock:
        await application.log_in(remember_me="false")
        client = await application.log_in()
        clock.advance(seconds=DAY)

        async with application.manager() as manager:
            # Redis forgets it by itself, by a clock of its own, which stands here.
            assert await manager.cleanup_sessions() == 1
            assert await manager.cleanup_sessions() == 0
        assert (await client.refresh()).status_code == 200


async def test_the_oldest_session_ends_where_there_are_too_many(application: Application) -> None:
    application.manager_class.sessions_limit = 2
    with frozen_clock(datetime(2030, 1, 1, tzinfo=timezone.utc)) as clock:
        clients = []
        for _ in range(5):
            clients.append(await application.log_in())
            clock.advance(seconds=0.01)  # several in a second: also where a database has whole ones by default

        assert [await client.me() for client in clients] == [401, 401, 401, 200, 200]
        assert application.ends == [("limit",)] * 3


async def test_a_user_sees_devices_and_addresses_and_ends_one_session(application: Application) -> None:
    with frozen_clock() as clock:
        old = await application.log_in()
        clock.advance(seconds=5)
        client = await application.log_in("cookie", agent="curl/8.5.0")

        own, other = await client.sessions()
        assert (own["device"], other["device"]) == ("curl/8.5.0", "Firefox on Windows")
        assert (own["is_current"], other["is_current"]) == (True, False)
        assert own["address"] == "127.0.0.1"
        assert set(own) == {
            "id",
            "device",
            "address",
            "created_at",
            "last_seen_at",
            "expires_at",
            "is_current",
        }

        answer = await client.http.delete(f"/cookie/sessions/{other['id']}")

        assert answer.status_code == 204
        assert [session["id"] for session in await client.sessions()] == [own["id"]]
        assert (await old.me(), refusal(await old.refresh())) == (401, BAD)
        assert await client.me() == 200
        assert (await client.http.delete(f"/cookie/sessions/{other['id']}")).status_code == 404


async def test_when_a_session_was_last_seen_is_written_once_a_minute(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        (first,) = await client.sessions()
        clock.advance(seconds=59)
        assert [session["last_seen_at"] for session in await client.sessions()] == [first["last_seen_at"]]
        clock.advance(seconds=2)
        await client.me()
        (seen,) = await client.sessions()

        assert seen["last_seen_at"] > first["last_seen_at"]
        assert seen["created_at"] == first["created_at"]


async def test_who_reads_does_not_fail_because_another_one_has_just_noted_the_same(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose note is a lost race depends on the isolation of the database: PostgreSQL's REPEATABLE READ, for one."""
    client = await application.log_in()
    tries: list[Any] = []

    async def lose(where: Any, _values: Any) -> int:
        tries.append(where)
        raise OSError("could not serialize access")

    class Losing:
        def __init__(self, rows: Any) -> None:
            self.rows = rows

        def __getattr__(self, name: str) -> Any:
            return lose if name == "update_where" else getattr(self.rows, name)

    rows_of = SessionsMixin._session_rows
    monkeypatch.setattr(SessionsMixin, "_session_rows", lambda manager: Losing(rows_of(manager)))
    monkeypatch.setattr(application.manager_class, "sessions_last_seen_seconds", 0)

    assert await client.me() == 200
    assert len(tries) == 1
    assert len(await client.sessions()) == 1


async def test_readers_at_once_all_read_in_whatever_isolation(tmp_path: Path) -> None:
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
    settings = {"sessions_last_seen_seconds": 0}
    async with application_on("postgresql, asyncpg", tmp_path, settings=settings) as application:
        await application.register()
        application.engine.sync_engine.update_execution_options(**options)
        client = await application.log_in()
        statuses: list[int] = []

        async def read() -> None:
            statuses.append(await client.me())

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(read)

    assert statuses == [200] * 20


async def test_everywhere_else_means_the_other_backends_too(application: Application) -> None:
    own, bearer, cookie = [await application.log_in(name) for name in ("bearer", "bearer", "cookie")]

    assert (await own.http.delete("/bearer/sessions")).status_code == 204

    assert [await client.me() for client in (own, bearer, cookie)] == [200, 401, 401]
    assert (await own.refresh()).status_code == 200

    assert (await own.http.delete("/bearer/sessions", params={"includes_current": True})).status_code == 204
    assert (await own.me(), refusal(await own.refresh())) == (401, BAD)
    assert application.ends == [("user", True), ("user", False)]


async def test_a_superuser_sees_and_ends_the_sessions_of_a_user(application: Application) -> None:
    user = await application.register("bob@example.org")
    await application.register("root@example.org", is_superuser=True)
    root = await application.log_in(email="root@example.org")
    bobs = [await application.log_in(email="bob@example.org") for _ in range(3)]
    path = f"/users/{user.id}/sessions"

    listed = (await root.http.get(path)).json()
    assert [session["is_current"] for session in listed] == [False] * 3
    assert (await root.http.delete(f"{path}/{await bobs[0].own_id()}")).status_code == 204
    assert [await bob.me() for bob in bobs] == [401, 200, 200]
    assert (await root.http.delete(path)).status_code == 204
    assert [await bob.me() for bob in bobs] == [401, 401, 401]
    assert (await root.http.get(path)).json() == []
    assert await root.me() == 200
    assert (await root.http.delete(f"{path}/{uuid.uuid4()}")).status_code == 404
    assert application.ends == [("superuser",), ("superuser", False)]


async def test_who_logs_out_has_no_session_any_more(application: Application) -> None:
    for backend in ("bearer", "cookie"):
        client = await application.log_in(backend)
        token, access = client.refresh_token, dict(client.http.cookies)

        assert (await client.http.post(f"/{backend}/logout")).status_code == 204

        client.http.cookies.update(access)
        assert await client.me() == 401
        assert refusal(await client.present(token)) == BAD
    assert application.event_names.count("logged_out") == 2


async def test_a_session_ends_with_its_refresh_token_alone(application: Application) -> None:
    """When the access token has expired, the other way to log out is closed."""
    with frozen_clock() as clock:
        for backend in ("bearer", "cookie"):
            client = await application.log_in(backend)
            first, own_id = client.refresh_token, await client.own_id()
            await client.refresh()
            clock.advance(seconds=901)
            assert (await client.http.post(f"/{backend}/logout")).status_code == 401

            application.events.clear()
            assert (await client.present(first, "refresh/revoke")).status_code == 204
            (ended,) = application.events
            assert isinstance(ended, SessionEnded)
            assert (str(ended.session_id), ended.by) == (own_id, "logout")

            assert refusal(await client.refresh()) == BAD
            application.events.clear()
            for token in ("nonsense", first):
                assert (await client.present(token, "refresh/revoke")).status_code == 204
            assert application.events == []


@pytest.mark.parametrize(
    "change", [{"password": "another horse, another battery"}, {"email": "new@example.org"}], ids=["password", "email"]
)
async def test_a_change_of_credentials_ends_the_other_sessions(
    application: Application, change: dict[str, str]
) -> None:
    own, other = await application.log_in("cookie"), await application.log_in("bearer")

    assert (await own.http.patch("/users/me", json=change)).status_code == 200

    assert (await own.me(), await other.me()) == (200, 401)
    assert (await own.refresh()).status_code == 204
    assert refusal(await other.refresh()) == BAD


async def test_a_reset_ends_every_session(application: Application) -> None:
    client = await application.log_in()
    await client.http.post("/forgot-password", json={"email": EMAIL})
    body = {"token": application.outbox.token(to=EMAIL), "password": "another horse, another battery"}

    assert (await client.stranger().post("/reset-password", json=body)).status_code == 200

    assert (await client.me(), refusal(await client.refresh())) == (401, BAD)


async def test_a_reset_by_a_router_that_knows_no_backends_ends_every_session_too(app: Application) -> None:
    """As applications of version 15 make it, whose shape it keeps: no device that is out stays in the list."""
    app.app.include_router(get_reset_password_router(app.fastapi_users.get_user_manager), prefix="/by-hand")
    client, other = await app.log_in(), await app.log_in("cookie")
    await client.http.post("/by-hand/forgot-password", json={"email": EMAIL})
    body = {"token": app.outbox.token(to=EMAIL), "password": "another horse, another battery"}

    assert (await client.stranger().post("/by-hand/reset-password", json=body)).status_code == 200

    assert (await other.me(), refusal(await client.refresh())) == (401, BAD)
    await client.log_in(password=body["password"])
    assert [session["is_current"] for session in await client.sessions()] == [True]


@pytest.mark.parametrize("change", [{"password": "another one"}, {"email": "new@example.org"}, {"is_active": False}])
async def test_a_script_that_changes_credentials_ends_the_sessions(
    application: Application, change: dict[str, Any]
) -> None:
    client = await application.log_in()

    async with application.manager() as manager:
        await manager.update(schemas.BaseUserUpdate(**change), await manager.get_by_email(EMAIL))
        user = await manager.get_by_email(change.get("email", EMAIL))
        await manager.update(schemas.BaseUserUpdate(is_active=True), user)

    assert (await client.me(), refusal(await client.refresh())) == (401, BAD)


async def test_a_password_changed_past_the_sessions_ends_them_at_the_next_refresh(application: Application) -> None:
    """By an application beside this one whose manager knows nothing of them, or where ending them has failed."""
    client, other = await application.log_in(), await application.log_in("cookie")
    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        hashed_password = manager.password_helper.hash("another horse, another battery")
        await manager.user_db.update(user, {"hashed_password": hashed_password})

    for each in (client, other):
        assert (await each.me(), refusal(await each.refresh())) == (401, BAD)
    async with application.manager() as manager:
        assert await manager.list_sessions(await manager.get_by_email(EMAIL)) == []
    assert application.thefts == []


async def test_sessions_end_though_another_backend_fails_to_end_its_own(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, thief = await app.log_in(), await app.log_in()

    async def fail(*_: Any, **__: Any) -> int:
        raise ConnectionError

    monkeypatch.setattr(RefreshTokenStrategy, "destroy_all_tokens", fail)
    with pytest.raises(ConnectionError):
        await own.http.patch("/users/me", json={"password": "another horse, another battery"})

    assert (await thief.me(), refusal(await thief.refresh())) == (401, BAD)


async def test_a_login_that_comes_between_the_end_of_the_sessions_and_the_new_password_is_refused_later(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, seam = list[Client](), SessionsMixin._seam_credentials_changed

    async def log_in_first(manager: Any, user: Any, changed: set[str], request: Any) -> None:
        await seam(manager, user, changed, request)
        hashed_password, user.hashed_password = user.hashed_password, old_hash
        late.append(await app.log_in())  # with a database, from where the change is not committed yet
        user.hashed_password = hashed_password

    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        old_hash = user.hashed_password
        monkeypatch.setattr(SessionsMixin, "_seam_credentials_changed", log_in_first)
        await manager.update(schemas.BaseUserUpdate(password="another one"), user)

    assert refusal(await late[0].refresh()) == BAD


async def test_a_better_hash_ends_sessions_on_other_devices_as_it_ends_jwts(application: Application) -> None:
    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        old = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1),)))
        await manager.user_db.update(user, {"hashed_password": old.hash(PASSWORD)})
        started = await manager.start_session(user)

    own = await application.log_in()

    assert (await own.refresh()).status_code == 200
    async with application.manager() as manager:
        with pytest.raises(InvalidRefreshToken):
            await manager.refresh_session(started.refresh_token)


async def test_the_key_that_binds_a_session_to_its_credentials_is_replaced_with_the_others(app: Application) -> None:
    app.manager_class.sessions_secret = SECRET
    client = await app.log_in()
    app.manager_class.sessions_secret = ["a new secret of more than 32 bytes, yes", SECRET]
    assert (await client.refresh()).status_code == 200
    app.manager_class.sessions_secret = app.manager_class.sessions_secret[:1]

    assert (await client.refresh()).status_code == 200


async def test_nothing_else_that_changes_ends_a_session(application: Application) -> None:
    client = await application.log_in()

    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        await manager.update(schemas.BaseUserUpdate(is_verified=True), user)
        await manager._seam_credentials_changed(user, {"otp"}, None)  # a factor

    assert (await client.me(), (await client.refresh()).status_code) == (200, 200)


async def test_sessions_stay_where_the_application_wants_them_to(tmp_path: Path) -> None:
    settings = {"sessions_end_with_credentials": False}
    async with application_on("memory", tmp_path, settings=settings) as application:
        await application.register()
        client = await application.log_in()
        async with application.manager() as manager:
            user = await manager.get_by_email(EMAIL)
            await manager.update(schemas.BaseUserUpdate(password="another one"), user)

        assert (await client.me(), (await client.refresh()).status_code) == (200, 200)


async def test_a_deactivated_user_cannot_refresh_and_the_session_is_gone(application: Application) -> None:
    await application.register("root@example.org", is_superuser=True)
    root, client = await application.log_in(email="root@example.org"), await application.log_in()
    user_id = (await client.http.get("/users/me")).json()["id"]

    for is_active in (False, True):
        answer = await root.http.patch(f"/users/{user_id}", json={"is_active": is_active})
        assert answer.status_code == 200
        assert (await client.me(), refusal(await client.refresh())) == (401, BAD)


async def test_a_user_who_was_deactivated_behind_our_back_cannot_refresh(application: Application) -> None:
    client = await application.log_in()
    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        await manager.user_db.update(user, {"is_active": False})

    assert refusal(await client.refresh()) == BAD


async def test_the_sessions_go_with_the_user(application: Application) -> None:
    client = await application.log_in()
    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        await manager.delete(user)
        assert await manager._session_rows().list({}) == []

    assert (await client.me(), refusal(await client.refresh())) == (401, BAD)


async def test_a_session_whose_user_is_gone_opens_nothing(app: Application) -> None:
    client = await app.log_in()
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        await manager.user_db.delete(user)

    assert (await client.me(), refusal(await client.refresh())) == (401, BAD)


async def test_a_session_of_another_user_cannot_be_ended(application: Application) -> None:
    await application.register("bob@example.org")
    ann, bob = await application.log_in(), await application.log_in(email="bob@example.org")

    assert (await bob.http.delete(f"/bearer/sessions/{await ann.own_id()}")).status_code == 404

    assert await ann.me() == 200
    assert len(await bob.sessions()) == 1


async def test_times_and_methods_of_the_login_survive_rotation(application: Application) -> None:
    with frozen_clock() as clock:
        client = await application.log_in()
        clock.advance(seconds=600)
        await client.refresh()
        async with application.manager() as manager:
            (session,) = await manager.list_sessions(await manager.get_by_email(EMAIL))

        assert session.amr == "pwd"
        assert (clock.now - session.auth_time).total_seconds() == pytest.approx(600, abs=0.001)


async def test_a_session_without_a_request_is_one_of_a_script(application: Application) -> None:
    async with application.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        started = await manager.start_session(user)
        refreshed = await manager.refresh_session(started.refresh_token)
        (session,) = await manager.list_sessions(user)

        assert refreshed.user.email == EMAIL
        assert (session.address, session.agent, session.auth_time, session.amr) == (None, None, None, "")
        assert await manager.end_all_sessions(user, except_ids=[session.id]) == 0
        assert await manager.end_all_sessions(user) == 1
        with pytest.raises(SessionNotExists):
            await manager.end_session(user, session.id)


async def test_where_sessions_come_from_need_not_be_kept(tmp_path: Path) -> None:
    async with application_on("memory", tmp_path, settings={"sessions_keep_origin": False}) as application:
        await application.register()
        client = await application.log_in()
        (session,) = await client.sessions()

        assert (session["device"], session["address"]) == (None, None)


async def test_a_session_ended_between_two_looks_is_no_theft(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await app.log_in()

    async def end_first(manager: Any, *_: Any) -> bool:
        await manager._session_rows().delete_where({})
        return False

    monkeypatch.setattr(SessionsMixin, "_rotate", end_first)

    assert refusal(await client.refresh()) == BAD
    assert app.thefts == []


async def test_two_who_find_the_same_theft_tell_of_it_once(app: Application) -> None:
    client = await app.log_in()
    session_id = uuid.UUID(await client.own_id())
    async with app.manager() as manager:
        user = await manager.get_by_email(EMAIL)
        for _ in range(2):
            await manager._end_stolen_session(user, session_id, None)

    assert (app.thefts, app.event_names.count("refresh_token_theft")) == ([EMAIL], 1)


async def test_the_key_of_refresh_tokens_is_replaced_without_a_break(app: Application) -> None:
    with frozen_clock() as clock:
        client = await app.log_in()
        parent = client.refresh_token
        app.manager_class.sessions_secret = SECRET
        assert refusal(await client.present(parent)) == BAD  # the derived key is none of the list

        client = await app.log_in()
        app.manager_class.sessions_secret = ["a new secret of more than 32 bytes, yes", SECRET]
        parent = client.refresh_token
        child = (await client.refresh()).json()["refresh_token"]
        app.manager_class.sessions_secret = [
            "the newest secret of more than 32 bytes",
            *app.manager_class.sessions_secret,
        ]
        repeated = (await client.present(parent)).json()["refresh_token"]  # the same, in another seal
        app.manager_class.sessions_secret = app.manager_class.sessions_secret[:2]
        clock.advance(seconds=60)
        for token in (child, repeated):
            assert (await client.present(token)).status_code == 200


async def test_a_child_whose_key_is_forgotten_cannot_be_given_again(app: Application) -> None:
    old, taken_back = SECRET * 2, SECRET * 3
    app.manager_class.sessions_secret = old
    app.manager_class.sessions_end_with_credentials = False  # or else it ends by that, since no key knows them
    with frozen_clock():
        client = await app.log_in()
        parent = client.refresh_token
        app.manager_class.sessions_secret = [taken_back, old]
        child = (await client.refresh()).json()["refresh_token"]
        app.manager_class.sessions_secret = ["a new secret of more than 32 bytes, yes", taken_back, old]
        assert client.refresh_token == child
        assert (await client.present(parent)).status_code == 200
        app.manager_class.sessions_secret = old

        assert refusal(await client.present(parent)) == BAD
        assert app.thefts == []


async def test_a_rotation_that_the_database_takes_for_too_early_leaves_the_token_as_it_is(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may keep its times less exactly than we do."""
    client, update = await app.log_in(), InMemoryStore.update_where
    token = client.refresh_token

    async def refuse_to_rotate(store: Any, where: Any, values: Any) -> int:
        return 0 if "digest" in values else await update(store, where, values)

    monkeypatch.setattr(InMemoryStore, "update_where", refuse_to_rotate)

    assert (await client.refresh()).json()["refresh_token"] == token
    assert (await client.me(), app.thefts) == (200, [])


def test_a_manager_without_a_table_is_one_readable_error() -> None:
    with pytest.raises(TypeError, match="Manager uses SessionsMixin: set sessions_model in it"):
        type("Manager", (SessionsMixin, UUIDIDMixin, BaseUserManager), {"sessions_model": None})


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Application]:
    async with application_on("memory", tmp_path, settings={"sessions_limit": 1}) as application:
        await application.register()
        yield application


async def test_of_parallel_logins_no_more_stay_than_the_limit_allows(limited: Application) -> None:
    clients: list[Client] = []

    async def log_in() -> None:
        clients.append(await limited.log_in())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(log_in)

    assert sorted([await client.me() for client in clients]) == [200] + [401] * 4


async def test_two_logins_at_once_that_see_each_other_do_not_end_each_other(
    limited: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[uuid.UUID] = []

    async def see_and_wait(_manager: Any, session_id: uuid.UUID) -> bool:
        chosen.append(session_id)
        return False

    monkeypatch.setattr(SessionsMixin, "_end_at_once", see_and_wait)
    with frozen_clock():  # at the same moment, so that the ids decide
        for _ in range(2):
            await limited.log_in()
        async with limited.manager() as manager:
            await manager._end_sessions_beyond_limit((await manager.get_by_email(EMAIL)).id)

    assert len(chosen) == 2
    assert chosen[0] == chosen[1]


async def test_a_session_that_another_login_ended_first_is_told_of_once(
    limited: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limited.log_in()

    async def too_late(*_: Any) -> int:
        return 0

    monkeypatch.setattr(InMemoryStore, "update_where", too_late)
    await limited.log_in()

    assert limited.ends == []


async def test_what_a_login_tells_of_itself_is_not_taken_for_another_user(app: Application) -> None:
    ann_client = await app.log_in()
    bob = await app.register("bob@example.org")
    async with app.manager() as manager:
        request = Request({"type": "http", "headers": [(b"user-agent", b"curl/8")], "client": ("192.0.2.1", 1)})
        attempt = LoginAttempt[Any, Any](
            user=await manager.get_by_email(EMAIL),
            methods=("pwd",),
            auth_time=datetime.now(timezone.utc),
            backend=app.bearer,
            request=request,
        )
        await manager._seam_before_session(attempt)
        started = await manager.start_session(bob)

    assert (started.session.address, started.session.agent) == (None, None)
    assert len(await ann_client.sessions()) == 1


@pytest.mark.parametrize(("failures", "is_done"), [(1, True), (4, True), (5, False)])
@pytest.mark.parametrize("change", ["update_where", "delete_where"])
async def test_a_deadlock_among_many_is_tried_again(
    app: Application, monkeypatch: pytest.MonkeyPatch, change: str, failures: int, is_done: bool
) -> None:
    client, make, left = await app.log_in(), getattr(InMemoryStore, change), [OSError("deadlock")] * failures

    async def fail_first(store: Any, *args: Any) -> int:
        if left:
            raise left.pop()
        return int(await make(store, *args))

    monkeypatch.setattr(InMemoryStore, change, fail_first)
    monkeypatch.setattr(InMemoryUserDatabase, "is_worth_another_try", lambda _, error: str(error) == "deadlock")
    path, status_code = ("refresh", 200) if change == "update_where" else ("refresh/revoke", 204)

    if is_done:
        assert (await client.present(client.refresh_token, path)).status_code == status_code
    else:
        with pytest.raises(OSError, match="deadlock"):
            await client.present(client.refresh_token, path)


async def test_an_error_that_is_no_deadlock_is_told_at_once(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    client, tries = await app.log_in(), list[Any]()

    async def fail(_store: Any, where: Any, *_: Any) -> int:
        tries.append(where)
        raise OSError("no connection")

    monkeypatch.setattr(InMemoryStore, "update_where", fail)
    with pytest.raises(OSError, match="no connection"):
        await client.refresh()

    assert len(tries) == 1


async def test_a_deadlock_in_a_transaction_of_the_application_is_its_own_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rolled back, with what the application has written before."""
    tries: list[Any] = []

    async def fail(_store: Any, where: Any) -> int:
        tries.append(where)
        raise OSError("deadlock")

    async with application_on("sqlite", tmp_path) as application:
        user = await application.register()
        async with application.manager() as manager:
            monkeypatch.setattr(SQLAlchemyStore, "delete_where", fail)
            async with manager.user_db.session.begin():
                await manager.user_db.session.execute(text("UPDATE user SET is_verified = 1"))
                with pytest.raises(OSError, match="deadlock"):
                    await manager.end_all_sessions(user)

    assert len(tries) == 1


async def test_many_who_end_the_same_sessions_in_every_way_do_not_fail_each_other(application: Application) -> None:
    clients = [await application.log_in() for _ in range(6)]
    ids, answers = [await client.own_id() for client in clients], dict[str, set[int]]()
    own = clients[0]

    async def ask(name: str, method: str, path: str, **options: Any) -> None:
        answer = await own.http.request(method, path, **options)
        answers.setdefault(name, set()).add(answer.status_code)

    async def clean_up() -> None:
        async with application.manager() as manager:
            await manager.cleanup_sessions()

    async with anyio.create_task_group() as tasks:
        for client, session_id in zip(clients[1:], ids[1:], strict=True):
            body = {"refresh_token": client.refresh_token}
            tasks.start_soon(ask, "end", "DELETE", f"/bearer/sessions/{session_id}")
            tasks.start_soon(partial(ask, "revoke", "POST", "/bearer/refresh/revoke", json=body))
            tasks.start_soon(partial(ask, "refresh", "POST", "/bearer/refresh", json=body))
        for _ in range(3):
            tasks.start_soon(ask, "end all", "DELETE", "/bearer/sessions")
            tasks.start_soon(clean_up)

    assert answers.pop("end") <= {204, 404}
    assert answers.pop("refresh") <= {200, 400}
    assert answers == {"revoke": {204}, "end all": {204}}
    assert [session["id"] for session in await own.sessions()] == ids[:1]
    assert application.thefts == []


async def test_a_transaction_of_the_application_is_not_committed_to_note_when_a_session_was_seen(
    tmp_path: Path,
) -> None:
    async with application_on("sqlite", tmp_path, settings={"sessions_last_seen_seconds": 0}) as application:
        user = await application.register()
        async with application.manager() as manager:
            started = await manager.start_session(user)
        async with application.manager() as manager:
            session = manager.user_db.session
            async with session.begin():
                assert await manager.find_session(started.session.id) is not None
                await session.execute(text("SELECT 1"))
                assert session.in_transaction()
            row, _ = await manager.find_session(started.session.id)
            assert row.last_seen_at == started.session.last_seen_at
            row, _ = await manager.find_session(started.session.id)
            assert row.last_seen_at > started.session.last_seen_at
