from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.authentication.strategy.base import Authentication, Strategy, StrategyDestroyNotSupportedError
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase, AccessTokenProtocol, DatabaseStrategy
from fastapi_users.authentication.strategy.jwt import JWTStrategy

if TYPE_CHECKING:
    from fastapi_users.authentication.strategy.redis import RedisStrategy

    __all__ = [
        "AP",
        "AccessTokenDatabase",
        "AccessTokenProtocol",
        "Authentication",
        "DatabaseStrategy",
        "JWTStrategy",
        "RedisStrategy",
        "Strategy",
        "StrategyDestroyNotSupportedError",
    ]

__getattr__ = lazy_names(
    __name__,
    [
        "AP",
        "AccessTokenDatabase",
        "AccessTokenProtocol",
        "Authentication",
        "DatabaseStrategy",
        "JWTStrategy",
        "Strategy",
        "StrategyDestroyNotSupportedError",
    ],
    {"RedisStrategy": Source("fastapi_users.authentication.strategy.redis", extra="redis")},
)
