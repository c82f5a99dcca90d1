from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.authentication.strategy.base import Authentication, Strategy, StrategyDestroyNotSupportedError
from fastapi_users.authentication.strategy.db import AP, AccessTokenDatabase, AccessTokenProtocol, DatabaseStrategy
from fastapi_users.authentication.strategy.denylist import Denylist, InMemoryDenylist, StoreDenylist
from fastapi_users.authentication.strategy.jwt import JWTStrategy

if TYPE_CHECKING:
    from fastapi_users.authentication.strategy.redis import RedisDenylist, RedisStrategy

    __all__ = [
        "AP",
        "AccessTokenDatabase",
        "AccessTokenProtocol",
        "Authentication",
        "DatabaseStrategy",
        "Denylist",
        "InMemoryDenylist",
        "JWTStrategy",
        "RedisDenylist",
        "RedisStrategy",
        "StoreDenylist",
        "Strategy",
        "StrategyDestroyNotSupportedError",
    ]

_REDIS = Source("fastapi_users.authentication.strategy.redis", extra="redis")

__getattr__ = lazy_names(
    __name__,
    [
        "AP",
        "AccessTokenDatabase",
        "AccessTokenProtocol",
        "Authentication",
        "DatabaseStrategy",
        "Denylist",
        "InMemoryDenylist",
        "JWTStrategy",
        "StoreDenylist",
        "Strategy",
        "StrategyDestroyNotSupportedError",
    ],
    {"RedisDenylist": _REDIS, "RedisStrategy": _REDIS},
)
