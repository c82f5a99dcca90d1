from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.db.base import BaseUserDatabase, UserDatabaseDependency

if TYPE_CHECKING:
    from fastapi_users.db.sqlalchemy import (
        SQLAlchemyBaseOAuthAccountTable,
        SQLAlchemyBaseOAuthAccountTableUUID,
        SQLAlchemyBaseUserTable,
        SQLAlchemyBaseUserTableUUID,
        SQLAlchemyUserDatabase,
    )

    __all__ = [
        "BaseUserDatabase",
        "SQLAlchemyBaseOAuthAccountTable",
        "SQLAlchemyBaseOAuthAccountTableUUID",
        "SQLAlchemyBaseUserTable",
        "SQLAlchemyBaseUserTableUUID",
        "SQLAlchemyUserDatabase",
        "UserDatabaseDependency",
    ]

# The import name of upstream's adapter distribution: where that is replaced or blocked, these names follow.
_SQLALCHEMY = Source("fastapi_users_db_sqlalchemy", extra="sqlalchemy")

__getattr__ = lazy_names(
    __name__,
    ["BaseUserDatabase", "UserDatabaseDependency"],
    {
        "SQLAlchemyBaseUserTable": _SQLALCHEMY,
        "SQLAlchemyBaseUserTableUUID": _SQLALCHEMY,
        "SQLAlchemyBaseOAuthAccountTable": _SQLALCHEMY,
        "SQLAlchemyBaseOAuthAccountTableUUID": _SQLALCHEMY,
        "SQLAlchemyUserDatabase": _SQLALCHEMY,
    },
)
