import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread
from sqlalchemy import select
from typer.testing import CliRunner

from examples.provider import PEOPLE, OIDCProvider
from fastapi_users.breached_passwords import BreachedPasswords
from fastapi_users.cli import cli
from fastapi_users.mail import ConsoleMailer, SMTPMailer
from fastapi_users.testing import Accounts, accounts_under_test, frozen_clock
from tests.programs import EXAMPLES, imported, in_folder
from tests.services import REDIS_URL, connect_redis, database

FOLDER = EXAMPLES / "full"
EMAIL, PASSWORD, NEW_PASSWORD = "ann@example.com", "correct horse battery", "another horse battery"
ANN = {"email": EMAIL, "password": PASSWORD, "nickname": "Ann"}
LOGIN = {"username": EMAIL, "password": PASSWORD}
SECRETS = ["ACCESS_TOKEN_SECRET", "MAILED_TOKEN_SECRET", "OAUTH_STATE_SECRET", "PROVIDER_TOKEN_SECRET"]
SETTINGS = ["REDIS_URL", "SMTP_HOST", "OIDC_CLIENT_ID", "REFUSE_BREACHED_PASSWORDS", "FASTAPI_USERS_APP"]


class Example:
    """``client`` is a browser; another one is made by ``browser``."""

    client: httpx.AsyncClient

    def __init__(self, main: Any, accounts: Accounts) -> None:
        self.app = main.app
        self.users = sys.modules["app.users"]
        self.db = sys.modules["app.db"]
        self.accounts = accounts

    def browser(self, address: str = "192.0.2.1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 50000))
        return httpx.AsyncClient(transport=transport, base_url="https://app.test")

    async def register(self) -> None:
        answer = await self.client.post("/auth/register", json=ANN)
        assert answer.status_code == 202, answer.text
        token = self.accounts.outbox.token(to=EMAIL)
        answer = await self.client.post("/auth/verify", json={"token": token})
        assert (answer.status_code, answer.json()["is_verified"]) == (200, True)

    async def log_in(self, client: httpx.AsyncClient, **fields: str) -> httpx.Response:
        answer = await client.post("/auth/browser/login", data={**LOGIN, **fields})
        assert answer.status_code == 204, answer.text
        return answer

    async def audit_log(self) -> list[str]:
        entry = self.db.AuditEntry
        async with self.db.new_session() as session:
            return list(await session.scalars(select(entry.name).order_by(entry.time)))


@pytest.fixture(params=["sqlite", "postgresql, asyncpg"])
async def environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """SQLite and the memory, or PostgreSQL and Redis."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name in SECRETS:
        monkeypatch.setenv(name, f"{name} of the tests, longer than 32 bytes")
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database(request.param, tmp_path))
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        if request.param != "sqlite":
            redis = await connect_redis(decode_responses=False)
            stack.push_async_callback(redis.aclose)
            await redis.flushdb()
            stack.push_async_callback(redis.flushdb)
            monkeypatch.setenv("REDIS_URL", REDIS_URL)
        yield


@pytest.fixture
async def example(environment: None) -> AsyncIterator[Example]:
    with imported("app.main", FOLDER) as main, accounts_under_test(main.app, main.fastapi_users) as accounts:
        example = Example(main, accounts)
        await example.db.create_tables()
        # A slow machine is no storage that does not answer.
        sys.modules["app.limits"].throttle.limiter.counters._timeout_seconds = 30
        async with main.app.router.lifespan_context(main.app), example.browser() as example.client:
            yield example


async def test_a_user_registers_verifies_logs_in_refreshes_and_logs_out(example: Example) -> None:
    client = example.client
    answer = await client.post("/auth/register", json={**ANN, "password": "the example the example"})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "REGISTER_INVALID_PASSWORD")
    await example.register()
    assert (await client.get("/hello")).status_code == 401

    with frozen_clock() as clock:
        answer = await example.log_in(client, remember_me="true")
        assert {line.partition("=")[0] for line in answer.headers.get_list("set-cookie")} == {
            "__Host-session",
            "__Secure-session_refresh",
            "fastapiusersdevice",
        }
        assert (await client.get("/hello")).json() == "Hello, Ann!"
        for _ in range(3):
            old = client.cookies["__Secure-session_refresh"]
            clock.advance(seconds=901)
            assert (await client.get("/hello")).status_code == 401
            assert (await client.post("/auth/browser/refresh")).status_code == 204
            assert client.cookies["__Secure-session_refresh"] != old
            assert (await client.get("/hello")).status_code == 200

        kept = client.cookies["__Secure-session_refresh"]
        assert (await client.post("/auth/browser/logout")).status_code == 204
        assert "__Secure-session_refresh" not in client.cookies
        assert (await client.get("/hello")).status_code == 401
        answer = await client.post("/auth/browser/refresh", headers={"cookie": f"__Secure-session_refresh={kept}"})
        assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_BAD_REFRESH_TOKEN"})
    assert await example.audit_log() == [
        "registered",
        "verification_requested",
        "verified",
        "logged_in",
        "session_ended",
        "logged_out",
    ]


async def test_who_is_not_remembered_has_cookies_that_end_with_the_browser(example: Example) -> None:
    await example.register()
    for wish, is_kept in (("false", False), ("true", True)):
        answer = await example.log_in(example.client, remember_me=wish)
        [cookie] = [line for line in answer.headers.get_list("set-cookie") if "session_refresh" in line]
        assert ("Max-Age" in cookie) == is_kept


async def test_a_program_has_its_tokens_in_the_answer_and_a_stolen_one_ends_the_session(example: Example) -> None:
    await example.register()
    async with example.browser() as program:
        first = (await program.post("/auth/bearer/login", data=LOGIN)).json()
        assert set(first) == {"access_token", "token_type", "expires_in", "refresh_token"}
        with frozen_clock() as clock:
            tokens = first
            for _ in range(2):
                clock.advance(seconds=60)
                body = {"refresh_token": tokens["refresh_token"]}
                tokens = (await program.post("/auth/bearer/refresh", json=body)).json()
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            assert (await program.get("/hello", headers=headers)).status_code == 200

            answer = await program.post("/auth/bearer/refresh", json={"refresh_token": first["refresh_token"]})
            assert (answer.status_code, answer.json()) == (400, {"detail": "SESSIONS_REFRESH_TOKEN_REUSED"})
            assert (await program.get("/hello", headers=headers)).status_code == 401
    assert "refresh_token_theft" in await example.audit_log()


async def test_devices_are_listed_and_ended_and_a_new_one_is_mailed(example: Example) -> None:
    await example.register()
    async with example.browser("192.0.2.2") as phone:
        await example.log_in(example.client)
        await example.log_in(phone)
        devices = (await example.client.get("/auth/browser/sessions")).json()
        assert {(each["address"], each["is_current"]) for each in devices} == {
            ("192.0.2.1", True),
            ("192.0.2.2", False),
        }
        assert len(example.accounts.outbox.messages) == 3

        [lost] = [each["id"] for each in devices if not each["is_current"]]
        assert (await example.client.delete(f"/auth/browser/sessions/{lost}")).status_code == 204
        assert (await phone.get("/hello")).status_code == 401
        assert (await example.client.get("/hello")).status_code == 200


async def test_who_guesses_is_refused_and_the_owner_gets_in_and_stays_in(example: Example) -> None:
    await example.register()
    await example.log_in(example.client)
    async with example.browser("198.51.100.7") as stranger:
        guess = {**LOGIN, "password": "a guess"}
        answers = [await stranger.post("/auth/bearer/login", data=guess) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [400] * 5 + [429]
        assert answers[-1].json() == {"detail": "THROTTLE_TOO_MANY_REQUESTS"}
        # Whichever the way in, and though the password is right by now.
        assert (await stranger.post("/auth/browser/login", data=LOGIN)).status_code == 429

    assert (await example.client.get("/hello")).status_code == 200
    assert (await example.client.post("/auth/browser/refresh")).status_code == 204
    await example.log_in(example.client)
    log = await example.audit_log()
    assert (log.count("login_failed"), log.count("throttled")) == (5, 1)


async def test_refresh_tokens_cannot_be_guessed_without_end(example: Example) -> None:
    guess = {"refresh_token": "a guess"}
    answers = [await example.client.post("/auth/bearer/refresh", json=guess) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [400] * 10 + [429]


async def test_mails_to_one_address_are_limited(example: Example) -> None:
    await example.register()
    answers = [await example.client.post("/auth/forgot-password", json={"email": EMAIL}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]


async def test_a_change_of_the_password_ends_the_other_sessions(example: Example) -> None:
    await example.register()
    async with example.browser() as other:
        await example.log_in(example.client)
        await example.log_in(other)
        changes = {"password": NEW_PASSWORD}
        assert (await example.client.patch("/users/me", json=changes)).status_code == 400
        changes["current_password"] = PASSWORD
        assert (await example.client.patch("/users/me", json=changes)).status_code == 200

        assert (await example.client.get("/hello")).status_code == 200
        assert (await example.client.post("/auth/browser/refresh")).status_code == 204
        assert (await example.client.get("/hello")).status_code == 200
        assert (await other.get("/hello")).status_code == 401
        assert (await other.post("/auth/browser/refresh")).status_code == 400


async def test_a_new_address_counts_once_it_is_confirmed(example: Example) -> None:
    await example.register()
    await example.log_in(example.client)
    changes = {"email": "new@example.com", "current_password": PASSWORD}
    assert (await example.client.patch("/users/me", json=changes)).json()["email"] == EMAIL

    token = example.accounts.outbox.token(to="new@example.com")
    answer = await example.client.post("/auth/verify", json={"token": token})
    assert (answer.status_code, answer.json()["email"]) == (200, "new@example.com")
    assert (await example.client.get("/users/me")).status_code == 401
    await example.log_in(example.client, username="new@example.com")


async def test_a_reset_ends_every_session_unlocks_and_its_token_counts_once(example: Example) -> None:
    await example.register()
    await example.log_in(example.client)
    async with example.browser("198.51.100.7") as locked_out:
        for _ in range(6):
            answer = await locked_out.post("/auth/browser/login", data={**LOGIN, "password": "forgotten"})
        assert answer.status_code == 429

        await locked_out.post("/auth/forgot-password", json={"email": EMAIL})
        body = {"token": example.accounts.outbox.token(to=EMAIL), "password": NEW_PASSWORD}
        assert (await locked_out.post("/auth/reset-password", json=body)).status_code == 200
        await example.log_in(locked_out, password=NEW_PASSWORD)
        assert (await locked_out.post("/auth/reset-password", json=body)).status_code == 400

    assert (await example.client.get("/hello")).status_code == 401
    assert (await example.client.post("/auth/browser/refresh")).status_code == 400


async def test_who_deletes_the_own_account_has_just_proven_who_it_is(example: Example) -> None:
    await example.register()
    with frozen_clock() as clock:
        await example.log_in(example.client)
        clock.advance(seconds=601)
        answer = await example.client.delete("/users/me")
        assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "REAUTHENTICATION_REQUIRED")
        answer = await example.client.post("/auth/browser/reauthenticate", json={"password": PASSWORD})
        assert answer.status_code == 204
        [device] = (await example.client.get("/auth/browser/sessions")).json()
        assert device["is_current"]
        assert (await example.client.delete("/users/me")).status_code == 204
        assert (await example.client.get("/users/me")).status_code == 401
        assert (await example.client.post("/auth/browser/login", data=LOGIN)).status_code == 400
    async with example.db.new_session() as session:
        assert list(await session.scalars(select(example.db.Session.id))) == []
        assert list(await session.scalars(select(example.db.OneTimeSecret.digest))) == []
    assert "deleted" in await example.audit_log()


async def test_a_superuser_reads_changes_logs_out_and_deletes_others(example: Example) -> None:
    await example.register()
    await example.log_in(example.client)
    async with example.browser("192.0.2.9") as root:
        await example.accounts.login_as(root, await example.accounts.create_user(is_superuser=True, is_verified=True))
        ann = (await example.client.get("/users/me")).json()["id"]
        assert (await example.client.get(f"/users/{ann}/sessions")).status_code == 403
        assert (await root.get(f"/users/{ann}")).json()["nickname"] == "Ann"
        assert (await root.patch(f"/users/{ann}", json={"nickname": "Anna"})).json()["nickname"] == "Anna"

        [session] = (await root.get(f"/users/{ann}/sessions")).json()
        assert session["address"] == "192.0.2.1"
        assert (await root.delete(f"/users/{ann}/sessions/{session['id']}")).status_code == 204
        assert (await example.client.get("/users/me")).status_code == 401

        await example.log_in(example.client)
        assert (await root.patch(f"/users/{ann}", json={"is_active": False})).status_code == 200
        assert (await example.client.post("/auth/browser/refresh")).status_code == 400
        assert (await root.delete(f"/users/{ann}")).status_code == 204
        assert (await root.get(f"/users/{ann}")).status_code == 404


async def test_a_page_of_another_site_sends_nothing_that_counts(example: Example) -> None:
    await example.register()
    await example.log_in(example.client)
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    for path in ("login", "refresh", "refresh/revoke", "logout"):
        body: Any = LOGIN if path == "login" else None
        answer = await example.client.post(f"/auth/browser/{path}", data=body, headers=foreign)
        assert answer.status_code == 403, path
    assert (await example.client.get("/hello")).status_code == 200


@pytest.mark.parametrize("backend", ["browser", "bearer"])
async def test_a_session_without_a_login_is_a_whole_one(example: Example, backend: str) -> None:
    user = await example.accounts.create_user(EMAIL, is_verified=True)
    with frozen_clock() as clock:
        client = await example.accounts.login_as(example.client, user, backend=backend)
        assert (await client.get("/hello")).json() == f"Hello, {EMAIL}!"
        [device] = (await client.get(f"/auth/{backend}/sessions")).json()
        assert device["is_current"]
        if backend == "browser":
            for _ in range(3):
                clock.advance(seconds=901)
                assert (await client.get("/hello")).status_code == 401
                assert (await client.post("/auth/browser/refresh")).status_code == 204
                assert (await client.get("/hello")).status_code == 200
        else:
            assert (await client.delete("/users/me")).status_code == 204


async def test_a_cookie_for_one_route_needs_the_application_that_has_it(example: Example) -> None:
    user = await example.accounts.create_user(EMAIL, is_verified=True)
    with accounts_under_test(None, example.users.fastapi_users) as accounts:
        with pytest.raises(LookupError, match="Name the FastAPI of the application for this"):
            await accounts.login_as(example.client, user, backend="browser")
        await accounts.login_as(example.client, user, backend="bearer")
    assert (await example.client.get("/hello")).json() == f"Hello, {EMAIL}!"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, environment: None) -> Iterator[OIDCProvider]:
    provider = OIDCProvider(
        PEOPLE,
        redirect_uris=[f"https://app.test/auth/{path}openid/callback" for path in ("", "associate/")],
        require_pkce=True,
    )
    with provider.serve() as configuration_url:
        monkeypatch.setenv("OIDC_CLIENT_ID", provider.client_id)
        monkeypatch.setenv("OIDC_CLIENT_SECRET", provider.client_secret)
        monkeypatch.setenv("OIDC_CONFIGURATION_URL", configuration_url)
        monkeypatch.setenv("BASE_URL", "https://app.test")
        yield provider


async def test_the_account_of_a_provider_is_a_way_in(provider: OIDCProvider, example: Example) -> None:
    client = example.client
    answer = await client.get("/auth/openid/authorize", params={"redirect": "http://localhost:3000/"})
    assert answer.status_code == 303, answer.text
    async with httpx.AsyncClient() as elsewhere:
        answer = await elsewhere.get(answer.headers["Location"])
    answer = await client.get(answer.headers["Location"])
    assert (answer.status_code, answer.headers["Location"]) == (303, "http://localhost:3000/"), answer.text
    me = (await client.get("/users/me")).json()
    assert me["is_verified"]
    assert (await client.post("/auth/browser/refresh")).status_code == 204
    assert [account["oauth_name"] for account in (await client.get("/account/oauth-accounts")).json()] == ["openid"]
    async with example.db.new_session() as session:
        [stored] = await session.scalars(select(example.db.OAuthAccount.access_token))
    assert stored.startswith("fernet:")


async def command(*arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch, in_folder(FOLDER):
        patch.chdir(FOLDER)
        result = await to_thread.run_sync(CliRunner().invoke, cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def program(*arguments: str) -> "subprocess.Popen[str]":
    """As somebody calls it in the folder of the example."""
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=FOLDER, stderr=subprocess.PIPE, text=True)  # noqa: S603, ASYNC220 -- ours; its output is read in a thread


@pytest.mark.parametrize("environment", ["postgresql, asyncpg"], indirect=True)
async def test_two_workers_start_once_the_tables_are_made(environment: None) -> None:
    server = ["uvicorn", "app.main:app", "--port", "0"]

    async def lines(process: "subprocess.Popen[str]", *, until: str, times: int) -> str:
        """What it writes, up to this, or to its end."""
        output = ""
        assert process.stderr is not None
        # A worker that dies is started again, without an end.
        while (
            output.count(until) < times
            and "Traceback" not in output
            and (line := await to_thread.run_sync(process.stderr.readline))
        ):
            output += line
        return output

    without_tables = await program(*server)
    _, output = await to_thread.run_sync(without_tables.communicate)
    assert without_tables.returncode != 0
    assert "ApplicationError: The database has no table 'user'." in output

    made = await program("app.db")
    assert (await to_thread.run_sync(made.communicate))[1] == ""
    assert made.returncode == 0

    two_workers = await program(*server, "--workers", "2")
    try:
        output = await lines(two_workers, until="Application startup complete.", times=2)
    finally:
        two_workers.terminate()
        await to_thread.run_sync(two_workers.communicate)
    assert output.count("Application startup complete.") == 2, output


async def test_the_doctor_has_nothing_to_say(environment: None) -> None:
    with imported("app.db", FOLDER) as db:
        await db.create_tables()
    assert await command("doctor") == "Nothing to change.\n"


async def test_what_has_ended_is_cleaned_up(environment: None) -> None:
    with imported("app.main", FOLDER) as main, accounts_under_test(main.app, main.fastapi_users) as accounts:
        await sys.modules["app.db"].create_tables()
        async with main.app.router.lifespan_context(main.app):
            with frozen_clock(datetime.now(timezone.utc) - timedelta(days=100)):
                user = await accounts.create_user(EMAIL)
                await accounts.login_as(Example(main, accounts).browser(), user)
            await accounts.login_as(Example(main, accounts).browser(), user)
    assert "sessions: 1" in await command("cleanup")
    assert "sessions: 0" in await command("cleanup")


async def test_mails_and_breached_passwords_come_with_their_settings(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with imported("app.users", FOLDER) as users:
        assert isinstance(users.UserManager.mailer, ConsoleMailer)
        assert users.UserManager.password_policy.breached is None
    monkeypatch.setenv("SMTP_HOST", "mail.example.com")
    monkeypatch.setenv("REFUSE_BREACHED_PASSWORDS", "1")
    with imported("app.users", FOLDER) as users:
        assert isinstance(users.UserManager.mailer, SMTPMailer)
        assert isinstance(users.UserManager.password_policy.breached, BreachedPasswords)


@pytest.mark.parametrize("secret", SECRETS)
def test_who_names_a_database_has_to_name_the_secrets(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "0123456789" * 4)
    monkeypatch.delenv(secret)
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://app@db/app")
    with pytest.raises(KeyError, match=secret), ExitStack() as stack:
        stack.enter_context(imported("app.settings", FOLDER))
    monkeypatch.delenv("DATABASE_URL")
    with imported("app.settings", FOLDER) as settings:
        assert len(getattr(settings, secret)) >= 32
