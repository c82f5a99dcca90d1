from fastapi_users.db.beanie import (
    AP_BEANIE,
    BeanieAccessTokenDatabase,
    BeanieBaseAccessToken,
    BeanieBaseAccessTokenDocument,
)

__all__ = [
    "AP_BEANIE",
    "BeanieAccessTokenDatabase",
    "BeanieBaseAccessToken",
    "BeanieBaseAccessTokenDocument",
]
