"""``fastapi_users.db.beanie`` under the import name of upstream's adapter distribution.

With whatever upstream's module has for its own use: applications import ``PydanticObjectId`` from it as well.
"""

from pydantic import BaseModel, Field

from fastapi_users import __version__
from fastapi_users._lazy import needs_extra
from fastapi_users.db.base import BaseUserDatabase
from fastapi_users.db.beanie import (
    UP_BEANIE,
    BaseOAuthAccount,
    BeanieBaseUser,
    BeanieBaseUserDocument,
    BeanieUserDatabase,
    ObjectIDIDMixin,
)
from fastapi_users.exceptions import InvalidID
from fastapi_users.models import ID, OAP

with needs_extra("beanie"):
    import bson
    from beanie import Document, PydanticObjectId
    from pymongo import IndexModel
    from pymongo.collation import Collation

__all__ = [
    "ID",
    "OAP",
    "UP_BEANIE",
    "BaseModel",
    "BaseOAuthAccount",
    "BaseUserDatabase",
    "BeanieBaseUser",
    "BeanieBaseUserDocument",
    "BeanieUserDatabase",
    "Collation",
    "Document",
    "Field",
    "IndexModel",
    "InvalidID",
    "ObjectIDIDMixin",
    "PydanticObjectId",
    "__version__",
    "bson",
]
