from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response

from fastapi_users import models, schemas
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy
from fastapi_users.authentication.login import (
    PASSWORD_METHOD,
    CredentialCheck,
    complete_login,
    login_openapi_extra,
    report_failure,
    reporting_errors,
)
from fastapi_users.exceptions import BadCredentials, CredentialsChanged
from fastapi_users.hashing import HASHING_RESPONSES
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import UNAUTHORIZED, ErrorCode, Refusals, SafeRoute, csrf_responses

REAUTHENTICATE = Refusals(
    {BadCredentials: (ErrorCode.REAUTHENTICATE_BAD_CREDENTIALS, "Not the password of this user.")}
)
OUTDATED = Refusals(
    {CredentialsChanged: (ErrorCode.REAUTHENTICATE_BAD_CREDENTIALS, "The password changed while it was checked, say.")}
)


def get_reauthenticate_router(
    backend: AuthenticationBackend[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    authenticator: Authenticator[models.UP, models.ID],
) -> APIRouter:
    """Make the session of one backend fresh again, with the password: it is replaced by a new one.

    What else was proven in it before does not count any more: a second factor is asked for again.
    """
    router = APIRouter(route_class=SafeRoute)

    async def get_backends() -> list[AuthenticationBackend[models.UP, models.ID]]:
        return [backend]

    get_current_user_token = authenticator.current_user_token(active=True, get_enabled_backends=get_backends)
    responses: OpenAPIResponseType = {
        **REAUTHENTICATE.responses,
        **UNAUTHORIZED,
        **csrf_responses([backend]),
        **HASHING_RESPONSES,
        **backend.transport.get_openapi_login_responses_success(),
    }

    @router.post(
        "/reauthenticate",
        name=f"auth:{backend.name}.reauthenticate",
        responses=responses,
        openapi_extra=login_openapi_extra(backend),
    )
    async def reauthenticate(
        request: Request,
        password: Annotated[schemas.StorableStr, Body(embed=True)],
        user_token: tuple[models.UP, str] = Depends(get_current_user_token),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        user, token = user_token
        check = CredentialCheck(method=PASSWORD_METHOD, identifier=user.email, request=request)
        with REAUTHENTICATE:
            await user_manager._seam_before_credentials(check)
            async with reporting_errors(user_manager, check, user=user):
                is_right = await user_manager.check_password(user, password)
            if not is_right:
                await report_failure(user_manager, check, user=user)
                raise BadCredentials
        with OUTDATED:
            return await complete_login(
                backend,
                strategy,
                user=user,
                user_manager=user_manager,
                methods=[PASSWORD_METHOD],
                request=request,
                replaced_token=token,
            )

    return router
