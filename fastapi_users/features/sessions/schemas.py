from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from fastapi_users.features.sessions.devices import device_name
from fastapi_users.features.sessions.models import SessionProtocol


class RefreshResponse(BaseModel):
    """What a login and a refresh answer to a bearer (RFC 6749, section 5.1). ``expires_in`` is that of the access token."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


class SessionRead(BaseModel):
    """What users are shown of a session: enough to know it by, and nothing to use it with."""

    id: UUID
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_current: bool


def session_read(session: SessionProtocol[Any], *, current_id: UUID | None) -> SessionRead:
    return SessionRead(
        id=session.id,
        device=device_name(session.agent),
        address=session.address,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        expires_at=session.expires_at,
        is_current=session.id == current_id,
    )
