import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users.mail import MemoryMailer, Message
from fastapi_users.mail.delivery import send_later
from fastapi_users.testing import (
    AccessToken,
    InMemoryAccessTokenDatabase,
    InMemoryUserDatabase,
    OAuthAccount,
    Outbox,
    User,
    _ActingStrategy,
    _raises,
    accounts_under_test,
    frozen_clock,
    weak_password_helper,
)

ACCOUNT = {"oauth_name": "provider", "access_token": "t", "account_id": "1", "account_email": "ann@example.org"}


async def test_users_are_kept_in_memory() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)
    user = await database.create({"email": "Ann@example.org", "hashed_password": "h"})

    assert await database.get(user.id) is user
    assert await database.get_by_email("ann@EXAMPLE.org") is user
    assert await database.get_by_email("bob@example.org") is None
    assert await database.update(user, {"is_verified": True}) is user
    assert user.is_verified
    await database.delete(user)
    assert await database.get(user.id) is None


def test_a_model_tells_its_fields() -> None:
    user_db = InMemoryUserDatabase[User, uuid.UUID](User)

    assert [user_db.has_field(name) for name in ("email", "is_active", "nickname", "metadata")] == [
        True,
        True,
        False,
        False,
    ]


async def test_an_address_is_taken_in_every_letter_case() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    await database.create({"email": "ann@example.org", "hashed_password": "h"})
    bob = await database.create({"email": "bob@example.org", "hashed_password": "h"})

    with pytest.raises(UserAlreadyExists):
        await database.create({"email": "ANN@example.org", "hashed_password": "h"})
    with pytest.raises(UserAlreadyExists):
        await database.update(bob, {"email": "ANN@example.org"})
    assert bob.email == "bob@example.org"


async def test_oauth_accounts_are_kept_with_their_user() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)
    user = await database.create({"email": "ann@example.org", "hashed_password": "h"})

    assert await database.add_oauth_account(user, ACCOUNT) is user
    assert await database.get_by_oauth_account("provider", "1") is user
    assert await database.get_by_oauth_account("provider", "2") is None
    assert await database.update_oauth_account(user, user.oauth_accounts[0], {"access_token": "new"}) is user
    assert user.oauth_accounts[0].access_token == "new"


async def test_without_a_model_there_are_no_oauth_accounts() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User)

    with pytest.raises(NotImplementedError, match="need a model"):
        await database.add_oauth_account(User("ann@example.org", "h"), ACCOUNT)


async def test_access_tokens_are_kept_in_memory() -> None:
    database = InMemoryAccessTokenDatabase(AccessToken)
    token = await database.create({"token": "T", "user_id": uuid.uuid4()})

    assert await database.get_by_token("T") is token
    assert await database.get_by_token("T", token.created_at) is token
    assert await database.get_by_token("T", token.created_at + timedelta(seconds=1)) is None
    assert await database.get_by_token("U") is None
    assert await database.update(token, {"token": "T"}) is token
    await database.delete(token)
    assert await database.get_by_token("T") is None


async def test_mails_wait_in_the_outbox() -> None:
    outbox = Outbox()
    first = Message(to="ann@example.org", subject="First", text="www.example.org: no token in here")
    await outbox.send(first)
    with pytest.raises(LookupError, match="no token"):
        outbox.token(to="ann@example.org")
    second = Message(
        to="ann@example.org", subject="Second", text="See https://example.org/verify?token=eyJh.eyJz.s-g_n!"
    )
    await outbox.send(second)

    assert outbox.messages == [first, second]
    assert outbox.last(to="ann@example.org") is second
    assert outbox.token(to="ann@example.org") == "eyJh.eyJz.s-g_n"
    with pytest.raises(LookupError, match="No mail"):
        outbox.token(to="bob@example.org")


def test_the_clock_stands_still_until_it_is_moved() -> None:
    with frozen_clock(datetime(2030, 1, 1, tzinfo=timezone.utc)) as clock:
        assert clock.now == datetime.now(timezone.utc) == datetime(2030, 1, 1, tzinfo=timezone.utc)
        clock.advance(seconds=1.5)
        assert clock.now == datetime(2030, 1, 1, 0, 0, 1, 500_000, tzinfo=timezone.utc)


def test_weak_hashes_are_real_ones() -> None:
    helper = weak_password_helper()

    assert helper.verify_and_update("hunter2", helper.hash("hunter2")) == (True, None)
    assert helper.verify_and_update("hunter3", helper.hash("hunter2")) == (False, None)


def test_a_suite_notices_an_error_that_did_not_come() -> None:
    with pytest.raises(AssertionError, match="ValueError was not raised"), _raises(ValueError):
        pass


@pytest.mark.parametrize("mailer", [object(), None, MemoryMailer()], ids=["real", "none", "own"])
async def test_no_mail_leaves_a_test_where_the_manager_gets_its_mailer_late(mailer: Any) -> None:
    users = InMemoryUserDatabase[User, uuid.UUID](User)

    class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = "0123456789" * 4

        def __init__(self) -> None:
            super().__init__(users)
            self.mailer = mailer

        async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
            if self.mailer is not None:
                await send_later(self.mailer, Message(to=user.email, subject="Verify", text=""), request=request)

    fastapi_users = FastAPIUsers[User, uuid.UUID](UserManager, [])
    app = FastAPI()
    app.include_router(fastapi_users.get_reset_password_router())
    app.include_router(fastapi_users.get_verify_router(schemas.BaseUser[uuid.UUID]))
    with accounts_under_test(app, fastapi_users) as accounts:
        await accounts.create_user("ann@example.org")
        async with AsyncClient(transport=ASGITransport(app), base_url="https://test") as client:
            for path in ("/forgot-password", "/request-verify-token"):
                assert (await client.post(path, json={"email": "ann@example.org"})).status_code == 202
        kept = mailer if isinstance(mailer, MemoryMailer) else accounts.outbox

    assert [message.to for message in kept.messages] == ([] if mailer is None else ["ann@example.org"] * 2)
    assert "__setattr__" not in vars(BaseUserManager)


async def test_one_acts_as_a_user_of_a_manager_that_reads_no_ids() -> None:
    """As one without an id mixin is, which strategies that keep the user do not need."""

    class Manager(BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = "x" * 40

    manager = Manager(InMemoryUserDatabase[User, uuid.UUID](User))
    stored = await manager.user_db.create({"email": "ann@example.org", "hashed_password": ""})
    nowhere = User("bob@example.org", "")

    assert await _ActingStrategy(User("", "", id=stored.id)).read_token("token", manager) is stored
    assert await _ActingStrategy(nowhere).read_token("token", manager) is nowhere


async def test_one_acts_as_a_user_whose_id_is_of_another_kind() -> None:
    class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = verification_token_secret = "x" * 40

    user: Any = User("ann@example.org", "")
    user.id = 1

    strategy = _ActingStrategy(user)
    assert await strategy.read_token("token", Manager(InMemoryUserDatabase[User, uuid.UUID](User))) is user
