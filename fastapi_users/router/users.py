from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import APIRouter, Depends, HTTPException, Request, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError, create_model

from fastapi_users import (
    exceptions,  # noqa: F401 -- applications import it from here, as from upstream's
    models,
    schemas,
)
from fastapi_users.authentication import Authenticator
from fastapi_users.authentication.login import PASSWORD_METHOD, CredentialCheck, report_failure, reporting_errors
from fastapi_users.exceptions import (
    BadCredentials,
    FastAPIUsersException,
    InvalidID,
    InvalidPasswordException,
    UserAlreadyExists,
    UserNotExists,
)
from fastapi_users.jwt import _get_secret_value
from fastapi_users.manager import BaseUserManager, UserManagerDependency, ending_sessions
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import (
    UNAUTHORIZED,
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    csrf_responses,
    takes,
)


class CurrentPasswordRequired(FastAPIUsersException):
    """A new password or address counts only together with the current password."""


_UPDATE: dict[type[Exception], tuple[ErrorCode, str]] = {
    UserAlreadyExists: (
        ErrorCode.UPDATE_USER_EMAIL_ALREADY_EXISTS,
        "A user with this e-mail already exists.",
    ),
    InvalidPasswordException: (ErrorCode.UPDATE_USER_INVALID_PASSWORD, "Password validation failed."),
}
_WRONG: dict[type[Exception], tuple[ErrorCode, str]] = {
    BadCredentials: (ErrorCode.UPDATE_USER_BAD_CURRENT_PASSWORD, "Not the current password of this user."),
}
_MISSING: dict[type[Exception], tuple[ErrorCode, str]] = {
    CurrentPasswordRequired: (
        ErrorCode.UPDATE_USER_CURRENT_PASSWORD_REQUIRED,
        "A new password or address wants the current password.",
    ),
}
UPDATE = Refusals(_UPDATE)
CURRENT_PASSWORD = Refusals({**_WRONG, **_MISSING})
UPDATE_ME = Refusals({**_UPDATE, **_WRONG})
GUARDED_UPDATE_ME = Refusals({**_UPDATE, **_WRONG, **_MISSING})

_SUPERUSERS_ONLY: OpenAPIResponseType = {
    **UNAUTHORIZED,
    status.HTTP_403_FORBIDDEN: {"description": "Not a superuser."},
    status.HTTP_404_NOT_FOUND: {"description": "The user does not exist."},
}


