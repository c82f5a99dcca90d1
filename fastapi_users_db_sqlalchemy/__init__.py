"""``fastapi_users.db.sqlalchemy`` under the import name of upstream's adapter distribution."""

from fastapi_users import __version__
from fastapi_users.db.sqlalchemy import (
    UUID_ID,
    SQLAlchemyBaseOAuthAccountTable,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTable,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users_db_sqlalchemy import generics

__all__ = [
    "UUID_ID",
    "SQLAlchemyBaseOAuthAccountTable",
    "SQLAlchemyBaseOAuthAccountTableUUID",
    "SQLAlchemyBaseUserTable",
    "SQLAlchemyBaseUserTableUUID",
    "SQLAlchemyUserDatabase",
    "__version__",
    "generics",
]
