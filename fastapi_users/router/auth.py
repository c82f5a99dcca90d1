from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.security import OAuth2PasswordRequestForm
from starlette.datastructures import MutableHeaders

from fastapi_users import models
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy, Transport
from fastapi_users.authentication.authenticator import refusal_status
from fastapi_users.authentication.login import (
    PASSWORD_METHOD,
    check_credentials,
    complete_login,
    login_openapi_extra,
    refuse_unfit,
    seams_of,
)
from fastapi_users.authentication.transport import TransportLogoutNotSupportedError
from fastapi_users.authentication.transport.cross_site import CrossSiteRequest
from fastapi_users.events import LoggedOut
from fastapi_users.exceptions import BadCredentials, UserNotVerified
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import (
    LOGIN_OUTDATED,
    UNAUTHORIZED,
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    csrf_guard,
    csrf_responses,
    require_backend,
)

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
    require_backend(backend)
    router = APIRouter(route_class=SafeRoute, dependencies=csrf_guard(backend))
    # Without flags: whoever may not do anything else may still leave.
    if type(authenticator).current_user_token is Authenticator.current_user_token:
        get_current_user_token = authenticator.current_user_token(preferred=backend)
    else:  # of the application, in upstream's signature
        get_current_user_token = authenticator.current_user_token(active=True, verified=requires_verification)

    login_responses: OpenAPIResponseType = {
        **LOGIN.responses,
        **csrf_responses([backend]),
        **backend.transport.get_openapi_login_responses_success(),
    }
    logout_responses: OpenAPIResponseType = {
        **UNAUTHORIZED,
        **csrf_responses([backend]),
        **backend.transport.get_openapi_logout_responses_success(),
    }

    @router.post(
        "/login",
        name=f"auth:{backend.name}.login",
        responses=login_responses,
        openapi_extra=login_openapi_extra(backend, of_form=True),
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
        with LOGIN_OUTDATED:
            return await complete_login(
                backend,
                strategy,
                user=user,
                user_manager=user_manager,
                methods=[PASSWORD_METHOD],
                request=request,
                requires_verification=requires_verification,
            )

    async def logout(
        request: Request,
        user_token: tuple[models.UP, str] = Depends(get_current_user_token),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        (user, token), seams = user_token, seams_of(user_manager)
        # Before the commit, at which some sessions forget the user.
        event = LoggedOut(user_id=user.id, request=await seams._facts(request), backend=backend.name)
        refusal = refusal_status(user, active=True, verified=requires_verification)
        response = await backend.logout(strategy, user, token)
        if hasattr(type(strategy), "forget_client"):  # of a feature, whose client holds more than the token
            await cast("Any", strategy).forget_client(response, backend, request=request)
        await seams._seam_event(event)
        if refusal is not None:
            raise HTTPException(refusal, headers=_cookies_of(response))
        return response

    router.add_api_route(
        "/logout",
        logout,
        methods=["POST"],
        route_class_override=_logout_route(backend.transport),
        name=f"auth:{backend.name}.logout",
        responses=logout_responses,
    )
    return router


def _logout_route(transport: Transport) -> type[SafeRoute]:
    class LogoutRoute(SafeRoute):
        """Takes the cookie away also where the session has ended already: the browser would send it for ever."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_logout(request: Request) -> Response:
                try:
                    return await handle(request)
                except CrossSiteRequest:
                    raise
                except HTTPException as refusal:
                    headers = MutableHeaders(refusal.headers or {})
                    if "set-cookie" not in headers:
                        for cookie in await _logout_cookies(transport):
                            headers.append("set-cookie", cookie)
                    refusal.headers = headers
                    raise

            return handle_logout

    return LogoutRoute


def _cookies_of(response: Response) -> MutableHeaders:
    cookies = [(name, value) for name, value in response.raw_headers if name == b"set-cookie"]
    return MutableHeaders(raw=cookies)


async def _logout_cookies(transport: Transport) -> list[str]:
    try:
        response = await transport.get_logout_response()
    except TransportLogoutNotSupportedError:
        return []
    return response.headers.getlist("set-cookie")
