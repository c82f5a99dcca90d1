"""The use-cases called from outside a request: order, arguments of the hooks, refusals. HTTP is tests/router."""

import uuid
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic
from unittest.mock import AsyncMock, MagicMock, Mock

import bcrypt
import jwt
import pytest
from fastapi.security import OAuth2PasswordRequestForm
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, SecretStr

from fastapi_users import BaseUserManager, IntegerIDMixin, InvalidID, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.exceptions import (
    InsecureSecretWarning,
    InsecureSettingWarning,
    InvalidResetPasswordToken,
    InvalidVerifyToken,
    UserAlreadyExists,
    UserAlreadyVerified,
    UserInactive,
    UserNotExists,
)
from fastapi_users.models import UP
from fastapi_users.one_time import Purpose
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import InMemoryUserDatabase, OAuthAccount, OneTimeSecret, User, weak_password_helper
from tests.world import SECRET

HOOKS = [
    "on_after_register",
    "on_after_update",
    "on_after_request_verify",
    "on_after_verify",
    "on_after_forgot_password",
    "on_after_reset_password",
    "on_before_delete",
    "on_after_delete",
]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


class Harness:
    """A manager over users in memory, whose hooks write down their positional arguments."""

    def __init__(self) -> None:
        self.database = InMemoryUserDatabase[User, uuid.UUID](User, OAuthAccount)
        self.manager = UserManager(self.database, weak_password_helper())
        self.hooks = MagicMock()
        for name in HOOKS:
            hook = AsyncMock(return_value=None)
            self.hooks.attach_mock(hook, name)
            setattr(self.manager, name, hook)

    async def user(self, email: str = "ann@example.org", password: str = "hunter2", **fields: Any) -> User:
        hashed_password = self.manager.password_helper.hash(password)
        return await self.database.create({"email": email, "hashed_password": hashed_password, **fields})

    @property
    def called(self) -> list[tuple[str, tuple[Any, ...]]]:
        assert all(not call.kwargs for call in self.hooks.mock_calls)
        return [(call[0], call.args) for call in self.hooks.mock_calls]


@pytest.fixture
def harness() -> Harness:
    return Harness()


def credentials(username: str, password: str) -> OAuth2PasswordRequestForm:
    return OAuth2PasswordRequestForm(username=username, password=password)


# look-ups and ids


async def test_looking_up_nobody_raises(harness: Harness) -> None:
    user = await harness.user()

    assert await harness.manager.get(user.id) is user
    assert await harness.manager.get_by_email("ANN@example.org") is user
    with pytest.raises(UserNotExists):
        await harness.manager.get(uuid.uuid4())
    with pytest.raises(UserNotExists):
        await harness.manager.get_by_email("bob@example.org")
    with pytest.raises(UserNotExists):
        await harness.manager.get_by_oauth_account("provider", "1")


def test_without_a_mixin_the_manager_says_how_to_read_ids() -> None:
    manager = BaseUserManager[User, uuid.UUID](InMemoryUserDatabase(User))

    with pytest.raises(NotImplementedError, match="UUIDIDMixin or IntegerIDMixin"):
        manager.parse_id("1")


@given(st.uuids())
def test_a_uuid_is_read_from_its_text_with_and_without_hyphens(value: uuid.UUID) -> None:
    assert UUIDIDMixin().parse_id(value) is value
    for text in (str(value), value.hex, str(value).upper()):
        assert UUIDIDMixin().parse_id(text) == value


