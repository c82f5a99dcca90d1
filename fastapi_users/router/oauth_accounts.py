from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response, status

from fastapi_users import models
from fastapi_users.authentication import Authenticator
from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES
from fastapi_users.exceptions import LastLoginMethod, OAuthAccountNotExists
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import UNAUTHORIZED, UNVERIFIED, ErrorCode, Refusals, SafeRoute, csrf_responses
from fastapi_users.schemas import LinkedOAuthAccount

UNLINK = Refusals(
    {LastLoginMethod: (ErrorCode.OAUTH_LAST_LOGIN_METHOD, "Without this account the user could not log in any more.")}
)

_UNKNOWN: OpenAPIResponseType = {
    status.HTTP_404_NOT_FOUND: {"description": "The user has no such account."},
}


def get_oauth_accounts_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    authenticator: Authenticator[models.UP, models.ID],
    requires_verification: bool = False,
    *,
    fresh: float | None = None,
) -> APIRouter:
    """The own accounts at providers: list and unlink them.

    :param requires_verification: refuse users whose address is not verified.
    :param fresh: to unlink one, the user must have proven who it is in the last so many seconds.
    """
    router = APIRouter(route_class=SafeRoute)
    get_current_active_user = authenticator.current_user(active=True, verified=requires_verification)
    unverified = UNVERIFIED if requires_verification else {}
    get_fresh_user, refusals = get_current_active_user, {**UNAUTHORIZED, **unverified}
    if fresh is not None:
        get_fresh_user = authenticator.current_user(active=True, verified=requires_verification, fresh=fresh)
        refusals = {**REAUTHENTICATION_RESPONSES, **unverified}

    @router.get(
        "/oauth-accounts",
        name="oauth-accounts:list",
        response_model=list[LinkedOAuthAccount],
        responses={**UNAUTHORIZED, **unverified},
    )
    async def list_accounts(user: Any = Depends(get_current_active_user)) -> Any:
        return user.oauth_accounts

    @router.delete(
        "/oauth-accounts/{id}",
        name="oauth-accounts:unlink",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        responses={**UNLINK.responses, **refusals, **csrf_responses(authenticator.backends), **_UNKNOWN},
    )
    async def unlink(
        request: Request,
        id: str,
        user: Any = Depends(get_fresh_user),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        try:
            with UNLINK:
                await user_manager.oauth_remove_account(user, id, request=request)
        except OAuthAccountNotExists as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error

    return router
