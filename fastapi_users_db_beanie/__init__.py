"""``fastapi_users.db.beanie`` under the import name of upstream's adapter distribution."""

from fastapi_users import __version__
from fastapi_users.db.beanie import (
    UP_BEANIE,
    BaseOAuthAccount,
    BeanieBaseUser,
    BeanieBaseUserDocument,
    BeanieUserDatabase,
    ObjectIDIDMixin,
)

__all__ = [
    "UP_BEANIE",
    "BaseOAuthAccount",
    "BeanieBaseUser",
    "BeanieBaseUserDocument",
    "BeanieUserDatabase",
    "ObjectIDIDMixin",
    "__version__",
]
