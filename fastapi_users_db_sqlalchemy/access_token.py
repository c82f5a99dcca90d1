from fastapi_users._lazy import needs_extra
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase
from fastapi_users.db.sqlalchemy import (
    GUID,
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTable,
    SQLAlchemyBaseAccessTokenTableUUID,
    TIMESTAMPAware,
    now_utc,
)
from fastapi_users.models import ID

with needs_extra("sqlalchemy"):
    from sqlalchemy import ForeignKey, String, select
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapped, declared_attr, mapped_column

__all__ = [
    "AP",
    "GUID",
    "ID",
    "AccessTokenDatabase",
    "AsyncSession",
    "ForeignKey",
    "Mapped",
    "SQLAlchemyAccessTokenDatabase",
    "SQLAlchemyBaseAccessTokenTable",
    "SQLAlchemyBaseAccessTokenTableUUID",
    "String",
    "TIMESTAMPAware",
    "declared_attr",
    "mapped_column",
    "now_utc",
    "select",
]
