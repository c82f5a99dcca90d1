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
from fastapi_users.exceptions import InvalidVerifyToken, UserAlreadyVerified, UserInactive, UserNotExists
from fastapi_users.manager import BaseUserManager, UserManagerDependency, ending_sessions
from fastapi_users.router.common import (
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    session_ender_of,
)

_BAD_TOKEN = (
    ErrorCode.VERIFY_USER_BAD_TOKEN,
    "Bad or expired token, unknown user, or the address is not the user's any more.",
)

VERIFY = Refusals(
    {
        InvalidVerifyToken: _BAD_TOKEN,
        UserNotExists: _BAD_TOKEN,
        UserAlreadyVerified: (ErrorCode.VERIFY_USER_ALREADY_VERIFIED, "The user is already verified."),
    }
)


def get_verify_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    *,
    authenticator: Authenticator[models.UP, models.ID] | None = None,
) -> APIRouter:
    """
    :param authenticator: over all backends of the application, whose sessions of a user end when a new address is
        confirmed.
    """
    router = APIRouter(route_class=SafeRoute)
    get_session_ender = session_ender_of(authenticator)

    @router.post("/request-verify-token", name="verify:request-token", status_code=status.HTTP_202_ACCEPTED)
    async def request_verify_token(
        request: Request,
        email: EmailStr = Body(..., embed=True),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        async def request_token() -> None:
            with suppress(UserNotExists, UserInactive, UserAlreadyVerified):
                user = await user_manager.get_by_email(email)
                await user_manager.request_verify(user, request)

        await do_unseen("request_verify", request_token, user_manager=user_manager, request=request)

    @router.post("/verify", name="verify:verify", response_model=user_schema, responses=VERIFY.responses)
    async def verify(
        request: Request,
        token: Annotated[schemas.StorableStr, Body(embed=True)],
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        end_sessions: Callable[[models.UP], Awaitable[None]] | None = Depends(get_session_ender),
    ) -> schemas.U:
        with VERIFY, ending_sessions(end_sessions):
            user = await user_manager.verify(token, request)
        return user_schema.model_validate(user)

    return router
