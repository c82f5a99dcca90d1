"""What is written wrong fails where it is written, with one sentence that says what to write."""

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.db import (
    BaseUserDatabase,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import SQLAlchemyBaseOneTimeSecretTable
from fastapi_users.one_time import Purpose
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.world import SECRET


class Base(DeclarativeBase): ...


class Row(SQLAlchemyBaseUserTableUUID, Base): ...


class Account(SQLAlchemyBaseOAuthAccountTableUUID, Base): ...


class NoTable(SQLAlchemyBaseOneTimeSecretTable):
    """Somebody forgot the declarative base."""


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
    "keys of tokens that come with the request": (
        lambda: backend(get_strategy=partial(JWTStrategy[Any, Any], SECRET, 3600)),
        "The backend 'jwt' would let a request choose the keys of its tokens: write get_strategy=lambda: JWTStrategy(…).",
    ),
    "a class of strategies": (
        lambda: backend(get_strategy=JWTStrategy),
        "The backend 'jwt' would let a request choose the keys of its tokens: write get_strategy=lambda: JWTStrategy(…).",
    ),
    "the user class before the session": (
        lambda: untyped(Row, session),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
    ),
    "no class of users": (
        lambda: untyped(session, session),
        "Write SQLAlchemyUserDatabase(session, User): first a session, then the class of the users.",
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
