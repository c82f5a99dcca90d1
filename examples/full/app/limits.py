from fastapi_users.features.throttle import Throttle

from .settings import REDIS_URL

throttle = Throttle(REDIS_URL or "memory://")
