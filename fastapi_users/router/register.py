from contextlib import suppress

from fastapi import APIRouter, Depends, Request, status

from fastapi_users import (
    exceptions,  # noqa: F401 -- applications import it from here, as from upstream's
    models,
    schemas,
)
from fastapi_users.background import do_unseen
from fastapi_users.exceptions import InvalidPasswordException, UserAlreadyExists, UserNotExists
from fastapi_users.hashing import HASHING_RESPONSES, hashing_pool
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.router.common import (
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    takes,
)

_BAD_PASSWORD = (ErrorCode.REGISTER_INVALID_PASSWORD, "Password validation failed.")

REGISTER = Refusals(
    {
        UserAlreadyExists: (ErrorCode.REGISTER_USER_ALREADY_EXISTS, "A user with this e-mail already exists."),
        InvalidPasswordException: _BAD_PASSWORD,
    }
)
REGISTER_NEUTRALLY = Refusals({InvalidPasswordException: _BAD_PASSWORD})


def get_register_router(
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    user_create_schema: type[schemas.UC],
    *,
    neutral: bool = False,
) -> APIRouter:
    """
    :param neutral: answer 202, whether or not the address has an account; who reads its mails is told. All but
        ``validate_password`` happens after the answer.
    """
    shown, sent = (getattr(schema, "model_fields", ()) for schema in (user_schema, user_create_schema))
    if "password" in shown and "password" not in sent:
        raise TypeError(
            f"{user_create_schema.__name__} has no password to register with: write get_register_router(UserRead, "
            "UserCreate), first what is shown, then what is sent."
        )
    router = APIRouter(route_class=SafeRoute)

    if neutral:
        _add_neutral_route(router, get_user_manager, user_create_schema)
        return router

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


def _add_neutral_route(
    router: APIRouter,
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_create_schema: type[schemas.UC],
) -> None:
    @router.post(
        "/register",
        name="register:register",
        status_code=status.HTTP_202_ACCEPTED,
        responses={**REGISTER_NEUTRALLY.responses, **HASHING_RESPONSES},
    )
    @takes(user_create=user_create_schema)
    async def register(
        request: Request,
        user_create: schemas.BaseUserCreate,
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        async def create_or_tell() -> None:
            try:
                await user_manager.create(user_create, safe=True, request=request)
            except UserAlreadyExists:
                with suppress(UserNotExists):  # deleted since
                    user = await user_manager.get_by_email(user_create.email)
                    await user_manager.on_after_duplicate_registration(user, request)

        with REGISTER_NEUTRALLY:
            await user_manager._validate(user_create.password, user_create)
        hashing_pool.refuse_if_full()  # what comes after the answer waits
        await do_unseen("register", create_or_tell, user_manager=user_manager, request=request)
