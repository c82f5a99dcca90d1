"""Nobody learns from an answer, from its time or from an error who has an account.

Time is measured as work: what is asked of the database, hashed and called before the last byte of the answer is sent.
"""

import asyncio
import json
import logging
import uuid
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from fastapi import Depends, FastAPI, Request
from passlib.context import CryptContext
from passlib.hash import bcrypt
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from starlette.middleware.base import BaseHTTPMiddleware

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, events, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.login import CredentialCheck, report_failure
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import InMemoryUserDatabase, weak_password_helper
from fastapi_users.testing import User as UserInMemory
from tests.world import (
    PASSWORD,
    RECOMMENDED,
    SECRET,
    RecommendedOAuthAccount,
    RecommendedUser,
    User,
    UserCreate,
    UserManager,
    UserRead,
    World,
)

ANSWERED = "answered"
FORM = "application/x-www-form-urlencoded"
KINDS = ["unknown", "known", "verified", "inactive", "legacy", "unreadable", "oauth"]
ROUTES = ["/auth/forgot-password", "/auth/request-verify-token"]

Messages = list[dict[str, Any]]


async def call(
    app: Any, path: str, body: bytes, kind: str, log: list[str], *, sent: Messages | None = None
) -> Messages:
    """What the application sends, as it sends it; the log notes when the last byte is out."""
    messages: Messages = [] if sent is None else sent
    arrived = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(arrived)

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            log.append(ANSWERED)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"app.test"), (b"content-type", kind.encode())],
        "client": ("192.0.2.1", 1234),
        "server": ("app.test", 443),
    }
    await app(scope, receive, send)
    return messages


async def post(app: Any, path: str, body: dict[str, Any], log: list[str]) -> Messages:
    return await call(app, path, json.dumps(body).encode(), "application/json", log)


async def log_in(app: Any, email: str, log: list[str], path: str = "/auth/jwt/login") -> Messages:
    body = urlencode({"username": email, "password": "wrong" if email != "inactive@example.org" else PASSWORD})
    return await call(app, path, body.encode(), FORM, log)


def before(log: list[str]) -> list[str]:
    return log[: log.index(ANSWERED)]


def after(log: list[str]) -> list[str]:
    return log[log.index(ANSWERED) + 1 :]


class NotingHelper(PasswordHelper):
    """Cheap hashes, noted down."""

    def __init__(self, log: list[str]) -> None:
        settings: dict[str, Any] = {
            "argon2__memory_cost": 8,
            "argon2__time_cost": 1,
            "argon2__parallelism": 1,
            "bcrypt__rounds": 4,
        }
        super().__init__(CryptContext(["argon2", "bcrypt"], deprecated=["bcrypt"], **settings))
        self.log = log

    def hash(self, password: str) -> str:
        self.log.append("hash")
        return super().hash(password)

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        self.log.append("hash")
        return super().verify_and_update(plain_password, hashed_password)


class WatchedManager(UserManager):
    """Does something in every hook, and for the mails of the library there is a mailer."""

    world: "WatchedWorld"

    def __init__(self, user_db: Any, world: "WatchedWorld") -> None:
        super().__init__(user_db, world)
        self.password_helper = NotingHelper(world.log)
        self.mailer = world.outbox
        self.subscribers = world.subscribers

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        await self.react("register", user)

    async def on_after_duplicate_registration(self, user: User, request: Request | None = None) -> None:
        await super().on_after_duplicate_registration(user, request)
        await self.react("duplicate", user)

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        await BaseUserManager.on_after_forgot_password(self, user, token, request)
        await self.react("forgot", user, token)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        await BaseUserManager.on_after_request_verify(self, user, token, request)
        await self.react("verify", user, token)

    async def react(self, hook: str, user: User, token: str = "") -> None:
        self.world.log.append(f"{hook} {user.email}")
        if self.world.failure is not None:
            raise self.world.failure(f"{user.email} {token}")

    async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
        assert request is not None
        self.world.errors.append(error)


