from datetime import datetime
from typing import Any, Protocol, TypeVar

from fastapi_users import models  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users.models import ID


class AccessTokenProtocol(Protocol[ID]):
    token: str
    user_id: ID
    created_at: datetime


AP = TypeVar("AP", bound=AccessTokenProtocol[Any])
