from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status

from fastapi_users import models
from fastapi_users.authentication import AuthenticationBackend, CookieTransport
from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES
from fastapi_users.authentication.login import CredentialCheck, report_failure
from fastapi_users.exceptions import InvalidID, UserNotExists, UserNotVerified
from fastapi_users.fastapi_users import FastAPIUsers
from fastapi_users.features.sessions.delivery import (
    add_refresh_token,
    document_refresh_tokens,
    forget_refresh_token,
    refresh_path,
    refresh_token_reader,
)
from fastapi_users.features.sessions.errors import (
    InvalidRefreshToken,
    RefreshTokenReused,
    SessionNotExists,
    SessionsErrorCode,
)
from fastapi_users.features.sessions.manager import (
    REFRESH_METHOD,
    AllSessionsEnded,
    RefreshedSession,
    SessionsMixin,
)
from fastapi_users.features.sessions.schemas import RefreshResponse, SessionRead, session_read
from fastapi_users.features.sessions.strategy import RefreshTokenStrategy
from fastapi_users.manager import UUIDIDMixin
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import UNAUTHORIZED, Refusals, SafeRoute, csrf_guard, csrf_responses

_REFRESH: dict[type[Exception], tuple[SessionsErrorCode, str]] = {
    RefreshTokenReused: (
        SessionsErrorCode.SESSIONS_REFRESH_TOKEN_REUSED,
        "It was replaced long ago, so that somebody has a copy: the session has ended.",
    ),
    InvalidRefreshToken: (SessionsErrorCode.SESSIONS_BAD_REFRESH_TOKEN, "Log in again."),
}
REFRESH = Refusals(_REFRESH)
REFRESH_VERIFIED = Refusals(
    {**_REFRESH, UserNotVerified: (SessionsErrorCode.SESSIONS_USER_NOT_VERIFIED, "The user is not verified.")}
)

_UNKNOWN: OpenAPIResponseType = {status.HTTP_404_NOT_FOUND: {"description": "The user has no such session."}}
_SUPERUSERS_ONLY: OpenAPIResponseType = {
    **UNAUTHORIZED,
    status.HTTP_403_FORBIDDEN: {"description": "Not a superuser."},
    status.HTTP_404_NOT_FOUND: {"description": "There is no such user, or session."},
}

_EndSessions = Callable[[Any], Awaitable[None]]
_GetPath = Callable[..., Awaitable[str]]


def get_sessions_router(
    fastapi_users: FastAPIUsers[models.UP, models.ID],
    backend: AuthenticationBackend[models.UP, models.ID],
    *,
    requires_verification: bool = False,
    fresh: float | None = None,
) -> APIRouter:
    """Refresh the sessions of one backend, whose strategy is a :class:`RefreshTokenStrategy`; list and end the own ones.

    :param requires_verification: refuse users whose address is not verified.
    :param fresh: to end others, the user must have proven who it is in the last so many seconds.
    """
    router = APIRouter(route_class=SafeRoute, dependencies=csrf_guard(backend))
    get_user_manager = fastapi_users.get_user_manager

    async def get_path(
        request: Request, user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager)
    ) -> str:
        return refresh_path(user_manager.sessions_refresh_path, request, backend)

    _add_refresh_routes(router, fastapi_users, backend, get_path, requires_verification=requires_verification)
    _add_own_routes(router, fastapi_users, backend, get_path, requires_verification=requires_verification, fresh=fresh)
    return router


