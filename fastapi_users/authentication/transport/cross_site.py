"""Cross-site request forgery: a page of another site makes the browser of its visitor send a request, cookie included.

Browsers say whose page it was (OWASP, Cross-Site Request Forgery Prevention Cheat Sheet: Fetch Metadata, and Origin
where a browser is too old for that). The rules are those of ``http.CrossOriginProtection`` of Go.
"""

import re
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any, Final

from fastapi import HTTPException, status
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie
from pydantic import BaseModel

from fastapi_users.openapi import OpenAPIResponseType

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")  # RFC 9110, section 9.2.1: they change nothing
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_USUAL_PORTS = (("http", ":80"), ("https", ":443"))


class CrossSiteErrorCode(str, Enum):
    CROSS_SITE_REQUEST = "CROSS_SITE_REQUEST"


class CrossSiteModel(BaseModel):
    detail: str


class CrossSiteRequest(HTTPException):
    """403. Nothing but the cookie says who the user is, and a page of another site had it sent."""

    def __init__(self) -> None:
        super().__init__(status.HTTP_403_FORBIDDEN, CrossSiteErrorCode.CROSS_SITE_REQUEST)


CROSS_SITE_RESPONSES: OpenAPIResponseType = {
    status.HTTP_403_FORBIDDEN: {
        "model": CrossSiteModel,
        "description": "Not for this user; or a page of another site had it sent.",
        "content": {"application/json": {"example": {"detail": CrossSiteErrorCode.CROSS_SITE_REQUEST.value}}},
    }
}
"""For ``responses=`` of a route with an unsafe method that takes the cookie."""


class _CrossSiteToken(str):
    __slots__ = ()


CROSS_SITE_TOKEN: Final[str] = _CrossSiteToken()
"""What a scheme gives in place of the token of such a request. To code that does not know it, an empty token."""


class SameSiteAPIKeyCookie(APIKeyCookie):
    """FastAPI's scheme, in the OpenAPI document too, but for a cookie that another site had sent."""

    def __init__(self, *, name: str, trusted_origins: Collection[str], scheme_name: str | None = None) -> None:
        super().__init__(name=name, scheme_name=scheme_name or APIKeyCookie.__name__, auto_error=False)
        self.trusted_origins = trusted_origins

    async def __call__(self, request: HTTPConnection) -> str | None:
        token = self.read_cookie(request)
        return CROSS_SITE_TOKEN if token is not None and is_cross_site(request, self.trusted_origins) else token

    def read_cookie(self, request: HTTPConnection) -> str | None:
        """Whoever had it sent."""
        return request.cookies.get(self.model.name) or None


def is_cross_site(request: HTTPConnection, trusted_origins: Collection[str]) -> bool:
    """Whether a page that is neither of the same origin nor trusted had a request sent that may change something.

    A request without both headers comes from no browser, hence with no cookie but one that the sender knows.
    """
    if request.scope.get("method") in _SAFE_METHODS:  # a WebSocket has none, and may do anything
        return False
    origin = request.headers.get("origin")
    if origin in trusted_origins:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")  # none: the user, by hand
    return origin is not None and not _is_own(origin, request)


def _is_own(origin: str, request: HTTPConnection) -> bool:
    scheme, _, host = origin.partition("://")
    # Behind a proxy that ends TLS, a page of https seems to post over plain http, but never the other way round.
    is_plain = request.scope.get("scheme", "http") in ("http", "ws")
    return host == request.headers.get("host") and (scheme == "https" or (scheme == "http" and is_plain))


def is_protected(transport: Any) -> bool:
    """Of transports that know nothing of it, no."""
    return getattr(transport, "csrf_protection", None) is True


def refuse_cross_site(transport: Any, request: HTTPConnection) -> None:
    """Before a session is made or ended, with or without a cookie: another site must not log its visitor in as someone.

    :raises CrossSiteRequest: and the transport is protected.
    """
    if is_protected(transport) and is_cross_site(request, transport.trusted_origins):
        raise CrossSiteRequest


def check_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """
    :raises ValueError: one is not spelt as browsers spell it, so that it would never be met.
    :raises TypeError: a text stands where a list has to.
    """
    if isinstance(origins, str):
        raise TypeError("trusted_origins is a list: a text would allow every part of it.")
    for origin in origins:
        found = _ORIGIN.fullmatch(origin)
        if found is None or found.group(1, 3) in _USUAL_PORTS:
            raise ValueError(
                f"{origin!r} is no origin as browsers send it: https://app.example, with a port if it is not the usual "
                "one, in lower case and ASCII, without path and wildcards."
            )
    return tuple(origins)