class HookedManager(WatchedManager):
    async def on_after_failed_login(self, email: str, user: User | None, request: Request | None = None) -> None:
        assert request is not None
        if user is not None:  # somebody to write to: what an application does that must not tell
            await self.user_db.get(user.id)
        self.world.log.append(f"failed login of {email}: {None if user is None else user.email}")


class WatchedWorld(World):
    """``log`` holds the queries, hashes and hooks, in their order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.log: list[str] = []
        self.errors: list[Exception] = []
        self.failure: type[Exception] | None = None
        self.subscribers: events.Subscribers | None = None
        event.listen(self.engine.sync_engine, "before_cursor_execute", self.note_query)
        neutral = self.fastapi_users.get_register_router(UserRead, UserCreate, neutral=True)
        self.app.include_router(neutral, prefix="/neutral")

    def note_query(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.log.append("query")

    async def insert_all_kinds(self) -> None:
        hashes = {
            "legacy": bcrypt.using(rounds=4).hash(PASSWORD),
            "unreadable": "!",
            "oauth": weak_password_helper().hash("nobody knows it"),
        }
        for kind in KINDS[1:]:
            user = await self.insert_user(
                f"{kind}@example.org", is_active=kind != "inactive", is_verified=kind == "verified"
            )
            async with self.session_maker() as session:
                session.add(user)
                user.hashed_password = hashes.get(kind, user.hashed_password)
                if kind == "oauth":
                    account = {"access_token": "x", "account_id": "1", "account_email": user.email}
                    session.add(RecommendedOAuthAccount(user_id=user.id, oauth_name="provider", **account))
                await session.commit()
        self.log.clear()

    async def watch(self, path: str, kind: str) -> Messages:
        self.log.clear()
        if path.endswith("/login"):
            return await log_in(self.app, f"{kind}@example.org", self.log, path)
        body = {"email": f"{kind}@example.org", "password": PASSWORD}
        return await post(self.app, path, body, self.log)


@pytest.fixture
async def manager_class() -> type[Any]:
    return WatchedManager


@pytest.fixture
async def world(tmp_path: Path, manager_class: type[Any]) -> AsyncIterator[WatchedWorld]:
    url, options = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", {"manager_class": manager_class, **RECOMMENDED}
    async with WatchedWorld.on(url, **options) as world:
        assert isinstance(world, WatchedWorld)
        await world.insert_all_kinds()
        yield world


hooked = pytest.mark.parametrize("manager_class", [HookedManager])


@pytest.mark.parametrize(
    ("path", "hook", "told"),
    [
        ("/auth/forgot-password", "forgot", {"known", "verified", "legacy", "unreadable", "oauth"}),
        ("/auth/request-verify-token", "verify", {"known", "legacy", "unreadable", "oauth"}),
    ],
)
async def test_whoever_asks_for_a_token_gets_the_same_answer_after_the_same_work(
    world: WatchedWorld, path: str, hook: str, told: set[str]
) -> None:
    """D21, requirements 20 and 21, weakness 7 (timing.forgot_known_vs_unknown, request_verify_known_vs_unknown),
    CONTRACT 16 row 19."""
    answers = []
    for kind in KINDS:
        answers.append(await world.watch(path, kind))
        assert before(world.log) == []
        assert after(world.log)[0] == "query"
        assert (f"{hook} {kind}@example.org" in world.log) == (kind in told)

    assert answers == [answers[0]] * len(KINDS)
    assert (answers[0][0]["status"], answers[0][1]["body"]) == (202, b"null")
    assert {message.to.partition("@")[0] for message in world.outbox.messages} == told
    assert world.errors == []


@pytest.mark.parametrize("path", ROUTES)
async def test_a_hook_that_fails_is_heard_of_by_the_application_alone(
    world: WatchedWorld, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """D21, weakness 7 (timing.mail_outage_oracle). The text of the error holds address and token, and is not logged."""
    world.failure = ConnectionError
    nobody, ann = await world.watch(path, "unknown"), await world.watch(path, "known")

    assert ann == nobody
    (error,) = world.errors
    assert str(error).startswith("known@example.org eyJ")
    (message,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    name = "forgot_password" if "forgot" in path else "request_verify"
    assert message.startswith(f"{name} failed after the answer (ConnectionError)\n")
    assert "known@example.org" not in message
    assert "eyJ" not in message


@pytest.mark.parametrize("path", [*ROUTES, "/neutral/register"])
async def test_a_database_that_fails_is_no_answer(
    world: WatchedWorld, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Weakness 7: an error that comes for some addresses only tells them apart."""
    usual = await world.watch(path, "unknown")
    async with world.engine.begin() as connection:
        await connection.run_sync(RecommendedUser.metadata.drop_all)

    assert await world.watch(path, "known") == usual
    (error,) = world.errors
    assert isinstance(error, OperationalError)
    assert "known@example.org" in str(error)
    assert "OperationalError" in caplog.text
    assert "known@example.org" not in "".join(caplog.messages)


