from enum import Enum
from typing import Any

from fastapi import HTTPException, status

from fastapi_users.features.throttle.limits import Rate
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorModel

_RETRY_SECONDS = 5


class ThrottleErrorCode(str, Enum):
    THROTTLE_TOO_MANY_REQUESTS = "THROTTLE_TOO_MANY_REQUESTS"
    THROTTLE_STORAGE_UNAVAILABLE = "THROTTLE_STORAGE_UNAVAILABLE"


def rate_fields(name: str, rate: Rate, *, remaining: int, seconds_left: int | None = None) -> dict[str, str]:
    """As draft-ietf-httpapi-ratelimit-headers-10 has them: quota, window; remaining, time."""
    reset = "" if seconds_left is None else f";t={seconds_left}"
    return {
        "RateLimit-Policy": f'"{name}";q={rate.amount};w={rate.seconds}',
        "RateLimit": f'"{name}";r={remaining}{reset}',
    }


def too_many_requests(name: str, rate: Rate, seconds_left: int) -> HTTPException:
    return HTTPException(
        status.HTTP_429_TOO_MANY_REQUESTS,
        ThrottleErrorCode.THROTTLE_TOO_MANY_REQUESTS,
        {"Retry-After": str(seconds_left), **rate_fields(name, rate, remaining=0, seconds_left=seconds_left)},
    )


def storage_unavailable() -> HTTPException:
    return HTTPException(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        ThrottleErrorCode.THROTTLE_STORAGE_UNAVAILABLE,
        {"Retry-After": str(_RETRY_SECONDS)},
    )


def _response(description: str, code: ThrottleErrorCode, *headers: str) -> dict[str, Any]:
    return {
        "description": description,
        "model": ErrorModel,
        "headers": {name: {"schema": {"type": "string"}} for name in ("Retry-After", *headers)},
        "content": {
            "application/json": {
                "examples": {
                    code.value: {
                        "summary": "Retry-After says in how many seconds.",
                        "value": {"detail": code.value},
                    }
                }
            }
        },
    }


THROTTLE_RESPONSES: OpenAPIResponseType = {
    status.HTTP_429_TOO_MANY_REQUESTS: _response(
        "Too many requests: come back later.",
        ThrottleErrorCode.THROTTLE_TOO_MANY_REQUESTS,
        "RateLimit",
        "RateLimit-Policy",
    ),
    status.HTTP_503_SERVICE_UNAVAILABLE: _response(
        "Requests cannot be counted just now: come back later.", ThrottleErrorCode.THROTTLE_STORAGE_UNAVAILABLE
    ),
}
"""For ``responses=`` of routes of yours with a :func:`rate_limit`. The 503 is that of a throttle with ``fails_open=False``."""
