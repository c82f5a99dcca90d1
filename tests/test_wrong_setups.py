"""What is written wrong fails where it is written, with one sentence that says what to write."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from inspect import signature
from typing import Any, cast
from unittest.mock import MagicMock

import anyio
import pytest
from fastapi import Depends, FastAPI
from httpx_oauth.clients.github import GitHubOAuth2
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.strategy.base import get_token_owner
from fastapi_users.background import do_unseen
from fastapi_users.db import (
    BaseUserDatabase,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseOneTimeSecretTable
from fastapi_users.exceptions import InsecureSettingWarning
from fastapi_users.jwt import generate_jwt
from fastapi_users.one_time import Purpose
from fastapi_users.password_policy import PasswordPolicy
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.world import SECRET


class Base(DeclarativeBase): ...


class Row(SQLAlchemyBaseUserTableUUID, Base): ...


class Account(SQLAlchemyBaseOAuthAccountTableUUID, Base): ...


class NoTable(SQLAlchemyBaseOneTimeSecretTable):
    """Somebody forgot the declarative base."""


class NoUsers(SQLAlchemyBaseUserTableUUID):
    """The same."""


class Manager(UUIDIDMixin, BaseUserManager[Any, Any]):
    reset_password_token_secret = verification_token_secret = SECRET


class WithoutIDs(BaseUserManager[Any, Any]):
    reset_password_token_secret = verification_token_secret = SECRET


class WithoutSecrets(UUIDIDMixin, BaseUserManager[Any, Any]): ...


def get_user_db() -> Iterator[Any]:
    yield InMemoryUserDatabase[User, uuid.UUID](User)


def get_user_manager() -> Manager:
    return Manager(next(get_user_db()))


def wrong_order() -> None:
    class UserManager(BaseUserManager[Any, Any], IntegerIDMixin):
        reset_password_token_secret = verification_token_secret = SECRET


def missing_secret_of_a_strict_manager() -> None:
    class UserManager(UUIDIDMixin, BaseUserManager[Any, Any]):
        strict = True


def class_of_policies() -> None:
    class UserManager(Manager):
        password_policy: Any = PasswordPolicy


def facade() -> FastAPIUsers[Any, Any]:
    return FastAPIUsers[Any, Any](get_user_manager, [backend()])


async def open_route(user: Any = Depends(FastAPIUsers[Any, Any](get_user_manager, []).current_user)) -> None: ...


def backend(transport: Any = None, get_strategy: Any = lambda: JWTStrategy[Any, Any](SECRET, 3600)) -> Any:
    return AuthenticationBackend[Any, Any]("jwt", transport or BearerTransport("login"), get_strategy)


session = AsyncSession()
untyped: Any = SQLAlchemyUserDatabase

SETUPS: dict[str, tuple[Callable[[], Any], str]] = {
    "an id mixin after the manager": (
        wrong_order,
        "UserManager lists IntegerIDMixin after BaseUserManager, which hides it: write class UserManager(IntegerIDMixin, ",
    ),
    "no id mixin": (
        lambda: WithoutIDs(BaseUserDatabase()).parse_id("1"),
        "WithoutIDs does not know how to read an id: list UUIDIDMixin or IntegerIDMixin before BaseUserManager in its",
    ),
    "no secret": (
        lambda: WithoutSecrets(BaseUserDatabase()).reset_password_token_secret,
        "WithoutSecrets has no reset_password_token_secret: set it to 32 random bytes or more, made once by",
    ),
    "no secret in a strict manager": (
        missing_secret_of_a_strict_manager,
        "UserManager is strict: set reset_password_token_secret in it.",
    ),
    "Depends outside of a dependency": (
        lambda: Manager(Depends(get_user_db)),
        "Manager got something that FastAPI has not solved for a user_db: take it as a parameter of a dependency",
    ),
    "a dependency called by hand": (
        lambda: Manager(get_user_db()),  # type: ignore[arg-type]  # it is wrong
        "Manager got something that FastAPI has not solved for a user_db: take it as a parameter of a dependency",
    ),
    "a manager for its dependency": (
        lambda: FastAPIUsers[Any, Any](get_user_manager(), []),  # type: ignore[arg-type]  # it is wrong
        "FastAPIUsers takes the dependency that gives the user manager, and calls it for every request: write get_user_",
    ),
    "a backend for a list": (
        lambda: FastAPIUsers[Any, Any](get_user_manager, backend()),
        "FastAPIUsers takes a list of backends: write [auth_backend].",
    ),
    "a class of transports": (
        lambda: backend(CookieTransport),
        "The backend 'jwt' takes a transport, not a class of them: write CookieTransport(…).",
    ),
    "a strategy for a function": (
        lambda: backend(get_strategy=JWTStrategy[Any, Any](SECRET, 3600)),
        "The backend 'jwt' takes a function that makes the strategy, and calls it for every request: write get_strategy=",
    ),
    "the user class before the session": (
        lambda: untyped(Row, session),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
    ),
    "no class of users": (
        lambda: untyped(session, session),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
    ),
    "an engine for a session": (
        lambda: untyped(create_async_engine("sqlite+aiosqlite://"), Row),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
    ),
    "the maker of sessions for one of them": (
        lambda: untyped(async_sessionmaker(), Row),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
    ),
    "users that are no table": (
        lambda: untyped(session, NoUsers),
        "NoUsers is no table of SQLAlchemy: write class NoUsers(SQLAlchemyBaseUserTableUUID, Base), with the declarative",
    ),
    "the class of the tokens before the session": (
        lambda: SQLAlchemyAccessTokenDatabase[Any](cast("Any", Row), cast("Any", session)),
        "Write SQLAlchemyAccessTokenDatabase(session, AccessToken): first a session, then the class of the tokens.",
    ),
    "current_user without parentheses": (
        lambda: FastAPI().get("/")(open_route),
        "This makes a dependency, and is none: write Depends(fastapi_users.current_user()), with its parentheses.",
    ),
    "the backends before the manager": (
        lambda: FastAPIUsers[Any, Any](cast("Any", [backend()]), cast("Any", get_user_manager)),
        "FastAPIUsers takes the dependency that gives the user manager first: write get_user_manager.",
    ),
    "the class of the manager for its dependency": (
        lambda: FastAPIUsers[Any, Any](Manager, []),
        "FastAPIUsers takes the dependency that gives the user manager first: write get_user_manager.",
    ),
    "a context manager for a dependency": (
        lambda: FastAPIUsers[Any, Any](cast("Any", asynccontextmanager(cast("Any", get_user_manager))), []),
        "FastAPI opens and closes the user manager itself: write get_user_manager with its yield, and without @async",
    ),
    "a transport for a backend": (
        lambda: FastAPIUsers[Any, Any](get_user_manager, cast("Any", [BearerTransport("login")])),
        "FastAPIUsers takes a list of backends: write [AuthenticationBackend(name, transport, …)].",
    ),
    "no backends": (
        lambda: FastAPIUsers[Any, Any](get_user_manager, cast("Any", None)),
        "FastAPIUsers takes a list of backends: write [AuthenticationBackend(name, transport, …)].",
    ),
    "a class of strategies": (
        lambda: backend(get_strategy=JWTStrategy),
        "The backend 'jwt' takes a function that makes the strategy, and calls it for every request: write get_strategy=",
    ),
    "a class of strategies with its types": (
        lambda: backend(get_strategy=JWTStrategy[Any, Any]),
        "The backend 'jwt' takes a function that makes the strategy, and calls it for every request: write get_strategy=",
    ),
    "a class of strategies that lacks its secret": (
        lambda: backend(get_strategy=partial(JWTStrategy, lifetime_seconds=3600)),
        "The backend 'jwt' takes a function that makes the strategy, and calls it for every request: write get_strategy=",
    ),
    "a strategy that is not returned": (
        lambda: anyio.run(backend(get_strategy=lambda: None).login, None, User("ann@example.com", "")),
        "get_strategy of the backend 'jwt' gave None: let it return the strategy.",
    ),
    "a list of backends for one": (
        lambda: facade().get_auth_router(cast("Any", [backend()])),
        "This router is of one backend, and got list: write get_auth_router(auth_backend), or get_oauth_router(",
    ),
    "a list of backends for one of OAuth": (
        lambda: facade().get_oauth_router(GitHubOAuth2("id", "secret"), cast("Any", [backend()]), SECRET),
        "This router is of one backend, and got list: write get_auth_router(auth_backend), or get_oauth_router(",
    ),
    "a class of OAuth clients": (
        lambda: facade().get_oauth_router(cast("Any", GitHubOAuth2), backend(), SECRET),
        "This router takes a client of httpx-oauth first, not a class of them: write GoogleOAuth2(client_id, client_sec",
    ),
    "no OAuth client": (
        lambda: facade().get_oauth_associate_router(cast("Any", None), schemas.BaseUser[uuid.UUID], SECRET),
        "This router takes a client of httpx-oauth first, not a class of them: write GoogleOAuth2(client_id, client_sec",
    ),
    "the schemas of registration swapped": (
        lambda: facade().get_register_router(cast("Any", schemas.BaseUserCreate), cast("Any", schemas.BaseUser)),
        "BaseUser has no password to register with: write get_register_router(UserRead, UserCreate), first what is shown",
    ),
    "a function for a user_db": (
        lambda: Manager(cast("Any", get_user_db)),
        "Manager got something that FastAPI has not solved for a user_db: take it as a parameter of a dependency",
    ),
    "a class of policies": (
        class_of_policies,
        "UserManager.password_policy is a class: write password_policy = PasswordPolicy(…).",
    ),
    "no secret of JWTs": (
        lambda: generate_jwt({}, cast("Any", None)),
        "The secret is None: set it to 32 random bytes or more, made once by secrets.token_urlsafe(32). Is the variable",
    ),
    "no relationship to accounts": (
        lambda: SQLAlchemyUserDatabase[Any, Any](session, Row, Account),
        "Row has no oauth_accounts, which accounts at providers need: write in it oauth_accounts: Mapped[list[Account]] = ",
    ),
    "a mixin that is no table": (
        lambda: SQLAlchemyUserDatabase[Any, Any](session, Row).store(NoTable),
        "NoTable is no table of SQLAlchemy: write class NoTable(SQLAlchemyBase…Table, Base), with the declarative base",
    ),
    "no table of one-time secrets": (
        lambda: get_user_manager()._one_time_secrets(Purpose(name="code", lifetime_seconds=60)),
        "Manager has no one_time_secret_model, which is needed for 'code': make a table from SQLAlchemyBaseOneTimeSecret",
    ),
    "an adapter without a store": (
        lambda: BaseUserDatabase[Any, Any]().store(Row),
        "BaseUserDatabase has no store(model). Features that keep rows of their own need one: implement it, or use an",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), SETUPS.values(), ids=SETUPS)
def test_a_wrong_setup_says_what_to_write(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((TypeError, NotImplementedError)) as caught:
        make()

    assert str(caught.value).startswith(sentence)


def test_an_id_mixin_may_stand_behind_a_method_of_the_own() -> None:
    class UserManager(BaseUserManager[Any, Any], UUIDIDMixin):
        reset_password_token_secret = verification_token_secret = SECRET

        def parse_id(self, value: Any) -> Any:
            return UUIDIDMixin.parse_id(self, value)

    user_id = uuid.uuid4()
    assert UserManager(BaseUserDatabase()).parse_id(str(user_id)) == user_id


async def test_an_id_mixin_that_does_not_fit_the_ids_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class WithWrongIDs(IntegerIDMixin, BaseUserManager[Any, Any]):
        reset_password_token_secret = verification_token_secret = SECRET

    namesake = type("WithWrongIDs", (WithWrongIDs,), {"__module__": "elsewhere"})

    users = InMemoryUserDatabase[User, uuid.UUID](User)
    user = await users.create({"email": "ann@example.com", "hashed_password": ""})
    with caplog.at_level(logging.WARNING, "fastapi_users.authentication"):
        for manager_class in (WithWrongIDs, WithWrongIDs, namesake):
            assert await get_token_owner(str(user.id), manager_class(users)) is None

    message, of_namesake = caplog.messages
    assert message.startswith(
        f"{__name__}.{WithWrongIDs.__qualname__}.parse_id refuses the id in a token of this application"
    )
    assert message.endswith("UUIDIDMixin or IntegerIDMixin.")
    assert of_namesake.startswith("elsewhere.WithWrongIDs.parse_id refuses")


@pytest.mark.parametrize("_time", ["first", "second"])
async def test_what_was_told_in_another_test_is_told_again(caplog: pytest.LogCaptureFixture, _time: str) -> None:
    class WithWrongIDs(IntegerIDMixin, BaseUserManager[Any, Any]):
        reset_password_token_secret = verification_token_secret = SECRET

    with caplog.at_level(logging.WARNING, "fastapi_users.authentication"):
        assert await get_token_owner("x", WithWrongIDs(InMemoryUserDatabase[User, uuid.UUID](User))) is None

    assert len(caplog.messages) == 1


async def test_a_password_that_is_refused_by_false_is_told_of() -> None:
    class Refusing(Manager):
        async def validate_password(self, password: str, user: Any) -> Any:
            return False

    manager = Refusing(InMemoryUserDatabase[User, uuid.UUID](User))
    user_create = schemas.BaseUserCreate(email="ann@example.com", password="short")
    with pytest.warns(
        InsecureSettingWarning, match=r"^Refusing.validate_password returned False, which refuses nothing"
    ):
        await manager.create(user_create)

    assert (await manager.get_by_email("ann@example.com")).email == "ann@example.com"  # as in version 15


async def test_a_secret_that_is_missing_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def forget() -> None:
        await WithoutSecrets(BaseUserDatabase()).forgot_password(User("ann@example.com", hashed_password="x"))

    await do_unseen("forgot_password", forget, user_manager=get_user_manager(), request=None)

    assert caplog.messages[0].startswith(
        "forgot_password failed after the answer (MissingSetting: WithoutSecrets has neither login_ticket_secret nor reset_"
    )


def test_backends_may_be_a_set() -> None:
    users = FastAPIUsers[Any, Any](get_user_manager, cast("Any", {backend()}))

    assert "jwt" in signature(users.current_user()).parameters


def test_what_only_looks_wrong_is_taken() -> None:
    """As version 15 takes it: in the tests of applications, for example."""

    @contextmanager
    def span() -> Iterator[None]:
        yield

    @span()
    def get_traced_manager() -> Manager:
        return get_user_manager()

    class WithNumber(Manager):
        reset_password_token_secret: Any = 20240101  # of a route that is not mounted

    assert isinstance(FastAPIUsers[Any, Any](get_traced_manager, [backend()]).get_user_manager(), Manager)
    WithNumber(cast("Any", lambda: None))
    JWTStrategy[Any, Any](MagicMock(), 3600)
    SQLAlchemyAccessTokenDatabase(session, MagicMock())
