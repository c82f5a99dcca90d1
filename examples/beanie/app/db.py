from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient

from fastapi_users.db import BeanieBaseUser, BeanieUserDatabase
from fastapi_users.db.beanie import BeanieAccessTokenDatabase, BeanieBaseAccessToken, BeanieBaseOneTimeSecret

from .settings import DATABASE_URL


class User(BeanieBaseUser, Document):
    nickname: str | None = None

    class Settings(BeanieBaseUser.Settings):
        name = "users"


class AccessToken(BeanieBaseAccessToken, Document):
    """A session. Logging out deletes the document."""

    class Settings(BeanieBaseAccessToken.Settings):
        name = "access_tokens"


class OneTimeSecret(BeanieBaseOneTimeSecret, Document):
    """What makes a mailed token count once."""

    class Settings(BeanieBaseOneTimeSecret.Settings):
        name = "one_time_secrets"


def get_user_db() -> BeanieUserDatabase[User]:
    return BeanieUserDatabase(User)


def get_access_token_db() -> BeanieAccessTokenDatabase[AccessToken]:
    return BeanieAccessTokenDatabase(AccessToken)


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    client = AsyncMongoClient[dict[str, Any]](DATABASE_URL)
    try:
        await init_beanie(client["accounts"], document_models=[User, AccessToken, OneTimeSecret])
        yield
    finally:
        await client.close()
