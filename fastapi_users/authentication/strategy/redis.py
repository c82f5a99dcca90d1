import secrets
from typing import Any, Generic

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.base import Strategy, get_token_owner
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

with needs_extra("redis"):
    import redis.asyncio


class RedisStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Random tokens under ``key_prefix`` in Redis, which forgets them after ``lifetime_seconds`` (``None``: never)."""

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        lifetime_seconds: int | None = None,
        *,
        key_prefix: str = "fastapi_users_token:",
    ) -> None:
        self.redis = redis
        self.lifetime_seconds = lifetime_seconds
        self.key_prefix = key_prefix

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        if token is None:
            return None
        user_id: Any = await self.redis.get(self.key_prefix + token)
        if user_id is None:
            return None
        if isinstance(user_id, bytes):  # a client without decode_responses
            user_id = user_id.decode()
        return await get_token_owner(user_id, user_manager)

    async def write_token(self, user: UP) -> str:
        token = secrets.token_urlsafe()
        await self.redis.set(self.key_prefix + token, str(user.id), ex=self.lifetime_seconds)
        return token

    async def destroy_token(self, token: str, user: UP) -> None:
        await self.redis.delete(self.key_prefix + token)
