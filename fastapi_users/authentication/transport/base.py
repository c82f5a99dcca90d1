from inspect import isawaitable
from typing import Any, Protocol

from fastapi import Response
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase

from fastapi_users.openapi import OpenAPIResponseType


class TransportLogoutNotSupportedError(Exception):
    """The client holds the token where no answer reaches it, in a header for example."""


class Transport(Protocol):
    """How a token travels. As a base class it makes nothing abstract: implement what you use."""

    scheme: SecurityBase

    async def get_login_response(self, token: str) -> Response: ...

    async def get_logout_response(self) -> Response:
        """:raises TransportLogoutNotSupportedError: the route then answers 204."""
        ...

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType: ...

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType: ...


async def read_token(transport: Transport, connection: HTTPConnection) -> str | None:
    """Where FastAPI does not resolve the scheme: of a WebSocket, or only now and then."""
    scheme: Any = transport.scheme
    token: Any = scheme(connection)
    found: str | None = await token if isawaitable(token) else token
    return found
