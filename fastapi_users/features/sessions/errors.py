from enum import Enum

from fastapi_users.exceptions import FastAPIUsersException


class InvalidRefreshToken(FastAPIUsersException):
    """Forged, or of a session that has ended, or of a user who may not log in: which of them is never told."""


class RefreshTokenReused(InvalidRefreshToken):
    """A token that was replaced long ago: somebody has a copy of it. The session has ended by this."""


class SessionNotExists(FastAPIUsersException):
    """The user has no session with this id, or no more."""


class SessionsErrorCode(str, Enum):
    SESSIONS_BAD_REFRESH_TOKEN = "SESSIONS_BAD_REFRESH_TOKEN"
    SESSIONS_REFRESH_TOKEN_REUSED = "SESSIONS_REFRESH_TOKEN_REUSED"
    SESSIONS_USER_NOT_VERIFIED = "SESSIONS_USER_NOT_VERIFIED"
