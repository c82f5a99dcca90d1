import secrets
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Any, Generic

from fastapi_users import exceptions, models  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users.authentication.strategy.base import (
    Authentication,
    Strategy,
    get_token_owner,
    is_digest,
    proven_credentials,
    refuse_if_changed,
    stored_forms,
    token_digest,
)
from fastapi_users.authentication.strategy.db.adapter import AccessTokenDatabase
from fastapi_users.authentication.strategy.db.models import AP
from fastapi_users.db.base import is_adapter
from fastapi_users.exceptions import CredentialsChanged
from fastapi_users.insecure import endless, warn_once
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP


class DatabaseStrategy(Strategy[UP, ID], Generic[UP, ID, AP]):
    """Random tokens in a table. They count for ``lifetime_seconds`` after their creation (``None`` or 0: for ever).

    With ``hash_tokens`` the table holds digests, so that whoever reads it cannot log in with what it finds. Rows from
    before it was switched on count until they expire; switching it off again logs everyone out.

    :raises ValueError: with ``strict``, the lifetime is not more than 0.
    """

    hash_tokens: bool = False  # also of a subclass with an __init__ of its own

    def __init__(
        self,
        database: AccessTokenDatabase[AP],
        lifetime_seconds: int | None = None,
        *,
        hash_tokens: bool = False,
        strict: bool = False,
    ) -> None:
        self.database = database
        self.lifetime_seconds = lifetime_seconds
        self.hash_tokens = hash_tokens
        if strict and (lifetime_seconds is None or lifetime_seconds <= 0):
            raise ValueError(f"{type(self).__name__} is strict: lifetime_seconds has to be more than 0.")
        if lifetime_seconds == 0:
            warn_once(endless(f"{type(self).__name__}.lifetime_seconds"))

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        access_token = None if token is None else await self._find(token, getattr(user_manager, "user_db", None))
        return None if access_token is None else await get_token_owner(access_token.user_id, user_manager)

    async def read_authentication(self, token: str) -> Authentication | None:
        """A row is made by a login: ``created_at`` is its time. By which methods is not kept in this table."""
        access_token = await self._find(token)
        if access_token is None:
            return None
        created_at = access_token.created_at
        # MongoDB returns times without their zone, which is UTC.
        return Authentication(
            methods=(), time=created_at if created_at.tzinfo is not None else created_at.replace(tzinfo=timezone.utc)
        )

    async def _find(self, token: str, user_db: Any = None) -> AP | None:
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            access_token = await self._look_up(stored, user_db)
            # Some collations find a digest by a text that only resembles it: a row with one needs the very same.
            if access_token is not None and (
                not is_digest(access_token.token) or access_token.token == stored != token
            ):
                return access_token
        return None

    def _look_up(self, stored: str, user_db: Any) -> Awaitable[AP | None]:
        if is_adapter(user_db) and hasattr(type(self.database), "get_by_token_with_user"):  # ours
            found: Awaitable[AP | None] = self.database.get_by_token_with_user(stored, self._oldest(), user_db)  # type: ignore[attr-defined]  # looked for above
            return found
        return self.database.get_by_token(stored, self._oldest())

    async def write_token(self, user: UP) -> str:
        """:raises CredentialsChanged: what the login proved counts no more: see ``proven_credentials``."""
        create_dict = self._create_access_token_dict(user)
        if not self.hash_tokens:
            return (await self._create(create_dict)).token
        token: str = create_dict["token"]
        await self._create({**create_dict, "token": token_digest(token)})
        return token

    async def _create(self, create_dict: dict[str, Any]) -> AP:
        credentials, database = proven_credentials.get(), self.database
        if credentials is not None and hasattr(type(database), "create_for"):  # an ability of ours: in one step
            created: AP | None = await database.create_for(credentials, create_dict)  # type: ignore[attr-defined]  # looked for above
            if created is not None:
                return created
        access_token = await database.create(create_dict)
        try:
            await refuse_if_changed()
        except CredentialsChanged:
            await database.delete(access_token)
            raise
        return access_token

    async def destroy_token(self, token: str, user: UP) -> None:
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            if hasattr(type(self.database), "delete_by_token"):  # an ability of ours: without reading it first
                if await self.database.delete_by_token(stored):  # type: ignore[attr-defined]  # looked for above
                    return
            else:
                access_token = await self.database.get_by_token(stored)
                if access_token is not None:
                    await self.database.delete(access_token)
                    return

    async def destroy_all_tokens(self, user: UP, *, except_tokens: Sequence[str] = ()) -> int:
        """End every session of a user but these, and tell how many those were: none, where the adapter has no
        ``delete_by_user``.
        """
        if not hasattr(type(self.database), "delete_by_user"):
            return 0
        exempt: dict[str, Any] = {}
        if except_tokens:
            forms = [stored_forms(token, hash_tokens=self.hash_tokens) for token in except_tokens]
            exempt["except_tokens"] = [*chain.from_iterable(forms)]
        ended: int = await self.database.delete_by_user(user.id, **exempt)  # type: ignore[attr-defined]  # looked for above
        return ended

    async def cleanup(self) -> int:
        """Delete the tokens that have expired, and tell how many those were. Call it now and then, from a cron job say.

        :raises NotImplementedError: the adapter has no ``delete_created_before``.
        """
        oldest = self._oldest()
        if oldest is None:
            return 0
        if not hasattr(type(self.database), "delete_created_before"):
            raise NotImplementedError(f"{type(self.database).__name__} has no delete_created_before(moment).")
        deleted: int = await self.database.delete_created_before(oldest)  # type: ignore[attr-defined]  # looked for above
        return deleted

    def _oldest(self) -> datetime | None:
        if not self.lifetime_seconds:
            return None
        return datetime.now(timezone.utc) - timedelta(seconds=self.lifetime_seconds)

    def _create_access_token_dict(self, user: UP) -> dict[str, Any]:
        """Override it to fill further columns. The token is the clear one."""
        return {"token": secrets.token_urlsafe(), "user_id": user.id}