def _add_refresh_routes(
    router: APIRouter,
    fastapi_users: FastAPIUsers[models.UP, models.ID],
    backend: AuthenticationBackend[models.UP, models.ID],
    get_path: _GetPath,
    *,
    requires_verification: bool,
) -> None:
    get_user_manager = fastapi_users.get_user_manager
    document_refresh_tokens(backend)
    read_refresh_token = refresh_token_reader(backend)
    refusals = REFRESH_VERIFIED if requires_verification else REFRESH

    @router.post(
        "/refresh",
        name=f"sessions:{backend.name}.refresh",
        responses={**refusals.responses, **csrf_responses([backend]), **_refresh_answers(backend)},
    )
    async def refresh(
        request: Request,
        refresh_token: str | None = Depends(read_refresh_token),
        path: str = Depends(get_path),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
        strategy: RefreshTokenStrategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        try:
            with refusals:
                refreshed = await _refresh(
                    user_manager, refresh_token, request=request, requires_verification=requires_verification
                )
        except HTTPException as refusal:
            if isinstance(refusal.__cause__, InvalidRefreshToken):
                refusal.headers = _forgetting(backend, path)
            raise
        access_token, issued = await strategy.issue(refreshed.user, refreshed)
        response = await backend.transport.get_login_response(access_token)
        add_refresh_token(response, issued, backend, path=path)
        return response

    @router.post(
        "/refresh/revoke",
        name=f"sessions:{backend.name}.revoke",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        responses=csrf_responses([backend]),
    )
    async def revoke(
        request: Request,
        refresh_token: str | None = Depends(read_refresh_token),
        path: str = Depends(get_path),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
    ) -> Response:
        """Log out without an access token. As in RFC 7009, a token that does not count is no error."""
        await user_manager.end_session_of(refresh_token or "", request=request)
        return await _goodbye(backend, path)


def _add_own_routes(
    router: APIRouter,
    fastapi_users: FastAPIUsers[models.UP, models.ID],
    backend: AuthenticationBackend[models.UP, models.ID],
    get_path: _GetPath,
    *,
    requires_verification: bool,
    fresh: float | None,
) -> None:
    authenticator, get_user_manager = fastapi_users.authenticator, fastapi_users.get_user_manager

    async def get_backends() -> list[AuthenticationBackend[models.UP, models.ID]]:
        return [backend]

    get_own_session = authenticator.current_user_token(
        active=True, verified=requires_verification, get_enabled_backends=get_backends
    )
    get_fresh_session, unauthorized = get_own_session, UNAUTHORIZED
    if fresh is not None:
        get_fresh_session = authenticator.current_user_token(
            active=True, verified=requires_verification, get_enabled_backends=get_backends, fresh=fresh
        )
        unauthorized = REAUTHENTICATION_RESPONSES
    ending_refusals = {**unauthorized, **csrf_responses([backend])}

    @router.get("/sessions", name=f"sessions:{backend.name}.list", responses=UNAUTHORIZED)
    async def list_sessions(
        user_token: tuple[models.UP, str] = Depends(get_own_session),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
        strategy: RefreshTokenStrategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> list[SessionRead]:
        user, token = user_token
        current_id = strategy.read_session_id(token)
        return [session_read(session, current_id=current_id) for session in await user_manager.list_sessions(user)]

    @router.delete(
        "/sessions/{id}",
        name=f"sessions:{backend.name}.end",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        response_model=None,
        responses={**ending_refusals, **_UNKNOWN},
    )
    async def end_session(
        request: Request,
        response: Response,
        id: str,
        user_token: tuple[models.UP, str] = Depends(get_fresh_session),
        path: str = Depends(get_path),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
        strategy: RefreshTokenStrategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response | None:
        user, token = user_token
        try:
            session_id = _parse_session_id(id)
            await user_manager.end_session(user, session_id, request=request)
        except (InvalidID, SessionNotExists) as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error
        is_own = session_id == strategy.read_session_id(token)
        return _with_headers_of(response, await _goodbye(backend, path)) if is_own else None

    @router.delete(
        "/sessions",
        name=f"sessions:{backend.name}.end_all",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        response_model=None,
        responses=ending_refusals,
    )
    async def end_sessions(
        request: Request,
        response: Response,
        includes_current: bool = Query(False, description="Log out everywhere, here too."),
        user_token: tuple[models.UP, str] = Depends(get_fresh_session),
        path: str = Depends(get_path),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
        end_all: _EndSessions = Depends(authenticator.session_ender()),
        end_others: _EndSessions = Depends(authenticator.session_ender(keeps_own=True)),
    ) -> Response | None:
        """Of every backend that can end them."""
        user, _ = user_token
        event = AllSessionsEnded(
            user_id=user.id, request=await user_manager._facts(request), by="user", but_one=not includes_current
        )
        await (end_all if includes_current else end_others)(user)
        await user_manager._seam_event(event)
        return _with_headers_of(response, await _goodbye(backend, path)) if includes_current else None


def get_sessions_admin_router(
    fastapi_users: FastAPIUsers[models.UP, models.ID], *, requires_verification: bool = False
) -> APIRouter:
    """Superusers list and end the sessions of a user: to be mounted where the users router is.

    :param requires_verification: refuse superusers whose address is not verified.
    """
    authenticator, get_user_manager = fastapi_users.authenticator, fastapi_users.get_user_manager
    get_superuser = authenticator.current_user(active=True, verified=requires_verification, superuser=True)
    router = APIRouter(route_class=SafeRoute, dependencies=[Depends(get_superuser)])
    ending_refusals = {**_SUPERUSERS_ONLY, **csrf_responses(authenticator.backends)}

    async def get_user_or_404(
        user_id: str, user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager)
    ) -> models.UP:
        try:
            return await user_manager.get(user_manager.parse_id(user_id))
        except (InvalidID, UserNotExists) as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error

    @router.get(
        "/{user_id}/sessions",
        name="sessions:list_of_user",
        responses=_SUPERUSERS_ONLY,
    )
    async def list_sessions(
        user: Any = Depends(get_user_or_404),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
    ) -> list[SessionRead]:
        return [session_read(session, current_id=None) for session in await user_manager.list_sessions(user)]

    @router.delete(
        "/{user_id}/sessions/{id}",
        name="sessions:end_of_user",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        responses=ending_refusals,
    )
    async def end_session(
        request: Request,
        id: str,
        user: Any = Depends(get_user_or_404),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
    ) -> None:
        try:
            await user_manager.end_session(user, _parse_session_id(id), request=request, by="superuser")
        except (InvalidID, SessionNotExists) as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error

    @router.delete(
        "/{user_id}/sessions",
        name="sessions:end_all_of_user",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        responses=ending_refusals,
    )
    async def end_sessions(
        request: Request,
        user: Any = Depends(get_user_or_404),
        user_manager: SessionsMixin[models.UP, models.ID] = Depends(get_user_manager),
        end_all: _EndSessions = Depends(authenticator.session_ender()),
    ) -> None:
        event = AllSessionsEnded(
            user_id=user.id, request=await user_manager._facts(request), by="superuser", but_one=False
        )
        await end_all(user)
        await user_manager._seam_event(event)

    return router


async def _refresh(
    user_manager: SessionsMixin[models.UP, models.ID],
    refresh_token: str | None,
    *,
    request: Request,
    requires_verification: bool,
) -> RefreshedSession[models.UP]:
    if refresh_token is None:  # nothing was tried: a page looks whether somebody is logged in
        raise InvalidRefreshToken
    check = CredentialCheck(method=REFRESH_METHOD, identifier=None, request=request)
    await user_manager._seam_before_credentials(check)
    try:
        return await user_manager.refresh_session(
            refresh_token, request=request, requires_verification=requires_verification
        )
    except InvalidRefreshToken as error:
        # Not for tokens of ours that have ended: an office whose sessions end would have no tries left to log in anew.
        if isinstance(error, RefreshTokenReused) or not user_manager.has_issued(refresh_token):
            await report_failure(user_manager, check, user=None)
        raise


def _parse_session_id(text: str) -> UUID:
    """:raises InvalidID: anything but the one spelling of it, as with the ids of users."""
    return UUIDIDMixin().parse_id(text)


def _refresh_answers(backend: AuthenticationBackend[Any, Any]) -> OpenAPIResponseType:
    if isinstance(backend.transport, CookieTransport):
        return {status.HTTP_204_NO_CONTENT: {"description": "Both cookies, anew."}}
    return {status.HTTP_200_OK: {"model": RefreshResponse}}


async def _goodbye(backend: AuthenticationBackend[Any, Any], path: str) -> Response:
    """To somebody whose session has ended: with cookies, both are taken away."""
    response = Response(status_code=status.HTTP_204_NO_CONTENT)
    if isinstance(backend.transport, CookieTransport):
        response = await backend.transport.get_logout_response()
    forget_refresh_token(response, backend, path=path)
    return response


def _with_headers_of(response: Response, goodbye: Response) -> Response:
    """With what dependencies have set. Before the own ones, since of two cookies of one name the last one counts."""
    goodbye.raw_headers[:0] = [header for header in response.raw_headers if header[0] != b"content-length"]
    return goodbye


def _forgetting(backend: AuthenticationBackend[Any, Any], path: str) -> dict[str, str] | None:
    """The header of a refusal that takes the dead cookie away."""
    response = Response()
    forget_refresh_token(response, backend, path=path)
    cookie = response.headers.get("set-cookie")
    return None if cookie is None else {"set-cookie": cookie}
