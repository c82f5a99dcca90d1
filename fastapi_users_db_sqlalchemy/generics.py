from fastapi_users.db.sqlalchemy import GUID, UUID_ID, PreciseTIMESTAMPAware, TIMESTAMPAware, now_utc

__all__ = ["GUID", "UUID_ID", "PreciseTIMESTAMPAware", "TIMESTAMPAware", "now_utc"]
