from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.authentication.authenticator import Authenticator
from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.strategy import JWTStrategy, Strategy
from fastapi_users.authentication.transport import BearerTransport, CookieTransport, Transport

if TYPE_CHECKING:
    from fastapi_users.authentication.strategy import RedisStrategy

    __all__ = [
        "AuthenticationBackend",
        "Authenticator",
        "BearerTransport",
        "CookieTransport",
        "JWTStrategy",
        "RedisStrategy",
        "Strategy",
        "Transport",
    ]

__getattr__ = lazy_names(
    __name__,
    [
        "AuthenticationBackend",
        "Authenticator",
        "BearerTransport",
        "CookieTransport",
        "JWTStrategy",
        "Strategy",
        "Transport",
    ],
    {"RedisStrategy": Source("fastapi_users.authentication.strategy.redis", extra="redis")},
)
