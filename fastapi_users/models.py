"""What the library asks of a user: attributes, no base class. Any object that has them will do."""

from datetime import datetime
from typing import Any, Protocol, TypeVar

ID = TypeVar("ID")


class UserProtocol(Protocol[ID]):
    id: ID
    email: str
    hashed_password: str
    is_active: bool
    is_superuser: bool
    is_verified: bool


class OAuthAccountProtocol(Protocol[ID]):
    """``expires_at`` is in seconds since the epoch."""

    id: ID
    oauth_name: str
    access_token: str
    expires_at: int | None
    refresh_token: str | None
    account_id: str
    account_email: str


class OneTimeSecretProtocol(Protocol):
    """A row of :mod:`fastapi_users.one_time`. The times know their zone; ``digest`` is unique."""

    digest: str
    purpose: str
    subject: str
    tries: int
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


UP = TypeVar("UP", bound=UserProtocol[Any])
OAP = TypeVar("OAP", bound=OAuthAccountProtocol[Any])


class UserOAuthProtocol(UserProtocol[ID], Protocol[ID, OAP]):
    oauth_accounts: list[OAP]


UOAP = TypeVar("UOAP", bound=UserOAuthProtocol[Any, Any])
