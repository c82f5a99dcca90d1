"""Sessions that their users see and end, kept alive by refresh tokens that change at each use: see ``docs/sessions.md``."""

from fastapi_users.features.sessions.errors import (
    InvalidRefreshToken,
    RefreshTokenReused,
    SessionNotExists,
    SessionsErrorCode,
)
from fastapi_users.features.sessions.manager import AllSessionsEnded, RefreshTokenTheft, SessionEnded, SessionsMixin
from fastapi_users.features.sessions.models import Session, SessionProtocol
from fastapi_users.features.sessions.router import get_sessions_admin_router, get_sessions_router
from fastapi_users.features.sessions.schemas import RefreshResponse, SessionRead
from fastapi_users.features.sessions.strategy import RefreshTokenStrategy

__all__ = [
    "AllSessionsEnded",
    "InvalidRefreshToken",
    "RefreshResponse",
    "RefreshTokenReused",
    "RefreshTokenStrategy",
    "RefreshTokenTheft",
    "Session",
    "SessionEnded",
    "SessionNotExists",
    "SessionProtocol",
    "SessionRead",
    "SessionsErrorCode",
    "SessionsMixin",
    "get_sessions_admin_router",
    "get_sessions_router",
]
