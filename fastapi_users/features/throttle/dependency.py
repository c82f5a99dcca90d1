import re
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request, Response

from fastapi_users.features.throttle.errors import rate_fields
from fastapi_users.features.throttle.keys import subject_key
from fastapi_users.features.throttle.limiter import Limit
from fastapi_users.features.throttle.limits import parse_rates
from fastapi_users.features.throttle.settings import refuse_nothing
from fastapi_users.manager import UserManagerDependency


def rate_limit(
    limit: str,
    get_user_manager: UserManagerDependency[Any, Any],
    *,
    by: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Callable[..., Any]:
    """A dependency for any route: ``dependencies=[Depends(rate_limit("10/minute", get_user_manager))]``.

    Answers tell by the ``RateLimit`` fields how much is left, unless the route makes a ``Response`` of its own.

    :param limit: as in :class:`Throttle`.
    :param by: a dependency that gives what to count by: a user, such as ``current_user()``, or a text. By default it is
        the address of the client.
    :param name: routes with the same name share the limit. By default each has its own.
    :raises ValueError: the limit cannot be read or allows nothing, or the name is more than letters, digits and hyphens.
    """
    rates = parse_rates(limit)
    refuse_nothing(rates, f"rate_limit({limit!r})")
    if name is not None and re.fullmatch(r"[A-Za-z0-9-]+", name) is None:
        raise ValueError(f"{name!r} is no name of a limit: letters, digits and hyphens are.")
    shown_name = "rate-limit" if name is None else name

    async def count(request: Request, response: Response, user_manager: Any, subject: str | None) -> None:
        if subject is None:
            return
        route = request.scope.get("route")
        place = name or f"{request.method} {getattr(route, 'path', request.url.path)}"
        limits = [
            Limit(name=shown_name, key=f"rate-limit:{rate.seconds}:{place}:{subject}", rate=rate) for rate in rates
        ]
        remaining = await user_manager.throttle_request(limits, request)
        for used in remaining:
            for field, value in rate_fields(used.name, used.rate, remaining=remaining[used]).items():
                response.headers.append(field, value)

    async def by_address(request: Request, response: Response, user_manager: Any = Depends(get_user_manager)) -> None:
        await count(request, response, user_manager, user_manager.throttle_address(request))

    async def by_subject(
        request: Request,
        response: Response,
        user_manager: Any = Depends(get_user_manager),
        subject: Any = Depends(by),
    ) -> None:
        subject = getattr(subject, "id", subject)
        await count(request, response, user_manager, None if subject is None else subject_key(str(subject)))

    return by_address if by is None else by_subject
