from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response, status

from fastapi_users import models, schemas
from fastapi_users.authentication import Authenticator
from fastapi_users.exceptions import InvalidID, InvalidPasswordException, UserAlreadyExists, UserNotExists
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorCode, Refusals, SafeRoute, takes

UPDATE = Refusals(
    {
        UserAlreadyExists: (
            ErrorCode.UPDATE_USER_EMAIL_ALREADY_EXISTS,
            "A user with this e-mail already exists.",
        ),
        InvalidPasswordException: (ErrorCode.UPDATE_USER_INVALID_PASSWORD, "Password validation failed."),
    }
)

_UNAUTHORIZED: OpenAPIResponseType = {
    status.HTTP_401_UNAUTHORIZED: {"description": "Missing token or inactive user."},
}
_SUPERUSERS_ONLY: OpenAPIResponseType = {
    **_UNAUTHORIZED,
    status.HTTP_403_FORBIDDEN: {"description": "Not a superuser."},
    status.HTTP_404_NOT_FOUND: {"description": "The user does not exist."},
}


def get_users_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    user_update_schema: type[schemas.UU],
    authenticator: Authenticator[models.UP, models.ID],
    requires_verification: bool = False,
) -> APIRouter:
    """The own profile for every active user, the others' for superusers.

    :param requires_verification: refuse users whose address is not verified.
    """
    router = APIRouter(route_class=SafeRoute)
    get_current_active_user = authenticator.current_user(active=True, verified=requires_verification)
    get_current_superuser = authenticator.current_user(active=True, verified=requires_verification, superuser=True)

    async def get_user_or_404(
        id: str,
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> models.UP:
        try:
            return await user_manager.get(user_manager.parse_id(id))
        except (InvalidID, UserNotExists) as error:
            raise HTTPException(status_code=status.HTTP_404_NOT_FOUND) from error

    @router.get("/me", name="users:current_user", response_model=user_schema, responses=_UNAUTHORIZED)
    async def me(user: models.UP = Depends(get_current_active_user)) -> schemas.U:
        return user_schema.model_validate(user)

    @router.patch(
        "/me",
        name="users:patch_current_user",
        response_model=user_schema,
        dependencies=[Depends(get_current_active_user)],
        responses={**_UNAUTHORIZED, **UPDATE.responses},
    )
    @takes(user_update=user_update_schema)
    async def update_me(
        request: Request,
        user_update: schemas.BaseUserUpdate,
        user: models.UP = Depends(get_current_active_user),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> schemas.U:
        with UPDATE:
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
        responses={**_SUPERUSERS_ONLY, **UPDATE.responses},
    )
    @takes(user_update=user_update_schema)
    async def update_user(
        request: Request,
        user_update: schemas.BaseUserUpdate,
        user: Any = Depends(get_user_or_404),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> schemas.U:
        with UPDATE:
            updated_user = await user_manager.update(user_update, user, safe=False, request=request)
        return user_schema.model_validate(updated_user)

    @router.delete(
        "/{id}",
        name="users:delete_user",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        dependencies=[Depends(get_current_superuser)],
        responses=_SUPERUSERS_ONLY,
    )
    async def delete_user(
        request: Request,
        user: Any = Depends(get_user_or_404),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        await user_manager.delete(user, request=request)

    return router
