import secrets
from dataclasses import dataclass
from typing import Any, Literal

import jwt
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status
from pydantic import BaseModel

from fastapi_users import models, schemas
from fastapi_users._lazy import needs_extra
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy
from fastapi_users.authentication.login import FEDERATED_METHOD, complete_login, login_openapi_extra, refuse_unfit
from fastapi_users.exceptions import BadCredentials, FastAPIUsersException, UserAlreadyExists
from fastapi_users.jwt import SecretType, decode_jwt, generate_jwt
from fastapi_users.manager import BaseUserManager, UserManagerDependency
from fastapi_users.router.common import CSRF_TOKEN_COOKIE_NAME, ErrorCode, Refusals, SafeRoute

with needs_extra("oauth"):
    from httpx_oauth.exceptions import HTTPXOAuthError
    from httpx_oauth.integrations.fastapi import OAuth2AuthorizeCallback, OAuth2AuthorizeCallbackError
    from httpx_oauth.oauth2 import BaseOAuth2, OAuth2Token

__all__ = [
    "CSRF_TOKEN_COOKIE_NAME",
    "CSRF_TOKEN_KEY",
    "STATE_TOKEN_AUDIENCE",
    "OAuth2AuthorizeResponse",
    "generate_csrf_token",
    "generate_state_token",
    "get_oauth_associate_router",
    "get_oauth_router",
]

STATE_TOKEN_AUDIENCE = "fastapi-users:oauth-state"
STATE_TOKEN_LIFETIME_SECONDS = 3600
CSRF_TOKEN_KEY = "csrftoken"


class InvalidState(FastAPIUsersException):
    """The state was not made by us for this browser."""


class EmailNotAvailable(FastAPIUsersException):
    """The provider does not tell the user's address."""


class ProviderError(FastAPIUsersException):
    """The provider refused the code or could not be asked."""


_CALLBACK: dict[type[Exception], tuple[ErrorCode, str]] = {
    ProviderError: (ErrorCode.OAUTH_PROVIDER_ERROR, "The provider refused the code or could not be asked."),
    jwt.DecodeError: (ErrorCode.ACCESS_TOKEN_DECODE_ERROR, "The state is missing, malformed or not signed by us."),
    jwt.ExpiredSignatureError: (ErrorCode.ACCESS_TOKEN_ALREADY_EXPIRED, "The state has expired: start again."),
    jwt.PyJWTError: (ErrorCode.OAUTH_INVALID_STATE, "The state belongs to another purpose or another browser."),
    InvalidState: (ErrorCode.OAUTH_INVALID_STATE, "The state belongs to another purpose or another browser."),
    EmailNotAvailable: (ErrorCode.OAUTH_NOT_AVAILABLE_EMAIL, "The provider does not tell the user's e-mail."),
}
_LEGACY_EXAMPLES = {"INVALID_STATE_TOKEN": "Not sent: see the other codes."}
_LOGIN: dict[type[Exception], tuple[ErrorCode, str]] = {
    UserAlreadyExists: (ErrorCode.OAUTH_USER_ALREADY_EXISTS, "A local user has this e-mail already."),
    BadCredentials: (ErrorCode.LOGIN_BAD_CREDENTIALS, "The user is inactive."),
}
LOGIN = Refusals(_LOGIN)
LOGIN_CALLBACK = Refusals({**_CALLBACK, **_LOGIN}, legacy_examples=_LEGACY_EXAMPLES)
ASSOCIATE_CALLBACK = Refusals(_CALLBACK, legacy_examples=_LEGACY_EXAMPLES)


class OAuth2AuthorizeResponse(BaseModel):
    authorization_url: str


def generate_state_token(
    data: dict[str, str], secret: SecretType, lifetime_seconds: int = STATE_TOKEN_LIFETIME_SECONDS
) -> str:
    """Sign the data, into which the audience is written."""
    data["aud"] = STATE_TOKEN_AUDIENCE
    return generate_jwt(data, secret, lifetime_seconds)


