import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Generic

from fastapi_users._lazy import needs_extra
from fastapi_users.db.sqlalchemy import GUID, UUID_ID, PreciseTIMESTAMPAware
from fastapi_users.models import ID

with needs_extra("sqlalchemy"):
    from sqlalchemy import Boolean, ForeignKey, Integer, String
    from sqlalchemy.orm import Mapped, declared_attr, mapped_column


class SQLAlchemyBaseSessionTable(Generic[ID]):
    """Mix it into a declarative class of yours and add ``user_id``, an indexed foreign key that cascades."""

    __tablename__ = "session"

    if TYPE_CHECKING:
        id: UUID_ID
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
    else:
        id: Mapped[UUID_ID] = mapped_column(GUID, primary_key=True, default=uuid.uuid4)
        digest: Mapped[str] = mapped_column(String(length=43), nullable=False)
        previous_digest: Mapped[str | None] = mapped_column(String(length=43), nullable=True)
        credentials_digest: Mapped[str] = mapped_column(String(length=43), nullable=False)
        generation: Mapped[int] = mapped_column(Integer, nullable=False)
        rotated_at: Mapped[datetime] = mapped_column(PreciseTIMESTAMPAware(timezone=True), nullable=False)
        is_remembered: Mapped[bool] = mapped_column(Boolean, nullable=False)
        auth_time: Mapped[datetime | None] = mapped_column(PreciseTIMESTAMPAware(timezone=True), nullable=True)
        amr: Mapped[str] = mapped_column(String(length=255), nullable=False)
        address: Mapped[str | None] = mapped_column(String(length=45), nullable=True)
        agent: Mapped[str | None] = mapped_column(String(length=256), nullable=True)
        created_at: Mapped[datetime] = mapped_column(PreciseTIMESTAMPAware(timezone=True), nullable=False)
        last_seen_at: Mapped[datetime] = mapped_column(PreciseTIMESTAMPAware(timezone=True), nullable=False)
        expires_at: Mapped[datetime] = mapped_column(PreciseTIMESTAMPAware(timezone=True), index=True, nullable=False)
        ends_at: Mapped[datetime] = mapped_column(PreciseTIMESTAMPAware(timezone=True), nullable=False)


class SQLAlchemyBaseSessionTableUUID(SQLAlchemyBaseSessionTable[UUID_ID]):
    if TYPE_CHECKING:
        user_id: UUID_ID
    else:

        @declared_attr
        def user_id(cls) -> Mapped[UUID_ID]:
            return mapped_column(GUID, ForeignKey("user.id", ondelete="cascade"), index=True, nullable=False)
