"""What tests of accounts need: users without a database, mails without a server, time without waiting."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Generic

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users.models import ID, UP
from fastapi_users.password import PasswordHelper


@dataclass
class OAuthAccount:
    oauth_name: str
    access_token: str
    account_id: str
    account_email: str
    expires_at: int | None = None
    refresh_token: str | None = None
    id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass
class User:
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = False
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    oauth_accounts: list[OAuthAccount] = field(default_factory=list)


@dataclass
class AccessToken:
    token: str
    user_id: uuid.UUID
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class InMemoryUserDatabase(BaseUserDatabase[UP, ID], Generic[UP, ID]):
    """Users in a dictionary. An address that is taken is refused with ``UserAlreadyExists``.

    The models are called with keyword arguments, like the classes of an ORM: ``User`` and ``OAuthAccount`` of this
    module, or dataclasses of yours with more fields.
    """

    def __init__(self, user_model: type[UP], oauth_account_model: type[Any] | None = None) -> None:
        self.user_model = user_model
        self.oauth_account_model = oauth_account_model
        self.users: dict[ID, UP] = {}

    async def get(self, id: ID) -> UP | None:
        return self.users.get(id)

    async def get_by_email(self, email: str) -> UP | None:
        return next((user for user in self.users.values() if user.email.casefold() == email.casefold()), None)

    async def get_by_oauth_account(self, oauth: str, account_id: str) -> UP | None:
        for user in self.users.values():
            accounts: list[Any] = getattr(user, "oauth_accounts", [])
            if any((account.oauth_name, account.account_id) == (oauth, account_id) for account in accounts):
                return user
        return None

    async def create(self, create_dict: dict[str, Any]) -> UP:
        if await self.get_by_email(create_dict["email"]) is not None:
            raise UserAlreadyExists
        user = self.user_model(**create_dict)
        self.users[user.id] = user
        return user

    async def update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        owner = await self.get_by_email(update_dict.get("email", user.email))
        if owner is not None and owner.id != user.id:
            raise UserAlreadyExists
        for name, value in update_dict.items():
            setattr(user, name, value)
        return user

    async def delete(self, user: UP) -> None:
        del self.users[user.id]

    async def add_oauth_account(self, user: Any, create_dict: dict[str, Any]) -> Any:
        if self.oauth_account_model is None:
            raise NotImplementedError("OAuth accounts need a model: InMemoryUserDatabase(User, OAuthAccount).")
        user.oauth_accounts.append(self.oauth_account_model(**create_dict))
        return user

    async def update_oauth_account(self, user: Any, oauth_account: Any, update_dict: dict[str, Any]) -> Any:
        for name, value in update_dict.items():
            setattr(oauth_account, name, value)
        return user


class InMemoryAccessTokenDatabase(AccessTokenDatabase[AP], Generic[AP]):
    """Access tokens in a dictionary, for ``DatabaseStrategy``."""

    def __init__(self, access_token_model: type[AP]) -> None:
        self.access_token_model = access_token_model
        self.access_tokens: dict[str, AP] = {}

    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP | None:
        access_token = self.access_tokens.get(token)
        if access_token is not None and max_age is not None and access_token.created_at < max_age:
            return None
        return access_token

    async def create(self, create_dict: dict[str, Any]) -> AP:
        access_token = self.access_token_model(**create_dict)
        self.access_tokens[access_token.token] = access_token
        return access_token

    async def update(self, access_token: AP, update_dict: dict[str, Any]) -> AP:
        for name, value in update_dict.items():
            setattr(access_token, name, value)
        return access_token

    async def delete(self, access_token: AP) -> None:
        del self.access_tokens[access_token.token]


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    text: str

    @property
    def token(self) -> str:
        """The first token (a JWT) in the text.

        :raises LookupError: there is none.
        """
        found = re.search(r"eyJ[\w-]*\.[\w-]+\.[\w-]+", self.text, re.ASCII)  # {" in base64
        if found is None:
            raise LookupError(f"There is no token in the mail {self.subject!r} to {self.to}.")
        return found[0]


class Outbox:
    """Stands for the mail server: hand it to your manager, send to it in the hooks, and read what a user got."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    def send(self, *, to: str, subject: str, text: str) -> None:
        self.mails.append(Mail(to, subject, text))

    def last(self, to: str) -> Mail:
        """:raises LookupError: this address got no mail."""
        for mail in reversed(self.mails):
            if mail.to == to:
                return mail
        raise LookupError(f"No mail was sent to {to}.")


class Clock:
    """The time of the whole process, which stands still until you move it: made by :func:`frozen_clock`."""

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller

    @property
    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def advance(self, *, seconds: float) -> None:
        self._traveller.shift(timedelta(seconds=seconds))


@contextmanager
def frozen_clock(at: datetime | None = None) -> Iterator[Clock]:
    """Stop the time, at the given moment or now, so that lifetimes can be tested without waiting.

    The clock of the event loop goes on, so that timeouts still work.

    :raises ModuleNotFoundError: time-machine is not installed (extra ``testing``).
    """
    with needs_extra("testing"):
        import time_machine  # noqa: PLC0415 -- an optional package

    with time_machine.travel(at or datetime.now(timezone.utc), tick=False) as traveller:
        yield Clock(traveller)


def weak_password_helper() -> PasswordHelper:
    """Real argon2id hashes with the smallest settings there are: a hundred times faster, for tests only."""
    from pwdlib import PasswordHash  # noqa: PLC0415 -- a second library for hashes, needed here only
    from pwdlib.hashers.argon2 import Argon2Hasher  # noqa: PLC0415 -- the same

    return PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))