def generate_csrf_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class CSRFCookie:
    """Binds a flow to the browser that began it: its value must return with the state (RFC 9700, section 4.7)."""

    name: str
    path: str
    domain: str | None
    secure: bool
    httponly: bool
    samesite: Literal["lax", "strict", "none"]

    def set(self, response: Response, token: str) -> None:
        response.set_cookie(
            self.name,
            token,
            max_age=STATE_TOKEN_LIFETIME_SECONDS,
            path=self.path,
            domain=self.domain,
            secure=self.secure,
            httponly=self.httponly,
            samesite=self.samesite,
        )

    def matches(self, request: Request, token: Any) -> bool:
        cookie = request.cookies.get(self.name)
        if not cookie or not isinstance(token, str):
            return False
        return secrets.compare_digest(cookie.encode(), token.encode())


class CodeExchange(OAuth2AuthorizeCallback):
    """httpx-oauth's dependency, with a refusal of ours where the provider does not take the code."""

    def __init__(self, client: BaseOAuth2[Any], route_name: str, redirect_url: str | None, refusals: Refusals) -> None:
        super().__init__(client, None if redirect_url else route_name, redirect_url or None)
        self.refusals = refusals

    async def __call__(
        self,
        request: Request,
        code: str | None = None,
        code_verifier: str | None = None,
        state: str | None = None,
        error: str | None = None,
    ) -> tuple[OAuth2Token, str | None]:
        with self.refusals:
            try:
                return await super().__call__(request, code, code_verifier, state, error)
            except OAuth2AuthorizeCallbackError as refusal:
                if refusal.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
                    raise ProviderError from refusal
                raise


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What logging in and associating have in common: everything but the ending."""

    client: BaseOAuth2[Any]
    callback_route: str
    redirect_url: str | None
    state_secret: SecretType
    cookie: CSRFCookie
    refusals: Refusals

    @property
    def exchange(self) -> CodeExchange:
        return CodeExchange(self.client, self.callback_route, self.redirect_url, self.refusals)

    async def authorize(
        self,
        request: Request,
        response: Response,
        scopes: list[str] | None,
        **claims: str,
    ) -> OAuth2AuthorizeResponse:
        csrf_token = generate_csrf_token()
        state = generate_state_token({CSRF_TOKEN_KEY: csrf_token, **claims}, self.state_secret)
        redirect_url = self.redirect_url or str(request.url_for(self.callback_route))
        authorization_url = await self.client.get_authorization_url(redirect_url, state, scopes)
        self.cookie.set(response, csrf_token)
        return OAuth2AuthorizeResponse(authorization_url=authorization_url)

    def check_state(self, request: Request, state: str | None) -> dict[str, Any]:
        """The claims of a state that this browser brought here.

        :raises InvalidState: it belongs to another browser; PyJWT's exceptions for one that is not ours.
        """
        claims = decode_jwt(state or "", self.state_secret, [STATE_TOKEN_AUDIENCE])
        if not self.cookie.matches(request, claims.get(CSRF_TOKEN_KEY)):
            raise InvalidState
        return claims

    async def get_account(self, token: OAuth2Token) -> tuple[str, str, str, str, int | None, str | None]:
        """The first six arguments of the manager's callbacks.

        :raises EmailNotAvailable:
        :raises ProviderError:
        """
        try:
            access_token = token["access_token"]
            account_id, account_email = await self.client.get_id_email(access_token)
        except (HTTPXOAuthError, KeyError) as error:
            raise ProviderError from error
        if account_email is None:
            raise EmailNotAvailable
        return (
            self.client.name,
            access_token,
            account_id,
            account_email,
            token.get("expires_at"),
            token.get("refresh_token"),
        )


def get_oauth_router(
    oauth_client: BaseOAuth2[Any],
    backend: AuthenticationBackend[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    state_secret: SecretType,
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
) -> APIRouter:
    """Log in, or register, with an account at a provider.

    :param redirect_url: where the provider sends the browser back to; by default the URL of the callback route, as
        the request's ``Host`` header makes it.
    :param associate_by_email: see ``BaseUserManager.oauth_callback``.
    :param is_verified_by_default: new users start verified: for providers that verify addresses themselves.
    """
    router = APIRouter(route_class=SafeRoute)
    route_name = f"oauth:{oauth_client.name}.{backend.name}"
    flow = Flow(
        client=oauth_client,
        callback_route=f"{route_name}.callback",
        redirect_url=redirect_url,
        state_secret=state_secret,
        cookie=CSRFCookie(
            name=csrf_token_cookie_name,
            path=csrf_token_cookie_path,
            domain=csrf_token_cookie_domain,
            secure=csrf_token_cookie_secure,
            httponly=csrf_token_cookie_httponly,
            samesite=csrf_token_cookie_samesite,
        ),
        refusals=LOGIN_CALLBACK,
    )

    @router.get("/authorize", name=f"{route_name}.authorize")
    async def authorize(
        request: Request,
        response: Response,
        scopes: list[str] = Query(None),
    ) -> OAuth2AuthorizeResponse:
        return await flow.authorize(request, response, scopes)

    @router.get(
        "/callback",
        name=flow.callback_route,
        responses=LOGIN_CALLBACK.responses,
        openapi_extra=login_openapi_extra(backend),
    )
    async def callback(
        request: Request,
        token_and_state: tuple[OAuth2Token, str | None] = Depends(flow.exchange),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
    ) -> Response:
        token, state = token_and_state
        with LOGIN_CALLBACK:
            flow.check_state(request, state)
            account = await flow.get_account(token)
        with LOGIN:  # not the table above: exceptions of the application's hooks are no refusals of a state
            user = await user_manager.oauth_callback(
                *account,
                request,
                associate_by_email=associate_by_email,
                is_verified_by_default=is_verified_by_default,
            )
            refuse_unfit(user, requires_verification=False)
        return await complete_login(
            backend,
            strategy,
            user=user,
            user_manager=user_manager,
            methods=[FEDERATED_METHOD],
            request=request,
        )

    return router


def get_oauth_associate_router(
    oauth_client: BaseOAuth2[Any],
    authenticator: Authenticator[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    state_secret: SecretType,
    redirect_url: str | None = None,
    requires_verification: bool = False,
    *,
    csrf_token_cookie_name: str = CSRF_TOKEN_COOKIE_NAME,
    csrf_token_cookie_path: str = "/",
    csrf_token_cookie_domain: str | None = None,
    csrf_token_cookie_secure: bool = True,
    csrf_token_cookie_httponly: bool = True,
    csrf_token_cookie_samesite: Literal["lax", "strict", "none"] = "lax",
) -> APIRouter:
    """Link an account at a provider to the user who is logged in.

    :param redirect_url: see ``get_oauth_router``.
    :param requires_verification: refuse users whose address is not verified.
    """
    router = APIRouter(route_class=SafeRoute)
    get_current_active_user = authenticator.current_user(active=True, verified=requires_verification)
    route_name = f"oauth-associate:{oauth_client.name}"
    flow = Flow(
        client=oauth_client,
        callback_route=f"{route_name}.callback",
        redirect_url=redirect_url,
        state_secret=state_secret,
        cookie=CSRFCookie(
            name=csrf_token_cookie_name,
            path=csrf_token_cookie_path,
            domain=csrf_token_cookie_domain,
            secure=csrf_token_cookie_secure,
            httponly=csrf_token_cookie_httponly,
            samesite=csrf_token_cookie_samesite,
        ),
        refusals=ASSOCIATE_CALLBACK,
    )

    @router.get("/authorize", name=f"{route_name}.authorize")
    async def authorize(
        request: Request,
        response: Response,
        scopes: list[str] = Query(None),
        user: models.UP = Depends(get_current_active_user),
    ) -> OAuth2AuthorizeResponse:
        return await flow.authorize(request, response, scopes, sub=str(user.id))

    @router.get(
        "/callback",
        name=flow.callback_route,
        response_model=user_schema,
        responses=ASSOCIATE_CALLBACK.responses,
    )
    async def callback(
        request: Request,
        user: Any = Depends(get_current_active_user),  # before the exchange: a stranger spends no code
        token_and_state: tuple[OAuth2Token, str | None] = Depends(flow.exchange),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> schemas.U:
        token, state = token_and_state
        with ASSOCIATE_CALLBACK:
            if flow.check_state(request, state).get("sub") != str(user.id):
                raise HTTPException(status.HTTP_400_BAD_REQUEST)
            account = await flow.get_account(token)
        user = await user_manager.oauth_associate_callback(user, *account, request)
        return user_schema.model_validate(user)

    return router
