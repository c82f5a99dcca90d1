import uuid

from pydantic import Field

from fastapi_users import schemas


class UserRead(schemas.LinkedOAuthAccountsMixin, schemas.BaseUser[uuid.UUID]):
    nickname: str | None = None


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = Field(None, max_length=100)


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = Field(None, max_length=100)
