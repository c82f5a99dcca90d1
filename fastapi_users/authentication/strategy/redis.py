import json
import math
import secrets
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Generic

from fastapi_users import exceptions, models  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.base import (
    Authentication,
    Strategy,
    current_authentication,
    get_token_owner,
    refuse_if_changed,
    stored_forms,
    token_digest,
)
from fastapi_users.exceptions import CredentialsChanged
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

with needs_extra("redis"):
    import redis.asyncio


class RedisStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Random tokens under ``key_prefix`` in Redis, which forgets them after ``lifetime_seconds`` (``None``: never).

    With ``hash_tokens`` the keys hold digests, so that whoever reads them cannot log in with what they find. Tokens from
    before it was switched on count until they expire; switching it off again logs everyone out.

    With ``index_by_user``, one sorted set per user knows which tokens there are, for ``destroy_all_tokens``. A client
    that is no redis-py, and has ``get``, ``set`` and ``delete`` only, is asked for nothing else.
    """

    # Also of a subclass with an __init__ of its own.
    key_prefix: str = "fastapi_users_token:"
    hash_tokens: bool = False
    index_by_user: bool = True

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        lifetime_seconds: int | None = None,
        *,
        key_prefix: str = "fastapi_users_token:",
        hash_tokens: bool = False,
        index_by_user: bool = True,
    ) -> None:
        self.redis = redis
        self.lifetime_seconds = lifetime_seconds
        self.key_prefix = key_prefix
        self.hash_tokens = hash_tokens
        self.index_by_user = index_by_user

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        if token is None or (self.key_prefix + token).startswith(_INDEX_PREFIX):  # with an empty prefix of ours
            return None
        for stored in stored_forms(token, hash_tokens=self.hash_tokens):
            user_id: Any = await self.redis.get(self.key_prefix + stored)
            if user_id is not None:
                return await get_token_owner(_as_text(user_id), user_manager)
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
        """:raises CredentialsChanged: what the login proved counts no more: see ``proven_credentials``."""
        token = secrets.token_urlsafe()
        stored = token_digest(token) if self.hash_tokens else token
        index = self._index(user)
        if index is not None:
            await self._enter(index, stored)
        authentication = current_authentication.get()
        if authentication is not None:
            # Under a key of its own: other readers of the token's key, and upstream, expect an id there.
            kept = {"auth_time": authentication.time.timestamp(), "amr": authentication.methods}
            await self.redis.set(self._authentication_key(stored), json.dumps(kept), ex=self.lifetime_seconds)
        await self.redis.set(self.key_prefix + stored, str(user.id), ex=self.lifetime_seconds)
        if index is not None and await self.redis.zscore(index, stored) is None:
            # All sessions of the user were ended since it was entered: perhaps before it was there to be deleted.
            await self.redis.delete(self.key_prefix + stored, self._authentication_key(stored))
        try:
            await refuse_if_changed()
        except CredentialsChanged:
            await self.redis.delete(self.key_prefix + stored, self._authentication_key(stored))
            if index is not None:
                await self.redis.zrem(index, stored)
            raise
        return token

    async def destroy_token(self, token: str, user: UP) -> None:
        forms, index = stored_forms(token, hash_tokens=self.hash_tokens), self._index(user)
        for stored in forms:
            await self.redis.delete(self.key_prefix + stored)
            if self.lifetime_seconds is None:  # Redis would keep it for ever
                await self.redis.delete(self._authentication_key(stored))
        if index is not None:
            await self.redis.zrem(index, *forms)

    async def destroy_all_tokens(self, user: UP, *, except_tokens: Sequence[str] = ()) -> int:
        """End every session of a user but these, and tell how many those were: none, where there is no index.

        Tokens from before there was one are not in it. One that is written at the same moment is ended, too.
        """
        index = self._index(user)
        if index is None:
            return 0
        exempt = {form for token in except_tokens for form in stored_forms(token, hash_tokens=self.hash_tokens)}
        entries: Any = await self.redis.zrange(index, 0, -1)
        stored = [entry for entry in map(_as_text, entries) if entry not in exempt]
        if not stored:
            return 0
        keys = [self.key_prefix + entry for entry in stored]
        ended: int = await self.redis.delete(*keys)
        # What is entered, but not yet written, finds after its writing either this entry gone, or is deleted here.
        await self.redis.zrem(index, *stored)
        await self.redis.delete(*keys, *map(self._authentication_key, stored))
        return ended

    def _index(self, user: UP) -> str | None:
        """The key of the user's index. It does not begin with the prefix of tokens, so that no client can ask for it."""
        is_kept = self.index_by_user and hasattr(type(self.redis), "zadd")
        return f"{_INDEX_PREFIX}{self.key_prefix}{user.id}" if is_kept else None

    async def _enter(self, index: str, stored: str) -> None:
        """Scores are the times at which tokens expire; the index goes with the last of them."""
        now, lifetime = time.time(), self.lifetime_seconds
        async with self.redis.pipeline() as pipeline:
            pipeline.zremrangebyscore(index, "-inf", now - _LEEWAY_SECONDS)
            pipeline.zadd(index, {stored: math.inf if lifetime is None else now + lifetime})
            pipeline.zrange(index, -1, -1, withscores=True)
            *_, [[_, last]] = await pipeline.execute()
        if math.isinf(last):
            await self.redis.persist(index)
        else:
            await self.redis.expireat(index, math.ceil(last) + _LEEWAY_SECONDS)

    def _authentication_key(self, stored: str) -> str:
        return f"{self.key_prefix}{stored}:authentication"


_INDEX_PREFIX = "fastapi_users_index_by_user:"
_LEEWAY_SECONDS = 60
"""By which clocks may differ, ours and those of Redis."""


class RedisDenylist:
    """What :class:`~fastapi_users.authentication.strategy.denylist.Denylist` is, for several processes."""

    def __init__(self, redis: redis.asyncio.Redis, *, key_prefix: str = "fastapi_users_denied:") -> None:
        self.redis = redis
        self.key_prefix = key_prefix

    async def put(self, digest: str, value: str, expires_at: datetime | None) -> None:
        seconds = None if expires_at is None else max(1, math.ceil(expires_at.timestamp() - time.time()))
        await self.redis.set(self.key_prefix + digest, value, ex=seconds)

    async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
        values: Any = await self.redis.mget([self.key_prefix + digest for digest in digests])
        return [None if value is None else _as_text(value) for value in values]


def _as_text(value: Any) -> Any:
    """Of a client with or without ``decode_responses``."""
    return value.decode() if isinstance(value, bytes) else value
