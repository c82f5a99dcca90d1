from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, status
from pydantic import EmailStr

from fastapi_users import (
    exceptions,  # noqa: F401 -- applications import it from here, as from upstream's
    models,
    schemas,
)
from fastapi_users.authentication import Authenticator
from fastapi_users.background import do_unseen
from fastapi_users.exceptions import (
    InvalidPasswordException,
    InvalidResetPasswordToken,
    UserInactive,
    UserNotExists,
)
from fastapi_users.manager import BaseUserManager, UserManagerDependency, ending_sessions
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import (
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    session_ender_of,
)

_BAD_TOKEN = (ErrorCode.RESET_PASSWORD_BAD_TOKEN, "Bad or expired token.")

RESET_PASSWORD = Refusals(
    {
        InvalidResetPasswordToken: _BAD_TOKEN,
        UserNotExists: _BAD_TOKEN,
        UserInactive: _BAD_TOKEN,
        InvalidPasswordException: (ErrorCode.RESET_PASSWORD_INVALID_PASSWORD, "Password validation failed."),
    }
)
RESET_PASSWORD_RESPONSES: OpenAPIResponseType = RESET_PASSWORD.responses


def get_reset_password_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    *,
    authenticator: Authenticator[models.UP, models.ID] | None = None,
) -> APIRouter:
    """
    :param authenticator: over all backends of the application, whose sessions of a user end with the reset.
    """
    router = APIRouter(route_class=SafeRoute)
    get_session_ender = session_ender_of(authenticator)

    @router.post("/forgot-password", name="reset:forgot_password", status_code=status.HTTP_202_ACCEPTED)
    async def forgot_password(
        request: Request,
        email: EmailStr = Body(..., embed=True),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        async def forgot() -> None:
            with suppress(UserNotExists, UserInactive):
                user = await user_manager.get_by_email(email)
                await user_manager.forgot_password(user, request)

        await do_unseen("forgot_password", forgot, user_manager=user_manager, request=request)

    @router.post("/reset-password", name="reset:reset_password", responses=RESET_PASSWORD_RESPONSES)
    async def reset_password(
        request: Request,
        token: Annotated[schemas.StorableStr, Body()],
        password: Annotated[schemas.StorableStr, Body()],
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        end_sessions: Callable[[models.UP], Awaitable[None]] | None = Depends(get_session_ender),
    ) -> None:
        with RESET_PASSWORD, ending_sessions(end_sessions):
            await user_manager.reset_password(token, password, request)

    return router
