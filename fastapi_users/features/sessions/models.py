from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from fastapi_users.models import ID


class SessionProtocol(Protocol[ID]):
    """A row, which is one session of one user on one device. The times know their zone; ``digest`` changes at each refresh.

    ``credentials_digest`` tells whether password and address are those of its making, or of a change that spared it.
    ``expires_at`` is the end unless the session is refreshed before, ``ends_at`` the end in any case. ``amr`` are RFC 8176
    values with spaces between them. ``address`` and ``agent`` are those of the login or of the last refresh.
    """

    id: UUID
    user_id: ID
    digest: str
    previous_digest: str | None
    credentials_digest: str
    generation: int
    rotated_at: datetime
    is_remembered: bool
    auth_time: datetime | None
    amr: str
    address: str | None
    agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ends_at: datetime


@dataclass(kw_only=True)
class Session:
    """A row where there is no table: in Redis, and in the memory of a test."""

    id: UUID
    user_id: Any
    digest: str = field(repr=False)
    previous_digest: str | None = field(repr=False)
    credentials_digest: str = field(repr=False)
    generation: int
    rotated_at: datetime
    is_remembered: bool
    auth_time: datetime | None
    amr: str
    address: str | None
    agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ends_at: datetime
