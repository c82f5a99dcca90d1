from redis.asyncio import ConnectionPool

from fastapi_users.features.throttle import Throttle
from fastapi_users.features.throttle.limits import open_storage

from .settings import REDIS_URL

pool = None if REDIS_URL is None else ConnectionPool.from_url(REDIS_URL)
storage = "memory://" if REDIS_URL is None else open_storage(REDIS_URL, connection_pool=pool)
throttle = Throttle(storage)


async def close_connections() -> None:
    if pool is not None:
        await pool.aclose()
