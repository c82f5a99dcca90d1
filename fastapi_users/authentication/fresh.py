"""Prove that it is still you: what dangerous routes ask of a session that is not of today."""

from datetime import datetime, timezone
from enum import Enum

from fastapi import HTTPException, status
from pydantic import BaseModel

from fastapi_users import models
from fastapi_users.authentication.strategy import Authentication, Strategy
from fastapi_users.manager import BaseUserManager
from fastapi_users.openapi import OpenAPIResponseType


class ReauthenticationErrorCode(str, Enum):
    REAUTHENTICATION_REQUIRED = "REAUTHENTICATION_REQUIRED"


class ReauthenticationDetail(BaseModel):
    """``methods`` are RFC 8176 values, any one of which will do; ``max_age`` is in seconds."""

    code: ReauthenticationErrorCode
    methods: list[str]
    max_age: int


class ReauthenticationModel(BaseModel):
    detail: ReauthenticationDetail


class ReauthenticationRequired(HTTPException):
    """401, with the challenge of RFC 9470 (OAuth 2.0 Step Up Authentication)."""

    def __init__(self, methods: list[str], max_age: float) -> None:
        code = ReauthenticationErrorCode.REAUTHENTICATION_REQUIRED
        detail = ReauthenticationDetail(code=code, methods=methods, max_age=int(max_age))
        super().__init__(
            status.HTTP_401_UNAUTHORIZED,
            detail.model_dump(),
            {"WWW-Authenticate": f'Bearer error="insufficient_user_authentication", max_age="{int(max_age)}"'},
        )


REAUTHENTICATION_RESPONSES: OpenAPIResponseType = {
    status.HTTP_401_UNAUTHORIZED: {
        "model": ReauthenticationModel,
        "description": "Missing token or inactive user; or the last proof of identity is too old.",
    }
}
"""For ``responses=`` of a route that needs a fresh session."""


async def refuse_stale(
    strategy: Strategy[models.UP, models.ID],
    token: str,
    *,
    user: models.UP,
    user_manager: BaseUserManager[models.UP, models.ID],
    max_age: float,
) -> None:
    """
    :param max_age: in seconds.
    :raises ReauthenticationRequired: the last proof is older, or nothing is known of it.
    :raises NotImplementedError: the strategy never knows.
    """
    read = getattr(strategy, "read_authentication", None)
    if read is None:
        raise NotImplementedError(
            f"{type(strategy).__name__} has no read_authentication(token), so that none of its sessions can be fresh."
        )
    authentication: Authentication | None = await read(token)
    now = datetime.now(timezone.utc)
    if authentication is None or (now - authentication.time).total_seconds() > max_age:
        raise ReauthenticationRequired(await user_manager._seam_factors(user), max_age)