def get_users_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    user_update_schema: type[schemas.UU],
    authenticator: Authenticator[models.UP, models.ID],
    requires_verification: bool = False,
    *,
    requires_current_password: bool = False,
) -> APIRouter:
    """The own profile for every active user, the others' for superusers.

    :param requires_verification: refuse users whose address is not verified.
    :param requires_current_password: a user who changes the own password or address has to send ``current_password``
        (OWASP ASVS 5.0, 6.2.3). Where it is sent without being required, a wrong one refuses the update as well.
    """
    router = APIRouter(route_class=SafeRoute)
    own_update_schema = _with_current_password(user_update_schema) if requires_current_password else user_update_schema
    own_refusals = GUARDED_UPDATE_ME if requires_current_password else UPDATE_ME
    superusers_only = {**_SUPERUSERS_ONLY, **csrf_responses(authenticator.backends)}
    get_current_active_user = authenticator.current_user(active=True, verified=requires_verification)
    get_current_superuser = authenticator.current_user(active=True, verified=requires_verification, superuser=True)
    get_session_ender, get_ender_of_others = authenticator.session_ender(), authenticator.session_ender(keeps_own=True)

    async def get_user_or_404(
        id: str,
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> models.UP:
        try:
            return await user_manager.get(user_manager.parse_id(id))
        except (InvalidID, UserNotExists) as error:
            raise HTTPException(status_code=status.HTTP_404_NOT_FOUND) from error

    @router.get("/me", name="users:current_user", response_model=user_schema, responses=UNAUTHORIZED)
    async def me(user: models.UP = Depends(get_current_active_user)) -> schemas.U:
        return user_schema.model_validate(user)

    @router.patch(
        "/me",
        name="users:patch_current_user",
        response_model=user_schema,
        dependencies=[Depends(get_current_active_user)],
        responses={**UNAUTHORIZED, **own_refusals.responses, **csrf_responses(authenticator.backends)},
    )
    @takes(user_update=own_update_schema)
    async def update_me(
        request: Request,
        user_update: schemas.BaseUserUpdate,
        user: models.UP = Depends(get_current_active_user),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        end_other_sessions: Callable[[models.UP], Awaitable[None]] = Depends(get_ender_of_others),
    ) -> schemas.U:
        stored_hash = getattr(user, "hashed_password", None)
        with CURRENT_PASSWORD:
            await _check_current_password(
                request, user_update, user, user_manager=user_manager, is_required=requires_current_password
            )
        is_upgraded = (
            getattr(user, "hashed_password", None) != stored_hash
        )  # with which the JWT of this session has ended
        if is_upgraded and user_manager.sessions_end_with_credentials:
            await end_other_sessions(user)
        with UPDATE, ending_sessions(end_other_sessions):
            updated_user = await user_manager.update(user_update, user, safe=True, request=request)
        return user_schema.model_validate(updated_user)

    @router.get(
        "/{id}",
        name="users:user",
        response_model=user_schema,
        dependencies=[Depends(get_current_superuser)],
        responses=_SUPERUSERS_ONLY,
    )
    async def get_user(user: Any = Depends(get_user_or_404)) -> schemas.U:
        return user_schema.model_validate(user)

    @router.patch(
        "/{id}",
        name="users:patch_user",
        response_model=user_schema,
        dependencies=[Depends(get_current_superuser)],
        responses={**superusers_only, **UPDATE.responses},
    )
    @takes(user_update=user_update_schema)
    async def update_user(
        request: Request,
        user_update: schemas.BaseUserUpdate,
        user: Any = Depends(get_user_or_404),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        end_sessions: Callable[[models.UP], Awaitable[None]] = Depends(get_session_ender),
        end_other_sessions: Callable[[models.UP], Awaitable[None]] = Depends(get_ender_of_others),
    ) -> schemas.U:
        is_deactivation = getattr(user_update, "is_active", None) is False  # of oneself, it may be
        with UPDATE, ending_sessions(end_sessions if is_deactivation else end_other_sessions):
            updated_user = await user_manager.update(user_update, user, safe=False, request=request)
        return user_schema.model_validate(updated_user)

    @router.delete(
        "/{id}",
        name="users:delete_user",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        dependencies=[Depends(get_current_superuser)],
        responses=superusers_only,
    )
    async def delete_user(
        request: Request,
        user: Any = Depends(get_user_or_404),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        end_sessions: Callable[[models.UP], Awaitable[None]] = Depends(get_session_ender),
    ) -> None:
        with ending_sessions(end_sessions):
            await user_manager.delete(user, request=request)

    return router


def _with_current_password(schema: type[schemas.BaseUserUpdate]) -> type[schemas.BaseUserUpdate]:
    """For the OpenAPI document, unless the schema declares the field itself."""
    if "current_password" in schema.model_fields:
        return schema
    bases: Any = (schema, schemas.AddedCurrentPasswordMixin)
    return cast("type[schemas.BaseUserUpdate]", create_model(f"{schema.__name__}WithCurrentPassword", __base__=bases))


async def _check_current_password(
    request: Request,
    user_update: schemas.BaseUserUpdate,
    user: models.UP,
    *,
    user_manager: BaseUserManager[models.UP, models.ID],
    is_required: bool,
) -> None:
    """
    :raises BadCredentials: it is wrong.
    :raises CurrentPasswordRequired: it is missing.
    """
    password = await _submitted_current_password(request, user_update)
    if password is None:
        changes = user_update.create_update_dict() if is_required else {}
        if changes.get("password") is not None or changes.get("email") not in (None, user.email):
            raise CurrentPasswordRequired
        return
    check = CredentialCheck(method=PASSWORD_METHOD, identifier=user.email, request=request)
    await user_manager._seam_before_credentials(check)
    async with reporting_errors(user_manager, check, user=user):
        is_right = await user_manager.check_password(user, password)
    if not is_right:
        await report_failure(user_manager, check, user=user)
        raise BadCredentials


async def _submitted_current_password(request: Request, user_update: schemas.BaseUserUpdate) -> str | None:
    """Where the application's schema does not declare it, it still stands in the body, which FastAPI has read.

    :raises RequestValidationError: it is no text.
    """
    if "current_password" in type(user_update).model_fields:
        is_sent = "current_password" in user_update.model_fields_set
        declared = getattr(user_update, "current_password", None) if is_sent else None
        return None if declared is None else _get_secret_value(declared)
    body = await request.json()
    sent = {"current_password": body.get("current_password")} if isinstance(body, dict) else {}
    try:
        return schemas.CurrentPasswordMixin.model_validate(sent).current_password
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        ) from error
