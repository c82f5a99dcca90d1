from pydantic import BaseModel, Field

from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.db import AccessTokenDatabase
from fastapi_users.db.beanie import (
    AP_BEANIE,
    BeanieAccessTokenDatabase,
    BeanieBaseAccessToken,
    BeanieBaseAccessTokenDocument,
)

with needs_extra("beanie"):
    from beanie import Document, PydanticObjectId
    from pymongo import IndexModel

__all__ = [
    "AP_BEANIE",
    "AccessTokenDatabase",
    "BaseModel",
    "BeanieAccessTokenDatabase",
    "BeanieBaseAccessToken",
    "BeanieBaseAccessTokenDocument",
    "Document",
    "Field",
    "IndexModel",
    "PydanticObjectId",
]
