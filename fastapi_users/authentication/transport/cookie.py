from collections.abc import Sequence
from typing import Literal

from fastapi import Request, Response, status
from fastapi.security import APIKeyCookie

from fastapi_users.authentication.transport.base import Transport
from fastapi_users.authentication.transport.cross_site import SameSiteAPIKeyCookie, check_origins
from fastapi_users.openapi import OpenAPIResponseType


class CookieTransport(Transport):
    """The token in a cookie. ``cookie_max_age`` is in seconds; ``None`` makes a cookie that ends with the browser.

    :param csrf_protection: refuse what a page of another site has the browser send, unless the method is a safe one:
        requests that nothing but the cookie authenticates, logins, logouts. ``None`` does so with the SameSite of
        ``none``, where nothing else would protect.
    :param trusted_origins: of pages that may: ``https://app.example``.
    :raises ValueError: browsers would not take the cookie, or a trusted origin is none.
    """

    scheme: APIKeyCookie
    csrf_protection: bool = False
    trusted_origins: Sequence[str] = ()

    def __init__(
        self,
        cookie_name: str = "fastapiusersauth",
        cookie_max_age: int | None = None,
        cookie_path: str = "/",
        cookie_domain: str | None = None,
        cookie_secure: bool = True,
        cookie_httponly: bool = True,
        cookie_samesite: Literal["lax", "strict", "none"] = "lax",
        *,
        csrf_protection: bool | None = None,
        trusted_origins: Sequence[str] = (),
    ) -> None:
        refuse_broken_prefix(cookie_name, secure=cookie_secure, path=cookie_path, domain=cookie_domain)
        self.cookie_name = cookie_name
        self.cookie_max_age = cookie_max_age
        self.cookie_path = cookie_path
        self.cookie_domain = cookie_domain
        self.cookie_secure = cookie_secure
        self.cookie_httponly = cookie_httponly
        self.cookie_samesite: Literal["lax", "strict", "none"] = cookie_samesite
        self.csrf_protection = cookie_samesite.lower() == "none" if csrf_protection is None else bool(csrf_protection)
        self.trusted_origins = check_origins(trusted_origins)
        self.scheme = (  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower
            SameSiteAPIKeyCookie(name=cookie_name, trusted_origins=self.trusted_origins)
            if self.csrf_protection
            else APIKeyCookie(name=cookie_name, auto_error=False)
        )

    async def get_login_response(self, token: str) -> Response:
        return self._set_login_cookie(Response(status_code=status.HTTP_204_NO_CONTENT), token)

    async def get_logout_response(self) -> Response:
        return self._set_logout_cookie(Response(status_code=status.HTTP_204_NO_CONTENT))

    def get_challenge_cookie(self, request: Request) -> str | None:
        """What binds the ticket of an interrupted login to the browser in which it began."""
        return request.cookies.get(self._challenge_cookie_name)

    def set_challenge_cookie(self, response: Response, value: str, max_age: int) -> None:
        self._set_cookie(response, value, max_age, name=self._challenge_cookie_name)

    @property
    def _challenge_cookie_name(self) -> str:
        return f"{self.cookie_name}_challenge"

    def _set_login_cookie(self, response: Response, token: str) -> Response:
        self._set_cookie(response, token, self.cookie_max_age)
        return response

    def _set_logout_cookie(self, response: Response) -> Response:
        self._set_cookie(response, "", 0)
        return response

    def _set_cookie(self, response: Response, value: str, max_age: int | None, *, name: str | None = None) -> None:
        response.set_cookie(
            name or self.cookie_name,
            value,
            max_age=max_age,
            path=self.cookie_path,
            domain=self.cookie_domain,
            secure=self.cookie_secure,
            httponly=self.cookie_httponly,
            samesite=self.cookie_samesite,
        )

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        return {status.HTTP_204_NO_CONTENT: {"model": None}}

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        return {status.HTTP_204_NO_CONTENT: {"model": None}}


def refuse_broken_prefix(name: str, *, secure: bool, path: str, domain: str | None) -> None:
    """A name may promise what the cookie is like, and browsers take none that breaks it (RFC 6265bis, section 4.1.3).

    :raises ValueError: it does.
    """
    prefix = name.lower()  # browsers look at it so
    if prefix.startswith(("__host-", "__secure-")) and not secure:
        raise ValueError(f"Browsers take a cookie named {name!r} only if it is Secure.")
    if prefix.startswith("__host-") and (path != "/" or domain is not None):
        raise ValueError(f"Browsers take a cookie named {name!r} only with the path '/' and without a domain.")
