import json
import secrets
from datetime import datetime, timezone
from typing import Any, Generic

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.base import (
    Authentication,
    Strategy,
    current_authentication,
    get_token_owner,
    stored_forms,
    token_digest,
)
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

with needs_extra("redis"):
    import redis.asyncio


class RedisStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Random tokens under ``key_prefix`` in Redis, which forgets them after ``lifetime_seconds`` (``None``: never).

    With ``hash_tokens`` the keys hold digests, so that whoever reads them cannot log in with what they find. Tokens from
    before it was switched on count until they expire; switching it off again logs everyone out.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        lifetime_seconds: int | None = None,
        *,
        key_prefix: str = "fastapi_users_token:",
        hash_tokens: bool = False,
    ) -> None:
        self.redis = redis
        self.lifetime_seconds = lifetime_seconds
        self.key_prefix = key_prefix
        self.hash_tokens = hash_tokens

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        if token is None:
            return None
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            user_id: Any = await self.redis.get(self.key_prefix + stored)
            if user_id is not None:
                if isinstance(user_id, bytes):  # a client without decode_responses
                    user_id = user_id.decode()
                return await get_token_owner(user_id, user_manager)
        return None

    async def read_authentication(self, token: str) -> Authentication | None:
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            found: Any = await self.redis.get(self._authentication_key(stored))
            if found is not None:
                kept = json.loads(found)
                return Authentication(
                    methods=tuple(kept["amr"]), time=datetime.fromtimestamp(kept["auth_time"], timezone.utc)
                )
        return None

    async def write_token(self, user: UP) -> str:
        token = secrets.token_urlsafe()
        stored = token_digest(token) if self.hash_tokens else token
        authentication = current_authentication.get()
        if authentication is not None:
            # Under a key of its own: other readers of the token's key, and upstream, expect an id there.
            kept = {"auth_time": authentication.time.timestamp(), "amr": authentication.methods}
            await self.redis.set(self._authentication_key(stored), json.dumps(kept), ex=self.lifetime_seconds)
        await self.redis.set(self.key_prefix + stored, str(user.id), ex=self.lifetime_seconds)
        return token

    async def destroy_token(self, token: str, user: UP) -> None:
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            await self.redis.delete(self.key_prefix + stored)
            if self.lifetime_seconds is None:  # Redis would keep it for ever
                await self.redis.delete(self._authentication_key(stored))

    def _authentication_key(self, stored: str) -> str:
        return f"{self.key_prefix}{stored}:authentication"
