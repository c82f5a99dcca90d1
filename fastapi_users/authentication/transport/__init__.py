from fastapi_users.authentication.transport.base import Transport, TransportLogoutNotSupportedError
from fastapi_users.authentication.transport.bearer import BearerTransport
from fastapi_users.authentication.transport.cookie import CookieTransport

__all__ = ["BearerTransport", "CookieTransport", "Transport", "TransportLogoutNotSupportedError"]
