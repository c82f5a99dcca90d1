from fastapi import APIRouter, Depends, Request, Response, status
from fastapi.security import OAuth2PasswordRequestForm

from fastapi_users import models
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy
from fastapi_users.exceptions import BadCredentials, UserNotVerified
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorCode, Refusals, SafeRoute

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
    router = APIRouter(route_class=SafeRoute)
    get_current_user_token = authenticator.current_user_token(active=True, verified=requires_verification)

    login_responses: OpenAPIResponseType = {
        **LOGIN.responses,
        **backend.transport.get_openapi_login_responses_success(),
    }
    logout_responses: OpenAPIResponseType = {
        status.HTTP_401_UNAUTHORIZED: {"description": "Missing token or inactive user."},
        **backend.transport.get_openapi_logout_responses_success(),
    }

    @router.post("/login", name=f"auth:{backend.name}.login", responses=login_responses)
    async def login(
        request: Request,
        credentials: OAuth2PasswordRequestForm = Depends(),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        with LOGIN:
            user = await user_manager.authenticate(credentials)
            if user is None or not user.is_active:
                raise BadCredentials
            if requires_verification and not user.is_verified:
                raise UserNotVerified
        response = await backend.login(strategy, user)
        await user_manager.on_after_login(user, request, response)
        return response

    @router.post("/logout", name=f"auth:{backend.name}.logout", responses=logout_responses)
    async def logout(
        user_token: tuple[models.UP, str] = Depends(get_current_user_token),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        user, token = user_token
        return await backend.logout(strategy, user, token)

    return router
