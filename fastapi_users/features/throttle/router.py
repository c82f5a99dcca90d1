from typing import Any

from fastapi import APIRouter, Depends, Request, status
from fastapi.routing import APIRoute

from fastapi_users import FastAPIUsers
from fastapi_users.features.throttle.errors import THROTTLE_RESPONSES

_MAILING = {"reset:forgot_password": "reset-password", "verify:request-token": "verify"}
_OF_TOKENS = ("reset:reset_password", "verify:verify")
_REGISTRATION = "register:register"


def get_throttled_router(fastapi_users: FastAPIUsers[Any, Any], router: APIRouter) -> APIRouter:
    """The same routes, with the limits of registrations, mails and mailed tokens, and with 429 and 503 in the OpenAPI document.

    Logins need it for the document only: their limits are in the manager.
    """

    async def count(request: Request, user_manager: Any = Depends(fastapi_users.get_user_manager)) -> None:
        route = request.scope["route"].name
        if route in _OF_TOKENS:
            await user_manager.throttle_client("tokens", request)
        elif route == _REGISTRATION:
            await user_manager.throttle_client("register", request)
            await _throttle_email(user_manager, "registrations_per_email", request)
        else:
            await user_manager.throttle_client("mail_requests", request)
            await _throttle_email(user_manager, "mails", request, purpose=_MAILING[route])

    throttled = APIRouter()
    for route in router.routes:
        if not isinstance(route, APIRoute):
            throttled.routes.append(route)
            continue
        alone = APIRouter(routes=[route])
        if _is_limited(route):
            limited = route.name in (*_OF_TOKENS, _REGISTRATION, *_MAILING)
            throttled.include_router(
                alone, dependencies=[Depends(count)] if limited else None, responses=THROTTLE_RESPONSES
            )
        else:
            throttled.include_router(alone)
    return throttled


def _is_limited(route: APIRoute) -> bool:
    """A route that checks something says so by its answer 400; those that mail answer everybody alike."""
    return route.name in _MAILING or status.HTTP_400_BAD_REQUEST in route.responses


async def _throttle_email(user_manager: Any, name: str, request: Request, **options: Any) -> None:
    """By what was sent, before anybody looks it up: known or not, it is refused alike."""
    email = await _submitted_email(request)
    if email is not None:
        await user_manager.throttle_email(name, email, request, **options)


async def _submitted_email(request: Request) -> str | None:
    """``None`` where the body is none that the route takes."""
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return None
    email = body.get("email") if isinstance(body, dict) else None
    return email if isinstance(email, str) else None