async def test_the_session_is_usable_after_a_hook_that_broke_it(world: WatchedWorld) -> None:
    """Otherwise a dependency that commits at its end would log the statement, with what is in it."""

    async def break_session(self: Any, user: User, token: str, request: Request | None = None) -> None:
        self.user_db.session.add(RecommendedUser(email=user.email, hashed_password=""))
        await self.user_db.session.flush()

    ends: list[bool] = []

    class BreakingManager(WatchedManager):
        on_after_forgot_password = break_session

        async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
            await super().on_background_error(error, request)
            ends.append(self.user_db.session.is_active)  # type: ignore[attr-defined]  # SQLAlchemy's

    get_user_manager = world.fastapi_users.get_user_manager

    def get_breaking_manager(manager: Any = Depends(get_user_manager)) -> Any:
        return BreakingManager(manager.user_db, world)

    users = FastAPIUsers[User, uuid.UUID](get_breaking_manager, [world.bearer])
    world.app.include_router(users.get_reset_password_router(), prefix="/breaking")
    await world.watch("/breaking/forgot-password", "known")

    assert (len(world.errors), ends) == (1, [True])


async def test_a_failed_login_answers_the_same_after_the_same_queries(world: WatchedWorld) -> None:
    """Requirement 19: unknown, wrong, legacy, unreadable, and the right password of an inactive user."""
    answers, queries = [], []
    for kind in KINDS:
        answers.append(await world.watch("/auth/jwt/login", kind))
        queries.append(before(world.log).count("query"))
        assert after(world.log) == []

    assert answers == [answers[0]] * len(KINDS)
    assert answers[0][0]["status"] == 400
    assert json.loads(answers[0][1]["body"]) == {"detail": "LOGIN_BAD_CREDENTIALS"}
    assert queries == [1] * len(KINDS)  # no look-up that nobody asked for


@hooked
async def test_the_hook_of_failed_logins_learns_after_the_answer_whose_login_it_was(world: WatchedWorld) -> None:
    """Requirements 17 and 19 (brute.failed_login_hook): whatever the hook does for those who exist tells nothing."""
    answers = []
    for kind in KINDS:
        answers.append(await world.watch("/auth/jwt/login", kind))
        assert before(world.log).count("query") == 1
        email = f"{kind}@example.org"
        assert after(world.log)[-1] == f"failed login of {email}: {None if kind == 'unknown' else email}"

    assert answers == [answers[0]] * len(KINDS)
    assert json.loads(answers[0][1]["body"]) == {"detail": "LOGIN_BAD_CREDENTIALS"}


