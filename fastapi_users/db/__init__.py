from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.db.base import BaseUserDatabase, UserDatabaseDependency

if TYPE_CHECKING:
    from fastapi_users.db.beanie import BaseOAuthAccount, BeanieBaseUser, BeanieUserDatabase, ObjectIDIDMixin
    from fastapi_users.db.sqlalchemy import (
        SQLAlchemyBaseOAuthAccountTable,
        SQLAlchemyBaseOAuthAccountTableUUID,
        SQLAlchemyBaseUserTable,
        SQLAlchemyBaseUserTableUUID,
        SQLAlchemyUserDatabase,
    )

    __all__ = [
        "BaseOAuthAccount",
        "BaseUserDatabase",
        "BeanieBaseUser",
        "BeanieUserDatabase",
        "ObjectIDIDMixin",
        "SQLAlchemyBaseOAuthAccountTable",
        "SQLAlchemyBaseOAuthAccountTableUUID",
        "SQLAlchemyBaseUserTable",
        "SQLAlchemyBaseUserTableUUID",
        "SQLAlchemyUserDatabase",
        "UserDatabaseDependency",
    ]

# The import names of upstream's adapter distributions: where one is replaced or blocked, its names follow.
_SQLALCHEMY = Source("fastapi_users_db_sqlalchemy", extra="sqlalchemy")
_BEANIE = Source("fastapi_users_db_beanie", extra="beanie")

__getattr__ = lazy_names(
    __name__,
    ["BaseUserDatabase", "UserDatabaseDependency"],
    {
        "SQLAlchemyBaseUserTable": _SQLALCHEMY,
        "SQLAlchemyBaseUserTableUUID": _SQLALCHEMY,
        "SQLAlchemyBaseOAuthAccountTable": _SQLALCHEMY,
        "SQLAlchemyBaseOAuthAccountTableUUID": _SQLALCHEMY,
        "SQLAlchemyUserDatabase": _SQLALCHEMY,
        "BeanieBaseUser": _BEANIE,
        "BaseOAuthAccount": _BEANIE,
        "BeanieUserDatabase": _BEANIE,
        "ObjectIDIDMixin": _BEANIE,
    },
)
