"""How a refresh token travels: in the body for bearers, for browsers in a cookie that goes to the refresh route only."""

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import Body, Request, Response, status
from fastapi.security import APIKeyCookie
from starlette.routing import NoMatchFound

from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.login import login_openapi_extra
from fastapi_users.authentication.transport import CookieTransport

_MAX_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class IssuedTokens:
    """What goes to the client beside the access token. ``cookie_seconds`` of ``None`` ends a cookie with the browser."""

    refresh_token: str = field(repr=False)
    expires_in: int
    cookie_seconds: int | None


issued_tokens: ContextVar[IssuedTokens | None] = ContextVar("issued_tokens", default=None)
"""Those of the login that is under way: the door hands the access token alone to the transport."""


def add_refresh_token(
    response: Response, issued: IssuedTokens, backend: AuthenticationBackend[Any, Any], *, path: str
) -> None:
    """To the answer of the transport, which holds the access token.

    :param path: of the refresh route, for the cookie.
    :raises NotImplementedError: the transport answers neither with a cookie nor with a JSON object.
    """
    transport = backend.transport
    if isinstance(transport, CookieTransport):
        _set_cookie(response, transport, issued.refresh_token, issued.cookie_seconds, path=path)
        return
    try:
        answer = json.loads(bytes(response.body))
        answer.update(expires_in=issued.expires_in, refresh_token=issued.refresh_token)
    except (ValueError, AttributeError) as error:
        raise NotImplementedError(
            f"The answer of {type(transport).__name__} has no place for a refresh token: it is no JSON object."
        ) from error
    response.body = json.dumps(answer, separators=(",", ":")).encode()
    response.headers["content-length"] = str(len(response.body))


def forget_refresh_token(response: Response, backend: AuthenticationBackend[Any, Any], *, path: str) -> None:
    """A browser would send the dead one until its cookie expires. Other clients forget by themselves."""
    transport = backend.transport
    if isinstance(transport, CookieTransport):
        _set_cookie(response, transport, "", 0, path=path)


def refresh_token_reader(backend: AuthenticationBackend[Any, Any]) -> Callable[..., Any]:
    """A dependency for the refresh token of a request: ``None`` where there is no cookie."""
    transport = backend.transport
    if isinstance(transport, CookieTransport):
        return APIKeyCookie(
            name=_cookie_name(transport), scheme_name=f"APIKeyCookie_refresh_{backend.name}", auto_error=False
        )

    async def read_body(refresh_token: str = Body(..., embed=True, max_length=_MAX_LENGTH)) -> str:
        return refresh_token

    return read_body


def document_refresh_tokens(backend: AuthenticationBackend[Any, Any]) -> None:
    """Put what comes with the access token into the OpenAPI document of every route that logs in through the backend."""
    transport = backend.transport
    if isinstance(transport, CookieTransport):
        code, answer = status.HTTP_204_NO_CONTENT, _with_cookie(transport)
    else:
        code, answer = status.HTTP_200_OK, _WITH_BODY
    extra, of_form = login_openapi_extra(backend), login_openapi_extra(backend, of_form=True)
    if extra is not None and of_form is not None:
        extra.setdefault("responses", {})[str(int(code))] = answer
        of_form["requestBody"] = _WITH_WISH


def refresh_path(configured: str | None, request: Request | None, backend: AuthenticationBackend[Any, Any]) -> str:
    """Of the refresh route, as the browser sees it.

    :raises RuntimeError: it is not mounted.
    """
    if configured is not None or request is None:
        return configured or "/"
    try:
        return request.url_for(f"sessions:{backend.name}.refresh").path
    except NoMatchFound as error:
        raise RuntimeError(
            f"Sessions of the backend {backend.name!r} cannot be refreshed: mount "
            "get_sessions_router(fastapi_users, backend)."
        ) from error


def cookie_seconds(*, is_remembered: bool, expires_at: datetime, now: datetime) -> int | None:
    return max(1, int((expires_at - now).total_seconds())) if is_remembered else None


# Merged into what the transport says of its answer, a reference to its own model: both hold (JSON Schema 2020-12).
_WITH_BODY: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {
                "properties": {
                    "expires_in": {"type": "integer", "description": "Of the access token, in seconds."},
                    "refresh_token": {"type": "string"},
                },
                "required": ["expires_in", "refresh_token"],
            }
        }
    }
}


_WITH_WISH: dict[str, Any] = {
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "properties": {
                    "remember_me": {
                        "type": "boolean",
                        "description": "Whether the session outlives the browser. The application decides without it.",
                    }
                }
            }
        }
    }
}


def _with_cookie(transport: CookieTransport) -> dict[str, Any]:
    names = f"{transport.cookie_name}, and the refresh token in {_cookie_name(transport)}, for the refresh route only."
    header = {"schema": {"type": "string"}, "description": f"The access token in {names}"}
    return {"description": "Two cookies.", "headers": {"Set-Cookie": header}}


def _cookie_name(transport: CookieTransport) -> str:
    name = f"{transport.cookie_name}_refresh"
    # Browsers take no __Host- cookie with a path (RFC 6265bis, section 4.1.3.2).
    return name if not name.lower().startswith("__host-") else f"__Secure-{name[len('__Host-') :]}"


def _set_cookie(response: Response, transport: CookieTransport, value: str, max_age: int | None, *, path: str) -> None:
    response.set_cookie(
        _cookie_name(transport),
        value,
        max_age=max_age,
        path=path,
        domain=transport.cookie_domain,
        secure=transport.cookie_secure,
        httponly=True,
        samesite=transport.cookie_samesite,
    )
