from fastapi import APIRouter, Depends, Request, Response, status
from fastapi.security import OAuth2PasswordRequestForm

from fastapi_users import models
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy
from fastapi_users.authentication.login import (
    PASSWORD_METHOD,
    check_credentials,
    complete_login,
    login_openapi_extra,
    refuse_unfit,
)
from fastapi_users.events import LoggedOut
from fastapi_users.exceptions import BadCredentials, UserNotVerified
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorCode, Refusals, SafeRoute, csrf_guard, csrf_responses

LOGIN = Refusals(
    {
        BadCredentials: (ErrorCode.LOGIN_BAD_CREDENTIALS, "Bad credentials or the user is inactive."),
        UserNotVerified: (ErrorCode.LOGIN_USER_NOT_VERIFIED, "The user is not verified."),
    }
)


def get_auth_router(
    backend: AuthenticationBackend[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    authenticator: Authenticator[models.UP, models.ID],
    requires_verification: bool = False,
) -> APIRouter:
    """Log in and out through one backend.

    :param requires_verification: refuse users whose address is not verified.
    """
    router = APIRouter(route_class=SafeRoute, dependencies=csrf_guard(backend))
    get_current_user_token = authenticator.current_user_token(active=True, verified=requires_verification)

    login_responses: OpenAPIResponseType = {
        **LOGIN.responses,
        **csrf_responses([backend]),
        **backend.transport.get_openapi_login_responses_success(),
    }
    logout_responses: OpenAPIResponseType = {
        status.HTTP_401_UNAUTHORIZED: {"description": "Missing token or inactive user."},
        **csrf_responses([backend]),
        **backend.transport.get_openapi_logout_responses_success(),
    }

    @router.post(
        "/login",
        name=f"auth:{backend.name}.login",
        responses=login_responses,
        openapi_extra=login_openapi_extra(backend),
    )
    async def login(
        request: Request,
        credentials: OAuth2PasswordRequestForm = Depends(),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        with LOGIN:
            user = await check_credentials(user_manager, credentials, request=request)
            refuse_unfit(user, requires_verification=requires_verification)
        # Not within the table: exceptions of the application's hooks are no refusals of ours.
        return await complete_login(
            backend,
            strategy,
            user=user,
            user_manager=user_manager,
            methods=[PASSWORD_METHOD],
            request=request,
            requires_verification=requires_verification,
        )

    @router.post("/logout", name=f"auth:{backend.name}.logout", responses=logout_responses)
    async def logout(
        request: Request,
        user_token: tuple[models.UP, str] = Depends(get_current_user_token),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        user, token = user_token
        facts = await user_manager._facts(request)
        event = LoggedOut(
            user_id=user.id, request=facts, backend=backend.name
        )  # some sessions forget the user at a commit
        response = await backend.logout(strategy, user, token)
        await user_manager._seam_event(event)
        return response

    return router