@given(st.none() | st.integers() | st.binary() | st.text() | st.uuids().map(lambda value: f"{{{value}}}"))
def test_anything_else_is_no_uuid(value: object) -> None:
    """E6, CONTRACT 16 row 12"""
    with pytest.raises(InvalidID):
        UUIDIDMixin().parse_id(value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_read_from_its_decimal_text(value: int) -> None:
    assert IntegerIDMixin().parse_id(value) == value
    assert IntegerIDMixin().parse_id(str(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.0,
        1.5,
        "1.5",
        "x",
        "",
        " 1",
        "1_000",
        "+1",
        "01",
        "\u0661",
        b"1",
        True,
        2**63,
        -(2**63) - 1,
        "9" * 5000,
        [],
    ],
)
def test_anything_else_is_no_integer(value: object) -> None:
    """E5, CONTRACT 16 row 12"""
    with pytest.raises(InvalidID):
        IntegerIDMixin().parse_id(value)


# create


async def test_create_stores_what_was_sent_and_the_hash(harness: Harness) -> None:
    harness.database.create = AsyncMock(wraps=harness.database.create)  # type: ignore[method-assign]  # a spy

    created = await harness.manager.create(schemas.BaseUserCreate(email="ann@example.org", password="hunter2"))

    written = harness.database.create.call_args.args[0]
    assert set(written) == {"email", "hashed_password"}
    assert harness.manager.password_helper.verify_and_update("hunter2", created.hashed_password) == (True, None)
    assert harness.called == [("on_after_register", (created, None))]


async def test_a_script_may_set_flags_and_null_is_the_default(harness: Harness) -> None:
    create = schemas.BaseUserCreate(
        email="ann@example.org", password="hunter2", is_superuser=True, is_active=None, is_verified=None
    )

    created = await harness.manager.create(create)

    assert (created.is_superuser, created.is_active, created.is_verified) == (True, True, False)


async def test_create_refuses_before_anything_is_written(harness: Harness) -> None:
    await harness.user()
    harness.manager.validate_password = AsyncMock(side_effect=InvalidPasswordException("no"))  # type: ignore[method-assign]  # a mock
    create = schemas.BaseUserCreate(email="ann@example.org", password="hunter2")

    with pytest.raises(InvalidPasswordException):
        await harness.manager.create(create)
    harness.manager.validate_password.assert_awaited_once_with("hunter2", create)
    harness.manager.validate_password.side_effect = None
    with pytest.raises(UserAlreadyExists):
        await harness.manager.create(create)

    assert len(harness.database.users) == 1
    assert harness.called == []


# verify and reset


async def test_only_active_unverified_users_get_a_verification_token(harness: Harness) -> None:
    with pytest.raises(UserInactive):
        await harness.manager.request_verify(await harness.user("a@example.org", is_active=False, is_verified=True))
    with pytest.raises(UserAlreadyVerified):
        await harness.manager.request_verify(await harness.user("b@example.org", is_verified=True))
    assert harness.called == []

    user = await harness.user()
    await harness.manager.request_verify(user)
    ((name, (hooked_user, token, request)),) = harness.called
    assert (name, hooked_user, request) == ("on_after_request_verify", user, None)
    claims = jwt.decode(token, SECRET, audience="fastapi-users:verify", algorithms=["HS256"])
    assert (claims["sub"], claims["email"]) == (str(user.id), "ann@example.org")

    assert (await harness.manager.verify(token)).is_verified
    assert harness.called[-1] == ("on_after_verify", (user, None))
    with pytest.raises(UserAlreadyVerified):
        await harness.manager.verify(token)


async def test_a_verification_token_names_user_and_address(harness: Harness) -> None:
    user = await harness.user()
    await harness.manager.request_verify(user)
    token = harness.called[0][1][1]
    user.email = "new@example.org"
    await harness.user("ann@example.org")

    with pytest.raises(InvalidVerifyToken):
        await harness.manager.verify(token)


async def test_only_active_users_get_a_reset_token(harness: Harness) -> None:
    with pytest.raises(UserInactive):
        await harness.manager.forgot_password(await harness.user("a@example.org", is_active=False))
    assert harness.called == []

    user = await harness.user()
    await harness.manager.forgot_password(user)
    ((name, (hooked_user, token, request)),) = harness.called
    assert (name, hooked_user, request) == ("on_after_forgot_password", user, None)
    claims = jwt.decode(token, SECRET, audience="fastapi-users:reset", algorithms=["HS256"])
    assert claims["sub"] == str(user.id)
    assert harness.manager.password_helper.verify_and_update(user.hashed_password, claims["password_fgpt"])[0]

    assert await harness.manager.reset_password(token, "hunter3") is user
    assert harness.called[-1] == ("on_after_reset_password", (user, None))
    assert await harness.manager.authenticate(credentials("ann@example.org", "hunter3")) is user
    with pytest.raises(InvalidResetPasswordToken):
        await harness.manager.reset_password(token, "hunter4")


async def test_a_reset_of_somebody_who_is_gone_or_inactive_is_refused(harness: Harness) -> None:
    user = await harness.user()
    await harness.manager.forgot_password(user)
    token = harness.called[0][1][1]

    user.is_active = False
    with pytest.raises(UserInactive):
        await harness.manager.reset_password(token, "hunter3")
    await harness.database.delete(user)
    with pytest.raises(UserNotExists):
        await harness.manager.reset_password(token, "hunter3")


# update, delete


async def test_the_update_hook_gets_what_was_submitted(harness: Harness) -> None:
    user = await harness.user(is_verified=True)

    updated = await harness.manager.update(
        schemas.BaseUserUpdate(email="new@example.org", password="hunter3", is_superuser=True), user, safe=True
    )

    assert updated is user
    assert (user.email, user.is_verified, user.is_superuser) == ("new@example.org", False, False)
    assert harness.called == [("on_after_update", (user, {"password": "hunter3", "email": "new@example.org"}, None))]


async def test_the_hook_of_an_update_need_not_see_the_new_password(harness: Harness) -> None:
    """Requirement 83, weakness 20 (assign.hook_gets_plain_password): CONTRACT 8.7 decides the default."""
    user = await harness.user()
    harness.manager.mask_passwords_in_hooks = True
    for password, shown in (("hunter3", "**********"), (None, None)):
        harness.hooks.reset_mock()
        await harness.manager.update(schemas.BaseUserUpdate(password=password, is_verified=True), user)

        update_dict = {"password": shown, "is_verified": True}
        assert harness.called == [("on_after_update", (user, update_dict, None))]
        assert "hunter3" not in str(harness.hooks.mock_calls)
    assert await harness.manager.check_password(user, "hunter3")


class OpenCreate(schemas.BaseUserCreate):
    model_config = ConfigDict(extra="allow")


class OpenUpdate(schemas.BaseUserUpdate):
    model_config = ConfigDict(extra="allow")


async def test_what_is_undeclared_and_has_no_place_is_left_out(harness: Harness) -> None:
    """D17: on SQLAlchemy a 500."""
    extra: dict[str, Any] = {"oauth_accounts": [1], "no_such_field": 1, "hashed_password": "x", "__class__": "x"}
    created = await harness.manager.create(OpenCreate(email="ann@example.org", password="hunter2", **extra))
    harness.hooks.reset_mock()
    updated = await harness.manager.update(OpenUpdate(**extra), created)

    assert harness.called == [("on_after_update", (created, {}, None))]
    assert not hasattr(updated, "no_such_field")
    assert updated.oauth_accounts == []
    assert await harness.manager.check_password(updated, "hunter2")


async def test_an_adapter_of_no_known_kind_is_not_asked_for_its_fields(harness: Harness) -> None:
    class Duck:
        async def create(self, create_dict: dict[str, Any]) -> Any:
            return SimpleNamespace(id=1, **create_dict)

        async def get_by_email(self, email: str) -> None:
            return None

    harness.manager.user_db = Duck()  # type: ignore[assignment]  # what an application may do
    created: Any = await harness.manager.create(OpenCreate(email="a@example.org", password="p", own=1))  # type: ignore[call-arg]  # allowed

    assert created.own == 1


async def test_the_same_address_again_changes_nothing(harness: Harness) -> None:
    user = await harness.user(is_verified=True)

    await harness.manager.update(schemas.BaseUserUpdate(email="ann@example.org"), user)

    assert (user.email, user.is_verified) == ("ann@example.org", True)


async def test_the_adapter_is_called_even_when_there_is_nothing_to_write(harness: Harness) -> None:
    user = await harness.user()
    harness.database.update = AsyncMock(return_value=user)  # type: ignore[method-assign]  # a mock

    await harness.manager.update(schemas.BaseUserUpdate(), user)
    await harness.manager.update(schemas.BaseUserUpdate(email=None, password=None, is_active=None), user)

    assert [call.args for call in harness.database.update.await_args_list] == [(user, {}), (user, {})]


async def test_delete_calls_its_hooks_around_the_deletion(harness: Harness) -> None:
    """E18"""
    user = await harness.user()

    await harness.manager.delete(user)

    assert harness.called == [("on_before_delete", (user, None)), ("on_after_delete", (user, None))]
    assert harness.database.users == {}


async def test_a_hook_can_prevent_the_deletion(harness: Harness) -> None:
    user = await harness.user()
    harness.hooks.on_before_delete.side_effect = RuntimeError

    with pytest.raises(RuntimeError):
        await harness.manager.delete(user)

    assert user.id in harness.database.users


# authenticate


async def test_authenticate_looks_at_no_flag(harness: Harness) -> None:
    user = await harness.user(is_active=False)

    assert await harness.manager.authenticate(credentials("ANN@example.org", "hunter2")) is user
    assert await harness.manager.authenticate(credentials("ann@example.org", "hunter3")) is None


async def test_an_unknown_address_costs_a_hash_too(harness: Harness) -> None:
    helper = MagicMock(wraps=harness.manager.password_helper)
    harness.manager.password_helper = helper

    assert await harness.manager.authenticate(credentials("bob@example.org", "hunter2")) is None

    helper.hash.assert_called_once_with("hunter2")


async def test_what_the_hasher_does_not_take_is_a_refused_password(harness: Harness) -> None:
    """A hasher of the application, with bounds of its own."""

    class Narrow(PasswordHelper):
        def hash(self, password: str) -> str:
            raise ValueError

    harness.manager.password_helper = Narrow()

    with pytest.raises(InvalidPasswordException, match="cannot be hashed"):
        await harness.manager.create(schemas.BaseUserCreate(email="ann@example.org", password="hunter2"))


async def test_an_outdated_hash_is_upgraded_at_login() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    manager = UserManager(database)
    outdated = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    user = await database.create({"email": "ann@example.org", "hashed_password": outdated})

    assert await manager.authenticate(credentials("ann@example.org", "hunter2")) is user
    assert user.hashed_password.startswith("$argon2id$")


# oauth


async def test_only_the_account_that_logs_in_is_updated(harness: Harness) -> None:
    user = await harness.user()
    await harness.manager.oauth_associate_callback(user, "provider", "old", "1", "ann@example.org")
    await harness.manager.oauth_associate_callback(user, "other", "old", "1", "ann@example.org")
    assert harness.called == [("on_after_update", (user, {}, None))] * 2

    assert await harness.manager.oauth_callback("provider", "new", "1", "x@example.org", 99, "refresh") is user

    first, second = user.oauth_accounts
    assert (first.access_token, first.account_email, first.expires_at) == ("new", "x@example.org", 99)
    assert (second.access_token, second.expires_at) == ("old", None)


async def test_a_new_oauth_user_gets_a_password_that_nobody_knows(harness: Harness) -> None:
    user = await harness.manager.oauth_callback(
        "provider", "token", "1", "ann@example.org", is_verified_by_default=True
    )

    assert (user.email, user.is_verified, len(user.oauth_accounts)) == ("ann@example.org", True, 1)
    assert harness.called == [("on_after_register", (user, None))]
    assert not harness.manager.password_helper.verify_and_update("", user.hashed_password)[0]


async def test_an_address_is_only_linked_where_that_was_asked_for(harness: Harness) -> None:
    user = await harness.user()

    with pytest.raises(UserAlreadyExists):
        await harness.manager.oauth_callback("provider", "token", "1", "ann@example.org")
    assert user.oauth_accounts == []
    linked = await harness.manager.oauth_callback("provider", "token", "1", "ann@example.org", associate_by_email=True)
    assert linked is user
    assert harness.called == []


async def test_an_address_that_was_taken_meanwhile_is_refused(harness: Harness) -> None:
    """D1, CONTRACT 16 row 25"""
    winner = User("ann@example.org", "h")

    async def lose_the_race(create_dict: dict[str, Any]) -> User:
        harness.database.users[winner.id] = winner
        raise ConnectionError

    harness.database.create = lose_the_race  # type: ignore[method-assign]  # a database with errors of its own

    with pytest.raises(UserAlreadyExists):
        await harness.manager.create(schemas.BaseUserCreate(email="ANN@example.org", password="hunter2"))
    harness.database.users.clear()
    with pytest.raises(UserAlreadyExists):
        await harness.manager.oauth_callback("provider", "token", "1", "ANN@example.org")
    assert harness.called == []


async def test_an_error_after_the_user_was_written_is_no_lost_race(harness: Harness) -> None:
    written = User("ann@example.org", "h")

    async def write_and_fail(create_dict: dict[str, Any]) -> User:
        written.hashed_password = create_dict["hashed_password"]
        harness.database.users[written.id] = written
        raise ConnectionError

    harness.database.create = write_and_fail  # type: ignore[method-assign]  # an adapter that commits and then fails

    with pytest.raises(ConnectionError):
        await harness.manager.create(schemas.BaseUserCreate(email="ann@example.org", password="hunter2"))


async def test_an_application_may_do_without_addresses(harness: Harness) -> None:
    class Create(schemas.BaseUserCreate):
        email: str | None = None  # type: ignore[assignment]  # as the application wants it

    user = User("", "h")
    harness.database.get_by_email = AsyncMock(return_value=None)  # type: ignore[method-assign]  # a mock
    harness.database.create = AsyncMock(return_value=user)  # type: ignore[method-assign]  # a mock

    assert await harness.manager.create(Create(password="hunter2")) is user


async def test_an_error_that_is_no_lost_race_comes_through(harness: Harness) -> None:
    """CONTRACT 16 row 25"""
    user = await harness.user()
    harness.database.create = AsyncMock(side_effect=ConnectionError)  # type: ignore[method-assign]  # a mock
    harness.database.update = AsyncMock(side_effect=ConnectionError)  # type: ignore[method-assign]  # a mock

    with pytest.raises(ConnectionError):
        await harness.manager.create(schemas.BaseUserCreate(email="bob@example.org", password="hunter2"))
    with pytest.raises(ConnectionError):
        await harness.manager.update(schemas.BaseUserUpdate(email="ANN@example.org"), user)


async def test_an_address_that_another_one_reserved_is_refused(harness: Harness) -> None:
    harness.database.reserve_email = AsyncMock(return_value=False)  # type: ignore[method-assign]  # a mock

    with pytest.raises(UserAlreadyExists):
        await harness.manager.create(schemas.BaseUserCreate(email="bob@example.org", password="hunter2"))
    harness.database.reserve_email.assert_awaited_once_with("bob@example.org", None)
    assert harness.database.users == {}


class EightMethods:
    """An adapter that derives from nothing."""

    def __init__(self) -> None:
        self.memory = InMemoryUserDatabase[User, uuid.UUID](User)

    async def get_by_email(self, email: str) -> User | None:
        return await self.memory.get_by_email(email)

    async def create(self, create_dict: dict[str, Any]) -> User:
        return await self.memory.create(create_dict)


async def test_an_adapter_that_derives_from_nothing_is_enough() -> None:
    manager = UserManager(EightMethods(), weak_password_helper())  # type: ignore[arg-type]  # what it needs is there

    user = await manager.create(schemas.BaseUserCreate(email="ann@example.org", password="hunter2"))

    assert user.email == "ann@example.org"


# what applications replace


async def test_collaborators_are_looked_up_at_call_time(harness: Harness) -> None:
    user = SimpleNamespace(id=1)
    harness.manager.user_db = MagicMock(get=AsyncMock(return_value=user))
    assert await harness.manager.get(uuid.uuid4()) is user  # type: ignore[comparison-overlap]  # a stand-in

    harness.manager.get_by_email = MagicMock(side_effect=UserNotExists)  # type: ignore[method-assign]  # a mock
    assert await harness.manager.authenticate(credentials("x", "y")) is None


async def test_the_base_hooks_do_nothing() -> None:
    database = InMemoryUserDatabase[User, uuid.UUID](User)
    manager = UserManager(database, weak_password_helper())

    user = await manager.create(schemas.BaseUserCreate(email="ann@example.org", password="x"))
    await manager.on_after_login(user)
    await manager.request_verify(user)
    await manager.on_after_verify(user)
    await manager.forgot_password(user)
    await manager.on_after_reset_password(user)
    await manager.update(schemas.BaseUserUpdate(), user)
    await manager.delete(user)
    assert database.users == {}


# the spelling of 9.x


def test_a_manager_in_the_spelling_of_9_x_is_told_once_what_to_write_today() -> None:
    with pytest.warns(DeprecationWarning, match=r"UUIDIDMixin, BaseUserManager\[User, uuid.UUID\]") as caught:

        class LegacyManager(BaseUserManager[Any, Any]):
            user_db_model = User

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Subclass(LegacyManager):
            pass

    assert len(caught) == 1
    assert caught[0].filename == __file__
    value = uuid.uuid4()
    assert Subclass(InMemoryUserDatabase(User)).parse_id(str(value)) == value
    with pytest.raises(InvalidID):
        Subclass(InMemoryUserDatabase(User)).parse_id("1")


def test_an_id_mixin_wins_over_the_old_spelling() -> None:
    @dataclass
    class Numbered(User):
        id: int = 0  # type: ignore[assignment]  # another kind of id

    with pytest.warns(DeprecationWarning, match="user_db_model"):

        class LegacyManager(IntegerIDMixin, BaseUserManager[Any, Any]):
            user_db_model = Numbered

    assert LegacyManager(InMemoryUserDatabase(Numbered)).parse_id("7") == 7


# settings


@pytest.mark.parametrize("trusted_proxies", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy.example"]])
def test_networks_that_are_none_are_refused_when_the_class_is_made(trusted_proxies: Any) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has host bits set"):
        type("Manager", (UserManager,), {"trusted_proxies": trusted_proxies})


def test_the_networks_may_be_known_later() -> None:
    later = property(lambda self: ["10.0.0.0/8"])
    manager_class: Any = type("Manager", (UserManager,), {"trusted_proxies": later})

    assert manager_class(InMemoryUserDatabase(User)).trusted_proxies == ["10.0.0.0/8"]


async def test_a_manager_without_any_secret_says_which_one_signs_tickets(harness: Harness) -> None:
    class Secretless(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        one_time_secret_model = OneTimeSecret

    with pytest.raises(NotImplementedError, match="neither login_ticket_secret nor reset_password_token_secret"):
        Secretless(harness.database)._one_time_secrets(Purpose(name="x", lifetime_seconds=1))
    Secretless.login_ticket_secret = SecretStr(SECRET)
    secrets = Secretless(harness.database)._one_time_secrets(Purpose(name="x", lifetime_seconds=1))
    assert await secrets.consume_token(await secrets.issue_token("ann")) == "ann"


# secrets


class Bare(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Its application has set nothing."""


async def test_a_missing_secret_says_whose_and_which(harness: Harness) -> None:
    """D16."""
    bare, user = Bare(harness.database), await harness.user()

    for use in (bare.request_verify(user), bare.verify("x")):
        with pytest.raises(NotImplementedError, match="Bare has no verification_token_secret"):
            await use
    for use in (bare.forgot_password(user), bare.reset_password("x", "new")):
        with pytest.raises(NotImplementedError, match="reset_password_token_secret"):
            await use
    with pytest.raises(NotImplementedError, match="neither login_ticket_secret nor"):
        bare._login_ticket_secret()


def test_a_missing_secret_is_not_there() -> None:
    """CONTRACT 8.1, and it can be set on the instance."""
    bare = Bare(InMemoryUserDatabase(User))
    assert not hasattr(bare, "reset_password_token_secret")
    assert not hasattr(Bare, "verification_token_secret")

    bare.verification_token_secret = SECRET
    assert bare.verification_token_secret == SECRET


@pytest.mark.parametrize("secret", ["SECRET", SecretStr("x" * 31), "", None, [SECRET, "changeme"], (SECRET, "x")])
@pytest.mark.parametrize("name", ["reset_password_token_secret", "verification_token_secret", "login_ticket_secret"])
def test_a_weak_secret_is_told_of_when_the_class_is_made(name: str, secret: Any) -> None:
    """D16, requirement 58: once, and not again for a subclass that has nothing to do with it."""
    if (name, secret) == ("login_ticket_secret", None):
        return  # its default
    with pytest.warns(InsecureSecretWarning, match=rf"Weak\.{name} is") as told:
        weak = type("Weak", (UserManager,), {name: secret})
    assert len(told) == 1
    assert told[0].filename == __file__

    type("Weaker", (weak,), {})


def test_what_is_no_text_is_not_looked_at_before_it_is_used() -> None:
    settings = {
        "strict": True,
        "reset_password_token_secret": property(lambda self: "x"),
        "reset_password_token_lifetime_seconds": property(lambda self: 0),
    }
    manager = type("FromSettings", (UserManager,), settings)(InMemoryUserDatabase(User))

    assert (manager.reset_password_token_secret, manager.reset_password_token_lifetime_seconds) == ("x", 0)


@pytest.mark.parametrize("name", ["reset_password_token_lifetime_seconds", "verification_token_lifetime_seconds"])
@pytest.mark.parametrize("lifetime", [0, None])
def test_a_lifetime_of_0_is_told_of_when_the_class_is_made(name: str, lifetime: int | None) -> None:
    """D15: mailed tokens that never expire."""
    with pytest.warns(InsecureSettingWarning, match=rf"Endless\.{name} is 0"):
        endless = type("Endless", (UserManager,), {name: lifetime})

    type("Heir", (endless,), {})
    with pytest.raises(ValueError, match=name):
        type("Strict", (endless,), {"strict": True})


class StrictManager(UserManager):
    strict = True


@pytest.mark.parametrize("name", ["reset_password_token_secret", "verification_token_secret"])
def test_strict_refuses_a_class_without_secrets(name: str) -> None:
    """D16."""
    others = {"reset_password_token_secret": SECRET, "verification_token_secret": SECRET, "strict": True}
    del others[name]
    with pytest.raises(TypeError, match=name):
        type("Forgetful", (Bare,), others)
    with pytest.raises(TypeError, match=name):
        type("Forgetful", (StrictManager,), {name: None})


@pytest.mark.parametrize("secret", ["SECRET", "x" * 31, [SECRET, "x"], SecretStr("")])
def test_strict_refuses_weak_secrets(secret: Any) -> None:
    with pytest.raises(ValueError, match=r"Weak\.verification_token_secret"):
        type("Weak", (StrictManager,), {"verification_token_secret": secret})
    with pytest.warns(InsecureSecretWarning):
        weak = type("Weak", (UserManager,), {"verification_token_secret": secret})
    with pytest.raises(ValueError, match=r"Stricter\.verification_token_secret"):
        type("Stricter", (weak,), {"strict": True})


def test_strict_leaves_what_is_missing_in_a_generic_base_to_its_subclasses() -> None:
    class Company(UUIDIDMixin, BaseUserManager[UP, uuid.UUID], Generic[UP]):
        strict = True

    class Feature(Company[UP], Generic[UP]):
        _required_settings = ("feature_setting",)

    class Complete(Company[User]):
        reset_password_token_secret = verification_token_secret = SECRET

    with pytest.raises(TypeError, match="reset_password_token_secret"):

        class Incomplete(Company[User]):
            pass

    assert Complete.strict
    assert Feature.strict


def test_an_application_with_an_attribute_of_this_name_is_not_strict() -> None:
    class Own(Bare):
        strict: Any = "yes"

    assert Own.strict == "yes"


NEW = "a newer secret of the tests, longer than 32 bytes"


class RotatedManager(Bare):
    reset_password_token_secret = (NEW, SECRET)
    verification_token_secret = (SecretStr(NEW), SecretStr(SECRET))


async def test_mailed_tokens_count_after_their_secret_was_rotated(harness: Harness) -> None:
    """Requirement 59, and Flask's CVE-2025-47278: the newest signs."""
    user = await harness.user()
    await harness.manager.request_verify(user)
    await harness.manager.forgot_password(user)
    verification, reset = [args[1] for _, args in harness.called]
    rotated = RotatedManager(harness.database, harness.manager.password_helper)

    assert (await rotated.verify(verification)).is_verified
    await rotated.reset_password(reset, "new password")

    await harness.manager.request_verify(await harness.user("bob@example.org"))
    harness.hooks.reset_mock()
    rotated.on_after_forgot_password = harness.hooks.on_after_forgot_password  # type: ignore[method-assign]  # a spy
    await rotated.forgot_password(user)
    ((_, (_, token, _)),) = harness.called
    with pytest.raises(InvalidResetPasswordToken):
        await harness.manager.reset_password(token, "new password")
    newest = type("Newest", (UserManager,), {"reset_password_token_secret": NEW})
    await newest(harness.database, harness.manager.password_helper).reset_password(token, "new password")


async def test_what_is_derived_from_a_secret_outlives_its_rotation() -> None:
    before, after = UserManager(InMemoryUserDatabase(User)), RotatedManager(InMemoryUserDatabase(User))
    newest = type("Newest", (UserManager,), {"login_ticket_secret": NEW})(InMemoryUserDatabase(User))

    fingerprint = before._fingerprint("hash", "purpose")
    assert after._fits_fingerprint(fingerprint, "hash", "purpose")
    assert not after._fits_fingerprint(fingerprint, "another", "purpose")
    assert not after._fits_fingerprint(fingerprint, "hash", "another")
    assert not after._fits_fingerprint("\u00e9\ud800", "hash", "purpose")
    assert not newest._fits_fingerprint(fingerprint, "hash", "purpose")
    assert newest._fits_fingerprint(after._fingerprint("hash", "purpose"), "hash", "purpose")


# the tests of applications


@pytest.mark.parametrize("make", [AsyncMock, MagicMock, Mock])
@pytest.mark.parametrize("adapter", [SQLAlchemyUserDatabase, InMemoryUserDatabase])
async def test_a_mock_with_the_names_of_an_adapter_is_called_as_upstream_calls_it(
    harness: Harness, make: Any, adapter: Any
) -> None:
    """Of what upstream does not call, such as ``update_where``, it knows no answer."""
    old = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    user = await harness.database.create({"email": "ann@example.org", "hashed_password": old})
    database, tokens = make(spec=adapter), list[str]()
    manager = UserManager(database, PasswordHelper())
    for hook in ("on_after_forgot_password", "on_after_request_verify"):
        setattr(manager, hook, AsyncMock(side_effect=lambda _user, token, _request: tokens.append(token)))
    database.get.return_value = database.create.return_value = user
    database.update.side_effect = harness.database.update

    database.get_by_email.return_value = None
    assert await manager.create(schemas.BaseUserCreate(email=user.email, password="hunter2")) is user
    database.get_by_email.return_value = user
    assert await manager.authenticate(credentials(user.email, "hunter2")) is user
    await manager.forgot_password(user)
    assert await manager.reset_password(tokens.pop(), "hunter3") is user
    await manager.request_verify(user)
    assert await manager.verify(tokens.pop()) is user

    written = [[*call.args[1]] for call in database.update.await_args_list]
    assert written == [["hashed_password"], ["hashed_password"], ["is_verified"]]


async def test_a_patched_decoder_of_tokens_need_not_give_an_audience(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await harness.user()
    claims = {"sub": str(user.id), "email": user.email}
    monkeypatch.setattr("fastapi_users.manager.decode_jwt", lambda *_: claims)

    assert (await harness.manager.verify("whatever")).is_verified
