import hashlib
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, Protocol

from fastapi_users import exceptions, models  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.schemas import is_storable

logger = logging.getLogger("fastapi_users.authentication")

MAX_TIME = 250_000_000_000  # in the year 9892: Python knows no times after 9999


class StrategyDestroyNotSupportedError(Exception):
    """Tokens of this strategy live until they expire."""


class Strategy(Protocol, Generic[UP, ID]):
    """How a token is made and read. As a base class it makes nothing abstract: implement what you use."""

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        """``None`` for every token that is not a good one. Flags are the authenticator's business."""
        ...

    async def write_token(self, user: UP) -> str: ...

    async def destroy_token(self, token: str, user: UP) -> None:
        """:raises StrategyDestroyNotSupportedError: logging out then only ends what the transport holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """How the user of a session proved who it is: RFC 8176 ``amr`` values, empty where unknown, and when."""

    methods: tuple[str, ...]
    time: datetime


current_authentication: ContextVar[Authentication | None] = ContextVar("current_authentication", default=None)
"""That of the login which is just writing its token. Not an argument of ``write_token``, which applications override.

A strategy that keeps it gives it back by a coroutine ``read_authentication(token)``, without which no session of it is
ever fresh.
"""


@dataclass(frozen=True, kw_only=True)
class ProvenCredentials:
    """What a user has just been known by, with the values that were loaded before the proof was checked."""

    user_db: BaseUserDatabase[Any, Any]
    user_id: Any
    fields: Mapping[str, Any] = field(repr=False)

    async def still_count(self) -> bool:
        return await self.user_db.holds(self.user_id, self.fields)


proven_credentials: ContextVar[ProvenCredentials | None] = ContextVar("proven_credentials", default=None)
"""Those of the login which is just writing its token; ``None`` where an adapter cannot tell.

Checking a password takes a while, in which its owner may have changed it and ended all sessions. A strategy that stores
its tokens asks **after** that whether they still count, and takes the token back if not: see ``refuse_if_changed``. What
is stored earlier was there to be ended.
"""


async def refuse_if_changed() -> None:
    """
    :raises CredentialsChanged: the password, the address or the activity of the user is not what it was.
    """
    credentials = proven_credentials.get()
    if credentials is not None and not await credentials.still_count():
        raise exceptions.CredentialsChanged


async def get_token_owner(user_id: Any, user_manager: BaseUserManager[UP, ID]) -> UP | None:
    """The user whose id a token holds; ``None`` when it is no id, or of nobody any more."""
    try:
        return await user_manager.get(user_manager.parse_id(user_id))
    except exceptions.InvalidID:
        _tell_of_unfit_ids(f"{type(user_manager).__module__}.{type(user_manager).__qualname__}")
        return None
    except exceptions.UserNotExists:
        return None


@lru_cache(maxsize=64)  # once per class: who changes the kind of the ids gets such tokens for a while
def _tell_of_unfit_ids(manager_class: str) -> None:
    logger.warning(
        "%s.parse_id refuses the id in a token of this application, so that its user is not logged in: list the mixin that "
        "fits your ids before BaseUserManager, UUIDIDMixin or IntegerIDMixin.",
        manager_class,
    )


def token_digest(token: str) -> str:
    """What is stored instead of a random token: ``$`` and 252 bits of its SHA-256, which fit the column of the token.

    The mark is in no token of ours, so that a stolen digest cannot be sent as the token of an old, clear row. A fast
    hash is enough, since nobody guesses 256 random bits (OWASP ASVS 5.0, 11.4).
    """
    return "$" + urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode()[:42]


_DIGEST = re.compile(r"\$[\w-]{42}", re.ASCII)


def is_digest(stored: str) -> bool:
    return stored.startswith("$") and _DIGEST.fullmatch(stored) is not None


def stored_forms(token: str, *, hash_tokens: bool) -> list[str]:
    """Under which values a token may be stored: its digest and, as before the digests were switched on, itself."""
    if not is_storable(token):
        return []
    return (
        [token] if not hash_tokens else [token_digest(token)] if token.startswith("$") else [token_digest(token), token]
    )
