from collections.abc import AsyncGenerator, Collection, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, Literal

from fastapi import APIRouter

from fastapi_users import models, router, schemas
from fastapi_users.authentication import AuthenticationBackend, Authenticator
from fastapi_users.jwt import (
    SecretsType,
    SecretType,  # noqa: F401 -- applications import it from here, as from upstream's
)
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.router import (
    get_auth_router,
    get_oauth_accounts_router,
    get_reauthenticate_router,
    get_register_router,
    get_reset_password_router,
    get_users_router,
    get_verify_router,
)
from fastapi_users.router.common import CSRF_TOKEN_COOKIE_NAME

if TYPE_CHECKING:
    from httpx_oauth.oauth2 import BaseOAuth2


class FastAPIUsers(Generic[models.UP, models.ID]):
    """Ties the manager and the backends together: every method makes a router for ``app.include_router``.

    The routers carry no prefix and no tags. :attr:`current_user` makes the dependencies that protect your own routes.
    """

    authenticator: Authenticator[models.UP, models.ID]

    def __init__(
        self,
        get_user_manager: UserManagerDependency[models.UP, models.ID],
        auth_backends: Sequence[AuthenticationBackend[models.UP, models.ID]],
    ) -> None:
        """:raises TypeError: what is no dependency, or no list, is given for one."""
        if isinstance(get_user_manager, BaseUserManager | AsyncGenerator | Coroutine | Generator):
            raise TypeError(
                "FastAPIUsers takes the dependency that gives the user manager, and calls it for every request: write "
                "get_user_manager, without parentheses."
            )
        if isinstance(auth_backends, AuthenticationBackend):
            raise TypeError("FastAPIUsers takes a list of backends: write [auth_backend].")
        if not _is_dependency(get_user_manager):
            raise TypeError(
                "FastAPIUsers takes the dependency that gives the user manager first: write get_user_manager."
            )
        if getattr(get_user_manager, "__code__", None) in _OPENED_BY_HAND:
            raise TypeError(
                "FastAPI opens and closes the user manager itself: write get_user_manager with its yield, and without "
                "@asynccontextmanager."
            )
        if not _are_backends(auth_backends):
            raise TypeError("FastAPIUsers takes a list of backends: write [AuthenticationBackend(name, transport, …)].")
        self.authenticator = Authenticator(auth_backends, get_user_manager)
        self.authenticator.reads_tokens_first = True
        self.get_user_manager = get_user_manager
        self.current_user = self.authenticator.current_user

    def get_register_router(
        self, user_schema: type[schemas.U], user_create_schema: type[schemas.UC], *, neutral: bool = False
    ) -> APIRouter:
        return get_register_router(self.get_user_manager, user_schema, user_create_schema, neutral=neutral)

    def get_verify_router(self, user_schema: type[schemas.U]) -> APIRouter:
        return get_verify_router(self.get_user_manager, user_schema, authenticator=self.authenticator)

    def get_reset_password_router(self) -> APIRouter:
        return get_reset_password_router(self.get_user_manager, authenticator=self.authenticator)

    def get_auth_router(
        self,
        backend: AuthenticationBackend[models.UP, models.ID],
        requires_verification: bool = False,
    ) -> APIRouter:
        return get_auth_router(backend, self.get_user_manager, self.authenticator, requires_verification)

    def get_reauthenticate_router(self, backend: AuthenticationBackend[models.UP, models.ID]) -> APIRouter:
        return get_reauthenticate_router(backend, self.get_user_manager, self.authenticator)

    def get_users_router(
        self,
        user_schema: type[schemas.U],
        user_update_schema: type[schemas.UU],
        requires_verification: bool = False,
        *,
        requires_current_password: bool = False,
    ) -> APIRouter:
        return get_users_router(
            self.get_user_manager,
            user_schema,
            user_update_schema,
            self.authenticator,
            requires_verification,
            requires_current_password=requires_current_password,
        )

    def get_oauth_router(
        self,
        oauth_client: "BaseOAuth2[Any]",
        backend: AuthenticationBackend[models.UP, models.ID],
        state_secret: SecretsType,
        redirect_url: str | None = None,
        associate_by_email: bool = False,
        is_verified_by_default: bool = False,
        *,
        csrf_token_cookie_name: str = CSRF_TOKEN_COOKIE_NAME,
        csrf_token_cookie_path: str = "/",
        csrf_token_cookie_domain: str | None = None,
        csrf_token_cookie_secure: bool = True,
        csrf_token_cookie_httponly: bool = True,
        csrf_token_cookie_samesite: Literal["lax", "strict", "none"] = "lax",
        strict: bool = False,
        requires_verification: bool = False,
        link_policy: Literal["default", "verified"] | None = None,
        allowed_scopes: Collection[str] | None = None,
        allowed_redirects: Collection[str] = (),
    ) -> APIRouter:
        """:raises ModuleNotFoundError: httpx-oauth is not installed."""
        from fastapi_users.router.oauth import get_oauth_router  # noqa: PLC0415 -- needs the extra "oauth"

        return get_oauth_router(
            oauth_client,
            backend,
            self.get_user_manager,
            state_secret,
            redirect_url,
            associate_by_email,
            is_verified_by_default,
            csrf_token_cookie_name=csrf_token_cookie_name,
            csrf_token_cookie_path=csrf_token_cookie_path,
            csrf_token_cookie_domain=csrf_token_cookie_domain,
            csrf_token_cookie_secure=csrf_token_cookie_secure,
            csrf_token_cookie_httponly=csrf_token_cookie_httponly,
            csrf_token_cookie_samesite=csrf_token_cookie_samesite,
            strict=strict,
            requires_verification=requires_verification,
            link_policy=link_policy,
            allowed_scopes=allowed_scopes,
            allowed_redirects=allowed_redirects,
            authenticator=self.authenticator,
        )

    def get_oauth_associate_router(
        self,
        oauth_client: "BaseOAuth2[Any]",
        user_schema: type[schemas.U],
        state_secret: SecretsType,
        redirect_url: str | None = None,
        requires_verification: bool = False,
        csrf_token_cookie_name: str = CSRF_TOKEN_COOKIE_NAME,
        csrf_token_cookie_path: str = "/",
        csrf_token_cookie_domain: str | None = None,
        csrf_token_cookie_secure: bool = True,
        csrf_token_cookie_httponly: bool = True,
        csrf_token_cookie_samesite: Literal["lax", "strict", "none"] = "lax",
        *,
        strict: bool = False,
        allowed_scopes: Collection[str] | None = None,
        allowed_redirects: Collection[str] = (),
    ) -> APIRouter:
        """:raises ModuleNotFoundError: httpx-oauth is not installed."""
        from fastapi_users.router.oauth import get_oauth_associate_router  # noqa: PLC0415 -- needs the extra "oauth"

        return get_oauth_associate_router(
            oauth_client,
            self.authenticator,
            self.get_user_manager,
            user_schema,
            state_secret,
            redirect_url,
            requires_verification,
            csrf_token_cookie_name=csrf_token_cookie_name,
            csrf_token_cookie_path=csrf_token_cookie_path,
            csrf_token_cookie_domain=csrf_token_cookie_domain,
            csrf_token_cookie_secure=csrf_token_cookie_secure,
            csrf_token_cookie_httponly=csrf_token_cookie_httponly,
            csrf_token_cookie_samesite=csrf_token_cookie_samesite,
            strict=strict,
            allowed_scopes=allowed_scopes,
            allowed_redirects=allowed_redirects,
        )

    def get_oauth_accounts_router(
        self, requires_verification: bool = False, *, fresh: float | None = None
    ) -> APIRouter:
        return get_oauth_accounts_router(self.get_user_manager, self.authenticator, requires_verification, fresh=fresh)


def __getattr__(name: str) -> Any:
    # Applications import all the routers' functions from here. Those of OAuth need an extra.
    if name in {"get_oauth_router", "get_oauth_associate_router"}:
        return getattr(router, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_dependency(found: Any) -> bool:
    """As a class of managers is only if its own ``__init__`` has dependencies."""
    return callable(found) and getattr(found, "__init__", None) is not BaseUserManager.__init__


def _are_backends(found: Any) -> bool:
    return isinstance(found, Collection) and all(hasattr(each, "transport") for each in found)


# What these decorators make; other decorators of contextlib leave a dependency to be one.
_DECORATORS: tuple[Any, ...] = (asynccontextmanager, contextmanager)
_OPENED_BY_HAND = {decorator(_is_dependency).__code__ for decorator in _DECORATORS}
