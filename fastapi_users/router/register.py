from fastapi import APIRouter, Depends, Request, status

from fastapi_users import models, schemas
from fastapi_users.exceptions import InvalidPasswordException, UserAlreadyExists
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.router.common import ErrorCode, Refusals, SafeRoute, takes

REGISTER = Refusals(
    {
        UserAlreadyExists: (ErrorCode.REGISTER_USER_ALREADY_EXISTS, "A user with this e-mail already exists."),
        InvalidPasswordException: (ErrorCode.REGISTER_INVALID_PASSWORD, "Password validation failed."),
    }
)


def get_register_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    user_create_schema: type[schemas.UC],
) -> APIRouter:
    router = APIRouter(route_class=SafeRoute)

    @router.post(
        "/register",
        name="register:register",
        status_code=status.HTTP_201_CREATED,
        response_model=user_schema,
        responses=REGISTER.responses,
    )
    @takes(user_create=user_create_schema)
    async def register(
        request: Request,
        user_create: schemas.BaseUserCreate,
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> schemas.U:
        with REGISTER:
            user = await user_manager.create(user_create, safe=True, request=request)
        return user_schema.model_validate(user)

    return router
