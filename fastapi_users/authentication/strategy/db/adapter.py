from datetime import datetime
from typing import Any, Protocol

from fastapi_users.authentication.strategy.db.models import AP


class AccessTokenDatabase(Protocol[AP]):
    async def get_by_token(self, token: str, max_age: datetime | None = None) -> AP | None:
        """``max_age`` is the oldest ``created_at`` that still counts."""
        ...

    async def create(self, create_dict: dict[str, Any]) -> AP: ...

    async def update(self, access_token: AP, update_dict: dict[str, Any]) -> AP: ...

    async def delete(self, access_token: AP) -> None: ...