async def test_events_of_failed_logins_name_the_user_for_the_price_of_a_query_for_everybody(
    world: WatchedWorld,
) -> None:
    """Requirements 17 and 19: who subscribed is told in the request, after equal work for all."""
    told: list[events.Event] = []
    world.subscribers = events.Subscribers()

    @world.subscribers.in_transaction(events.LoginFailed)
    async def note(failed: events.LoginFailed, user_manager: Any) -> None:
        told.append(failed)

    answers, queries = [], []
    for kind in KINDS:
        answers.append(await world.watch("/auth/jwt/login", kind))
        queries.append(before(world.log).count("query"))

    assert answers == [answers[0]] * len(KINDS)
    assert queries == [2] * len(KINDS)
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        ids = [None, *[(await manager.get_by_email(f"{kind}@example.org")).id for kind in KINDS[1:]]]
    assert [failed.user_id for failed in told] == ids


@hooked
async def test_a_wrong_password_in_the_midst_of_a_session_is_a_failed_login_too(world: WatchedWorld) -> None:
    headers = await world.log_in("known@example.org")
    answer = await world.client.post("/auth/jwt/reauthenticate", json={"password": "wrong"}, headers=headers)

    assert (answer.status_code, answer.json()) == (400, {"detail": "REAUTHENTICATE_BAD_CREDENTIALS"})
    assert world.log[-1] == "failed login of known@example.org: known@example.org"


@hooked
async def test_what_is_claimed_to_be_an_address_reaches_the_hook_shortened(world: WatchedWorld) -> None:
    await log_in(world.app, "x" * 100_000, world.log)

    assert world.log[-1] == f"failed login of {'x' * 320}: None"


@hooked
async def test_a_user_who_is_gone_by_then_is_nobody(world: WatchedWorld) -> None:
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        user = await manager.get_by_email("known@example.org")
        await manager.delete(user)
        request = Request({"type": "http", "headers": []})
        check = CredentialCheck(method="pwd", identifier=user.email, request=request)
        await report_failure(manager, check, user=user)  # where nobody collects, at once

    assert world.log[-1] == "failed login of known@example.org: None"


@hooked
async def test_a_wrong_second_factor_is_no_failed_password(world: WatchedWorld) -> None:
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        check = CredentialCheck(method="otp", identifier=None, request=None)
        await report_failure(manager, check, user=await manager.get_by_email("known@example.org"))

    assert not [entry for entry in world.log if entry.startswith("failed login")]


@pytest.mark.parametrize("kind", ["unknown", *KINDS])
async def test_a_neutral_registration_answers_the_same_after_the_same_work(world: WatchedWorld, kind: str) -> None:
    """Requirement 22 (timing.register_answer, register_time), #1161."""
    nobody = await world.watch("/neutral/register", "nobody")
    assert (nobody[0]["status"], nobody[1]["body"], before(world.log)) == (202, b"null", [])
    assert world.log[-1] == "register nobody@example.org"

    assert await world.watch("/neutral/register", kind) == nobody

    assert before(world.log) == []
    is_new = kind == "unknown"
    assert world.log[-1] == f"{'register' if is_new else 'duplicate'} {kind}@example.org"
    mails = [(mail.name, mail.to) for mail in world.outbox.messages]
    assert mails == ([] if is_new else [("already_registered", f"{kind}@example.org")])
    assert world.errors == []


async def test_a_neutral_registration_makes_a_user_who_can_log_in(world: WatchedWorld) -> None:
    await post(
        world.app, "/neutral/register", {"email": "new@example.org", "password": PASSWORD, "is_superuser": True}, []
    )

    me = (await world.client.get("/users/me", headers=await world.log_in("new@example.org"))).json()
    assert (me["email"], me["is_superuser"], me["is_verified"]) == ("new@example.org", False, False)


