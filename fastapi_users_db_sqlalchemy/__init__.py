"""``fastapi_users.db.sqlalchemy`` under the import name of upstream's adapter distribution.

With whatever upstream's module has for its own use: applications import ``GUID`` or ``AsyncSession`` from it as well.
"""

from fastapi_users import __version__
from fastapi_users._lazy import needs_extra
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.db.sqlalchemy import (
    GUID,
    UUID_ID,
    SQLAlchemyBaseOAuthAccountTable,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTable,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.models import ID, OAP, UP
from fastapi_users_db_sqlalchemy import generics

with needs_extra("sqlalchemy"):
    from sqlalchemy import Boolean, ForeignKey, Integer, Select, String, func, select
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapped, declared_attr, mapped_column

__all__ = [
    "GUID",
    "ID",
    "OAP",
    "UP",
    "UUID_ID",
    "AsyncSession",
    "BaseUserDatabase",
    "Boolean",
    "ForeignKey",
    "Integer",
    "Mapped",
    "SQLAlchemyBaseOAuthAccountTable",
    "SQLAlchemyBaseOAuthAccountTableUUID",
    "SQLAlchemyBaseUserTable",
    "SQLAlchemyBaseUserTableUUID",
    "SQLAlchemyUserDatabase",
    "Select",
    "String",
    "__version__",
    "declared_attr",
    "func",
    "generics",
    "mapped_column",
    "select",
]
