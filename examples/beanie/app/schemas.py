from beanie import PydanticObjectId

from fastapi_users import schemas


class UserRead(schemas.BaseUser[PydanticObjectId]):
    nickname: str | None = None


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = None


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = None