@pytest.mark.parametrize("email", ["unknown@example.org", "known@example.org"])
@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "Too short"),
        ("", "The password must not be empty."),
        ("x" * 4097, "The password must not be longer than 4096 bytes."),
    ],
)
async def test_a_neutral_registration_refuses_a_bad_password_with_its_reason(
    world: WatchedWorld, email: str, password: str, reason: str
) -> None:
    world.log.clear()
    answer = await world.client.post("/neutral/register", json={"email": email, "password": password})

    assert answer.status_code == 400
    assert answer.json() == {"detail": {"code": "REGISTER_INVALID_PASSWORD", "reason": reason}}
    assert world.log == []


async def test_of_parallel_neutral_registrations_of_an_address_one_makes_the_user(world: WatchedWorld) -> None:
    """D1 in its neutral form: one user, and no error that anybody sees."""
    world.log.clear()
    answers: list[Messages] = []

    async def register() -> None:
        body = {"email": "new@example.org", "password": PASSWORD}
        answers.append(await post(world.app, "/neutral/register", body, []))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(register)

    assert [messages[0]["status"] for messages in answers] == [202] * 5
    assert [world.log.count(f"{hook} new@example.org") for hook in ("register", "duplicate")] == [1, 4]
    assert world.errors == []


async def test_a_neutral_registration_survives_that_the_other_user_goes_meanwhile(
    world: WatchedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = WatchedManager.create

    async def create_late(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return await create(self, *args, **options)
        finally:
            await self.delete(await self.get_by_email("known@example.org"))

    monkeypatch.setattr(WatchedManager, "create", create_late)

    assert (await world.watch("/neutral/register", "known"))[0]["status"] == 202
    assert world.errors == []
    assert "duplicate known@example.org" not in world.log


async def test_the_document_of_a_neutral_registration_knows_one_refusal(world: WatchedWorld) -> None:
    responses = world.app.openapi()["paths"]["/neutral/register"]["post"]["responses"]

    assert set(responses) == {"202", "400", "422", "503"}
    assert list(responses["400"]["content"]["application/json"]["examples"]) == ["REGISTER_INVALID_PASSWORD"]


# What follows is about the moment, and needs no database: dependencies, hooks and mails write down their order.


class Diary:
    """An application in memory, and what happens in it, in its order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.mailer = self
        self.answered = asyncio.Event()
        self.is_slow = False
        users = InMemoryUserDatabase[UserInMemory, uuid.UUID](UserInMemory)
        ann = UserInMemory(email="ann@example.org", hashed_password=weak_password_helper().hash(PASSWORD))
        users.users[ann.id] = ann
        diary = self

        class Manager(UUIDIDMixin, BaseUserManager[UserInMemory, uuid.UUID]):
            reset_password_token_secret = verification_token_secret = SECRET
            mailer = diary

            async def on_after_forgot_password(
                self, user: UserInMemory, token: str, request: Request | None = None
            ) -> None:
                await super().on_after_forgot_password(user, token, request)
                await diary.react("hook")

            async def on_after_request_verify(
                self, user: UserInMemory, token: str, request: Request | None = None
            ) -> None:
                await diary.react("hook")

            async def on_after_register(self, user: UserInMemory, request: Request | None = None) -> None:
                await diary.react("hook")

            async def on_after_failed_login(
                self, email: str, user: UserInMemory | None, request: Request | None = None
            ) -> None:
                await diary.react("hook")

        async def get_user_manager() -> AsyncIterator[Manager]:
            self.log.append("opened")
            yield Manager(users, weak_password_helper())
            self.log.append("closed")

        backend = AuthenticationBackend[UserInMemory, uuid.UUID](
            "jwt", BearerTransport("login"), lambda: JWTStrategy(SECRET, 3600)
        )
        fastapi_users = FastAPIUsers[UserInMemory, uuid.UUID](get_user_manager, [backend])
        self.app = FastAPI()
        self.app.include_router(fastapi_users.get_auth_router(backend))
        self.app.include_router(fastapi_users.get_reset_password_router())
        self.app.include_router(fastapi_users.get_verify_router(schemas.BaseUser[uuid.UUID]))
        self.app.include_router(
            fastapi_users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate, neutral=True)
        )

    async def send(self, message: Any) -> None:
        self.log.append("mail")

    async def react(self, what: str) -> None:
        if self.is_slow:
            with anyio.fail_after(10):
                await self.answered.wait()
        self.log.append(what)

    async def ask(self, path: str, app: Any = None) -> None:
        """A client that lets slow hooks go on when it has got the whole answer."""
        diary = self

        class Sent(Messages):
            def append(self, message: dict[str, Any]) -> None:
                super().append(message)
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    diary.answered.set()

        if path == "/login":
            body, kind = urlencode({"username": "ann@example.org", "password": "wrong"}).encode(), FORM
        else:
            email = "new@example.org" if path == "/register" else "ann@example.org"
            body, kind = json.dumps({"email": email, "password": PASSWORD}).encode(), "application/json"
        await call(self.app if app is None else app, path, body, kind, self.log, sent=Sent())


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


UNSEEN = ["/forgot-password", "/request-verify-token", "/register", "/login"]


@pytest.mark.parametrize("path", UNSEEN)
async def test_the_work_is_done_between_the_answer_and_the_end_of_the_session_and_mails_leave_last(
    diary: Diary, path: str
) -> None:
    """It needs the session of the request. A mail does not, and may take long, so that it holds no connection."""
    await diary.ask(path)

    mails = ["mail"] if path == "/forgot-password" else []
    assert diary.log == ["opened", ANSWERED, "hook", "closed", *mails]


@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("path", UNSEEN)
async def test_a_slow_hook_keeps_nobody_waiting(diary: Diary, path: str, has_middleware: bool) -> None:
    """D21, weakness 7 (timing.forgot_slow_hook, request_verify_slow_hook): the hook ends when the client has all of it."""
    if has_middleware:
        diary.app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    diary.is_slow = True

    await diary.ask(path)

    assert diary.log.index(ANSWERED) < diary.log.index("hook") < diary.log.index("closed")


@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("path", UNSEEN)
async def test_a_client_that_is_gone_ends_no_work(diary: Diary, path: str, has_middleware: bool) -> None:
    """A server may raise when it cannot send (ASGI 2.4), and a middleware cancels what it called then."""
    if has_middleware:
        diary.app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)

    class Gone(Messages):
        def append(self, message: dict[str, Any]) -> None:
            raise OSError

    email = "new@example.org" if path == "/register" else "ann@example.org"
    body = json.dumps({"email": email, "password": PASSWORD})
    kind = "application/json"
    if path == "/login":
        body, kind = urlencode({"username": email, "password": "wrong"}), FORM
    with pytest.raises(OSError):
        await call(diary.app, path, body.encode(), kind, diary.log, sent=Gone())

    assert [entry for entry in diary.log if entry != "mail"][:2] == ["opened", "hook"]


@pytest.mark.parametrize("path", UNSEEN)
def test_a_test_client_waits_for_the_work(diary: Diary, path: str) -> None:
    """So that the tests of applications see what is mailed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another client
        from fastapi.testclient import TestClient
    email = "new@example.org" if path == "/register" else "ann@example.org"
    body: dict[str, Any] = {"json": {"email": email, "password": PASSWORD}}
    if path == "/login":
        body = {"data": {"username": email, "password": "wrong"}}
    with TestClient(diary.app) as client:
        client.post(path, **body)

    assert "hook" in diary.log


async def test_requests_that_share_a_manager_do_not_mix_their_work_up(world: WatchedWorld) -> None:
    """Tests of applications share one (CONTRACT 18)."""
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        world.app.dependency_overrides[world.fastapi_users.get_user_manager] = lambda: manager
        for kind in ("known", "unknown", "legacy"):
            await world.watch("/auth/forgot-password", kind)
            hooks = [entry for entry in world.log if entry.startswith("forgot")]
            assert hooks == ([] if kind == "unknown" else [f"forgot {kind}@example.org"])
