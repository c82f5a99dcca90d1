from pydantic import UUID4

from fastapi_users._lazy import needs_extra
from fastapi_users.db.sqlalchemy import GUID, UUID_ID, PreciseTIMESTAMPAware, TIMESTAMPAware, now_utc

with needs_extra("sqlalchemy"):
    from sqlalchemy import CHAR, TIMESTAMP, TypeDecorator
    from sqlalchemy.dialects.postgresql import UUID

__all__ = [
    "CHAR",
    "GUID",
    "TIMESTAMP",
    "UUID",
    "UUID4",
    "UUID_ID",
    "PreciseTIMESTAMPAware",
    "TIMESTAMPAware",
    "TypeDecorator",
    "now_utc",
]
