import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field

from fastapi_users._lazy import needs_extra

with needs_extra("beanie"):
    from beanie import PydanticObjectId
    from pymongo import IndexModel


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# MongoDB returns times without their zone.
_Moment = Annotated[datetime, AfterValidator(_in_utc)]


class BeanieBaseSession(BaseModel):
    """Mix it into a document of yours: ``class Session(BeanieBaseSession, Document)``."""

    if TYPE_CHECKING:  # by the id of a Document, which this one contradicts
        pass
    else:
        id: uuid.UUID = Field(default_factory=uuid.uuid4)
    user_id: PydanticObjectId
    digest: str
    previous_digest: str | None
    credentials_digest: str
    generation: int
    rotated_at: _Moment
    is_remembered: bool
    auth_time: _Moment | None
    amr: str
    address: str | None
    agent: str | None
    created_at: _Moment
    last_seen_at: _Moment
    expires_at: _Moment
    ends_at: _Moment

    class Settings:
        indexes: ClassVar[list[Any]] = [IndexModel("user_id"), IndexModel("expires_at")]
