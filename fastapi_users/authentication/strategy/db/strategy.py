import secrets
from datetime import datetime, timedelta, timezone
from typing import Any, Generic

from fastapi_users.authentication.strategy.base import Strategy, get_token_owner
from fastapi_users.authentication.strategy.db.adapter import AccessTokenDatabase
from fastapi_users.authentication.strategy.db.models import AP
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP


class DatabaseStrategy(Strategy[UP, ID], Generic[UP, ID, AP]):
    """Random tokens in a table. They count for ``lifetime_seconds`` after their creation (``None`` or 0: for ever)."""

    def __init__(self, database: AccessTokenDatabase[AP], lifetime_seconds: int | None = None) -> None:
        self.database = database
        self.lifetime_seconds = lifetime_seconds

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        if token is None:
            return None
        max_age = None
        if self.lifetime_seconds:
            max_age = datetime.now(timezone.utc) - timedelta(seconds=self.lifetime_seconds)
        access_token = await self.database.get_by_token(token, max_age)
        if access_token is None:
            return None
        return await get_token_owner(access_token.user_id, user_manager)

    async def write_token(self, user: UP) -> str:
        access_token = await self.database.create(self._create_access_token_dict(user))
        return access_token.token

    async def destroy_token(self, token: str, user: UP) -> None:
        access_token = await self.database.get_by_token(token)
        if access_token is not None:
            await self.database.delete(access_token)

    def _create_access_token_dict(self, user: UP) -> dict[str, Any]:
        """Override it to fill further columns."""
        return {"token": secrets.token_urlsafe(), "user_id": user.id}
