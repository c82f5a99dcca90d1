from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.router.auth import get_auth_router
from fastapi_users.router.common import ErrorCode
from fastapi_users.router.jwks import get_jwks_router
from fastapi_users.router.oauth_accounts import get_oauth_accounts_router
from fastapi_users.router.reauthenticate import get_reauthenticate_router
from fastapi_users.router.register import get_register_router
from fastapi_users.router.reset import get_reset_password_router
from fastapi_users.router.users import get_users_router
from fastapi_users.router.verify import get_verify_router

if TYPE_CHECKING:
    from fastapi_users.router.oauth import get_oauth_associate_router, get_oauth_router

    __all__ = [
        "ErrorCode",
        "get_auth_router",
        "get_jwks_router",
        "get_oauth_accounts_router",
        "get_oauth_associate_router",
        "get_oauth_router",
        "get_reauthenticate_router",
        "get_register_router",
        "get_reset_password_router",
        "get_users_router",
        "get_verify_router",
    ]

_OAUTH = Source("fastapi_users.router.oauth", extra="oauth")

__getattr__ = lazy_names(
    __name__,
    [
        "ErrorCode",
        "get_auth_router",
        "get_jwks_router",
        "get_oauth_accounts_router",
        "get_reauthenticate_router",
        "get_register_router",
        "get_reset_password_router",
        "get_users_router",
        "get_verify_router",
    ],
    {"get_oauth_router": _OAUTH, "get_oauth_associate_router": _OAUTH},
)
