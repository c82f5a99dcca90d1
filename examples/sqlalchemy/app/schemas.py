import uuid

from fastapi_users import schemas


class UserRead(schemas.BaseUser[uuid.UUID]):
    nickname: str | None = None


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = None


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = None
