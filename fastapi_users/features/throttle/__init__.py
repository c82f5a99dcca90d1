from fastapi_users.features.throttle.dependency import rate_limit
from fastapi_users.features.throttle.errors import THROTTLE_RESPONSES, ThrottleErrorCode
from fastapi_users.features.throttle.events import Throttled
from fastapi_users.features.throttle.manager import ThrottleMixin
from fastapi_users.features.throttle.router import get_throttled_router
from fastapi_users.features.throttle.settings import Throttle

__all__ = [
    "THROTTLE_RESPONSES",
    "Throttle",
    "ThrottleErrorCode",
    "ThrottleMixin",
    "Throttled",
    "get_throttled_router",
    "rate_limit",
]
