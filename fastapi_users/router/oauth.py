import hmac
import inspect
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlencode

import jwt
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status
from fastapi.responses import RedirectResponse
from fastapi.security import APIKeyCookie
from pydantic import BaseModel

from fastapi_users import models, schemas
from fastapi_users._lazy import needs_extra
from fastapi_users.authentication import AuthenticationBackend, Authenticator, Strategy
from fastapi_users.authentication.login import (
    FEDERATED_METHOD,
    ChallengeAnswer,
    complete_login,
    login_openapi_extra,
    refuse_unfit,
)
from fastapi_users.authentication.transport.cookie import refuse_broken_prefix
from fastapi_users.exceptions import (
    BadCredentials,
    FastAPIUsersException,
    OAuthAccountAlreadyLinked,
    UserAlreadyExists,
    UserNotVerified,
)
from fastapi_users.insecure import refuse_weak_secret, warn_of_weak_secret
from fastapi_users.jwt import (
    JWT_ALGORITHM,
    SecretsType,
    SecretType,  # noqa: F401 -- applications import it from here, as from upstream's
    decode_jwt,
    decode_with_secret,
    generate_jwt,
    get_secret_values,
)
from fastapi_users.manager import BaseUserManager, UserManagerDependency, ending_sessions
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import (
    CSRF_TOKEN_COOKIE_NAME,
    LOGIN_OUTDATED,
    UNAUTHORIZED,
    UNVERIFIED,
    ErrorCode,
    ErrorModel,  # noqa: F401 -- applications import it from here, as from upstream's
    Refusals,
    SafeRoute,
    presentable_email,
    require_backend,
)
from fastapi_users.router.id_token import IDTokenVerifier, InvalidIDToken

with needs_extra("oauth"):
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

FLOW_LIFETIME_SECONDS = 600
"""Of the states that the routers make: how long a user may take at the provider."""

_MAX_TABS = 5
_MAX_ACCOUNT_ID_LENGTH = 320


class InvalidState(FastAPIUsersException):
    """The state was not made by us for this browser, provider and purpose."""


class EmailNotAvailable(FastAPIUsersException):
    """The provider does not tell the user's address, or tells something that is none."""


class ProviderError(FastAPIUsersException):
    """The provider refused the code or could not be asked, or its answer contradicts itself."""


class InvalidRedirect(FastAPIUsersException):
    """The target is not among the allowed ones."""


class ScopeNotAllowed(FastAPIUsersException):
    """A scope is not among the allowed ones."""


_CALLBACK: dict[type[Exception], tuple[ErrorCode, str]] = {
    ProviderError: (ErrorCode.OAUTH_PROVIDER_ERROR, "The provider refused the code or could not be asked."),
    InvalidIDToken: (ErrorCode.OAUTH_PROVIDER_ERROR, "The provider refused the code or could not be asked."),
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
_VERIFIED_LOGIN = {**_LOGIN, UserNotVerified: (ErrorCode.LOGIN_USER_NOT_VERIFIED, "The user is not verified.")}
_ASSOCIATE: dict[type[Exception], tuple[ErrorCode, str]] = {
    OAuthAccountAlreadyLinked: (ErrorCode.OAUTH_ACCOUNT_ALREADY_LINKED, "The account belongs to another user."),
}
AUTHORIZE = Refusals(
    {
        InvalidRedirect: (ErrorCode.OAUTH_INVALID_REDIRECT, "The target is not among the allowed ones."),
        ScopeNotAllowed: (ErrorCode.OAUTH_SCOPE_NOT_ALLOWED, "A scope is not among the allowed ones."),
    }
)
CALLBACK = Refusals(_CALLBACK)
LOGIN = Refusals(_LOGIN)
VERIFIED_LOGIN = Refusals(_VERIFIED_LOGIN)
LOGIN_CALLBACK = Refusals({**_CALLBACK, **_LOGIN}, legacy_examples=_LEGACY_EXAMPLES)
VERIFIED_LOGIN_CALLBACK = Refusals({**_CALLBACK, **_VERIFIED_LOGIN}, legacy_examples=_LEGACY_EXAMPLES)
ASSOCIATE = Refusals(_ASSOCIATE)
ASSOCIATE_CALLBACK = Refusals({**_CALLBACK, **_ASSOCIATE}, legacy_examples=_LEGACY_EXAMPLES)


_OF_THE_BODY = (b"content-length", b"content-type")

# What RFC 6749, section 4.1.2.1, lets a provider answer; whatever else stands there is a stranger's text.
_PROVIDER_ERRORS = (
    "access_denied",
    "invalid_request",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_response_type",
)


class OAuth2AuthorizeResponse(BaseModel):
    authorization_url: str


def generate_state_token(
    data: dict[str, str], secret: SecretsType, lifetime_seconds: int = STATE_TOKEN_LIFETIME_SECONDS
) -> str:
    """Sign the data, into which the audience is written."""
    data["aud"] = STATE_TOKEN_AUDIENCE
    return generate_jwt(data, secret, lifetime_seconds)


def generate_csrf_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class CSRFCookie:
    """Binds a flow to the browser that began it: its value must return with the state (RFC 9700, section 4.7).

    Every flow has a cookie of its own, so that tabs do not end each other's, and beside it, unless ``strict``, the one
    that upstream sets.
    """

    name: str
    path: str
    domain: str | None
    secure: bool
    httponly: bool
    samesite: Literal["lax", "strict", "none"]
    strict: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        refuse_broken_prefix(self.name, secure=self.secure, path=self.path, domain=self.domain)

    def set(self, request: Request, response: Response, token: str) -> None:
        if not self.strict:
            self._set(response, self.name, token)
        flows = [name for name in request.cookies if re.fullmatch(rf"{re.escape(self.name)}_[0-9a-f]{{10}}", name)]
        for name in flows[: max(0, len(flows) - _MAX_TABS + 1)]:
            self._set(response, name, "")
        self._set(response, self._name_of(token), token)

    def matches(self, request: Request, token: Any) -> bool:
        if not isinstance(token, str):
            return False
        names = [self._name_of(token)] if self.strict else [self._name_of(token), self.name]
        cookies = [request.cookies.get(name) for name in names]
        expected = token.encode("utf-8", "surrogatepass")  # a signed JSON can hold halves of surrogate pairs
        return any(hmac.compare_digest(cookie.encode(), expected) for cookie in cookies if cookie)

    def remove(self, request: Request, response: Response, token: str) -> None:
        for name in (self._name_of(token), self.name):
            if request.cookies.get(name) == token:
                self._set(response, name, "")

    def _name_of(self, token: str) -> str:
        return f"{self.name}_{sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"

    def _set(self, response: Response, name: str, value: str) -> None:
        response.set_cookie(
            name,
            value,
            # Longer than the state counts: a flow that has expired is still known, and can be told so.
            max_age=STATE_TOKEN_LIFETIME_SECONDS if value else 0,
            path=self.path,
            domain=self.domain,
            secure=self.secure,
            httponly=self.httponly,
            samesite=self.samesite,
        )


class CodeExchange(OAuth2AuthorizeCallback):
    """httpx-oauth's dependency, with the state checked before, and a refusal of ours where the code is not taken."""

    def __init__(self, flow: "Flow") -> None:
        super().__init__(flow.client, None if flow.redirect_url else flow.callback_route, flow.redirect_url or None)
        self.flow = flow

    async def __call__(
        self,
        request: Request,
        code: str | None = None,
        code_verifier: str | None = None,
        state: str | None = None,
        error: str | None = None,
    ) -> tuple[OAuth2Token, str | None]:
        with CALLBACK:
            if self.flow.is_checked_before_exchange(state):
                claims = self.flow.check_state(request, state)
                if self.flow.has_pkce:
                    code_verifier = self.flow.code_verifier(claims[CSRF_TOKEN_KEY], state)
            try:
                return await super().__call__(request, code, code_verifier, state, error)
            except OAuth2AuthorizeCallbackError as refusal:
                if refusal.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
                    raise ProviderError from refusal
                raise
            except Exception as failure:  # the network's, or of a body that is no JSON
                raise ProviderError from failure


@dataclass(frozen=True)
class Identity:
    """Whom the provider says it is. ``email_verified`` is ``None`` where it says nothing of that."""

    access_token: str = field(repr=False)
    account_id: str
    email: str
    expires_at: int | None
    refresh_token: str | None = field(repr=False)
    profile: Mapping[str, Any] = field(repr=False)
    email_verified: bool | None

    @property
    def arguments(self) -> tuple[str, str, str, int | None, str | None]:
        """Of the manager's callbacks, after the name of the provider."""
        return self.access_token, self.account_id, self.email, self.expires_at, self.refresh_token


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What logging in and associating have in common: everything but the ending.

    ``strict`` leaves upstream's ways behind: the state is checked before the exchange whatever it looks like, only
    states and cookies of these very routes count, PKCE protects the code, and an OpenID provider has to send an ID token
    that holds.
    """

    client: BaseOAuth2[Any]
    purpose: Literal["login", "associate"]
    callback_route: str
    redirect_url: str | None
    state_secret: SecretsType = field(repr=False)
    cookie: CSRFCookie
    strict: bool
    allowed_scopes: Collection[str] | None
    allowed_redirects: Collection[str]

    def __post_init__(self) -> None:
        if isinstance(self.allowed_redirects, str) or isinstance(self.allowed_scopes, str):
            raise TypeError("allowed_redirects and allowed_scopes are lists: a text would allow every part of it.")
        for secret in get_secret_values(self.state_secret):
            if self.strict:
                refuse_weak_secret(secret, "state_secret")
            else:
                warn_of_weak_secret(secret, "state_secret")

    @cached_property
    def exchange(self) -> CodeExchange:
        return CodeExchange(self)

    @cached_property
    def verifier(self) -> IDTokenVerifier | None:
        return IDTokenVerifier.for_client(self.client) if self.strict else None

    @cached_property
    def has_pkce(self) -> bool:
        return (
            self.strict
            and _takes(self.client.get_authorization_url, "code_challenge", "code_challenge_method")
            and _takes(self.client.get_access_token, "code_verifier")
        )

    @property
    def authorize_responses(self) -> OpenAPIResponseType:
        """Those of upstream, unless there is something to refuse, or a target to go to."""
        refusals = AUTHORIZE.responses if self.allowed_redirects or self.allowed_scopes is not None else {}
        return {**self.redirect_responses, **refusals}

    @property
    def redirect_responses(self) -> OpenAPIResponseType:
        description = "Where `redirect` asked for one: to the provider, and back to the target."
        return {status.HTTP_303_SEE_OTHER: {"description": description}} if self.allowed_redirects else {}

    def route_class(self) -> type[SafeRoute]:
        """Of the callback: it takes the cookie away, and brings a browser that came for it to its target."""
        flow = self

        class CallbackRoute(SafeRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def handle_callback(request: Request) -> Response:
                    try:
                        return flow.finish(request, await handle(request))
                    except HTTPException as refusal:
                        return flow.refuse(request, refusal)

                return handle_callback

        return CallbackRoute

    async def authorize(
        self,
        request: Request,
        response: Response,
        scopes: list[str] | None,
        redirect: str | None,
        **claims: str,
    ) -> Any:
        redirect = redirect if self.allowed_redirects else None  # a parameter that means nothing here
        with AUTHORIZE:
            if redirect is not None and redirect not in self.allowed_redirects:
                raise InvalidRedirect
            if self.allowed_scopes is not None and not {*(scopes or ())} <= {*self.allowed_scopes}:
                raise ScopeNotAllowed
        csrf_token = generate_csrf_token()
        claims |= {CSRF_TOKEN_KEY: csrf_token, "provider": self.client.name, "purpose": self.purpose}
        if redirect is not None:
            claims["redirect"] = redirect
        state = generate_state_token(claims, self.state_secret, FLOW_LIFETIME_SECONDS)
        redirect_url = self.redirect_url or str(request.url_for(self.callback_route))
        # By position and no more than upstream passes: applications replace the method.
        authorization_url = await self.client.get_authorization_url(
            redirect_url, state, scopes, **self._protections(csrf_token)
        )
        if redirect is not None:
            response = RedirectResponse(authorization_url, status.HTTP_303_SEE_OTHER)
        self.cookie.set(request, response, csrf_token)
        return OAuth2AuthorizeResponse(authorization_url=authorization_url) if redirect is None else response

    def _protections(self, csrf_token: str) -> dict[str, Any]:
        protections: dict[str, Any] = {}
        if self.has_pkce:
            digest = sha256(self.code_verifier(csrf_token).encode()).digest()
            protections |= {"code_challenge": _base64url(digest), "code_challenge_method": "S256"}
        if self.verifier is not None:
            protections["extras_params"] = {"nonce": self.nonce(csrf_token)}
        return protections

    def code_verifier(self, csrf_token: str, state: str | None = None) -> str:
        """RFC 7636, section 4.1. Derived, so that it has to be kept nowhere; only we can derive it.

        :param state: what came back, and is verified: the secret that signed it is perhaps not the first any more.
        """
        return self._derive("code_verifier", csrf_token, state)

    def nonce(self, csrf_token: str, state: str | None = None) -> str:
        return self._derive("nonce", csrf_token, state)

    def _derive(self, purpose: str, csrf_token: str, state: str | None) -> str:
        secret, *older = get_secret_values(self.state_secret)
        if older and state is not None:
            _, secret = decode_with_secret(state, [secret, *older], [STATE_TOKEN_AUDIENCE], [JWT_ALGORITHM])
        return _base64url(hmac.digest(secret.encode(), f"{purpose}:{csrf_token}".encode(), "sha256"))

    def is_checked_before_exchange(self, state: str | None) -> bool:
        """Every state, and where that has to be as upstream does it, those that look like ours."""
        return self.strict or "provider" in _unverified_claims(state)

    def check_state(self, request: Request, state: str | None) -> dict[str, Any]:
        """The claims of a state that this browser brought here.

        :raises InvalidState: it belongs to another browser, provider or purpose; PyJWT's exceptions for one that is not
            ours.
        """
        return self._check_claims(request, decode_jwt(state or "", self.state_secret, [STATE_TOKEN_AUDIENCE]))

    def _check_claims(self, request: Request, claims: dict[str, Any]) -> dict[str, Any]:
        if not self.cookie.matches(request, claims.get(CSRF_TOKEN_KEY)):
            raise InvalidState
        ours = {"provider": self.client.name, "purpose": self.purpose}
        upstreams = {} if self.strict else ours  # whose states do not say
        if any(claims.get(name, upstreams.get(name)) != value for name, value in ours.items()):
            raise InvalidState
        return claims

    async def get_identity(self, token: OAuth2Token, csrf_token: str, state: str | None = None) -> Identity:
        """
        :raises EmailNotAvailable:
        :raises ProviderError:
        :raises InvalidIDToken: of an OpenID provider, where these are asked for.
        """
        # A copy that keeps the profile which the client asks the provider for, to tell who somebody is.
        client: Any = copy(self.client)
        profile: dict[str, Any] = {}
        get_profile: Any = getattr(client, "get_profile", None)

        async def get_and_keep_profile(*args: Any, **kwargs: Any) -> Any:
            answer = await get_profile(*args, **kwargs)
            if isinstance(answer, Mapping):
                profile.update(answer)
            return answer

        if get_profile is not None:
            client.get_profile = get_and_keep_profile
        try:
            access_token = token["access_token"]
            account_id, account_email = await client.get_id_email(access_token)
            account_id = str(account_id)
        except Exception as error:  # the client's, the network's, or of a body that is not what it should be
            raise ProviderError from error
        id_claims: dict[str, Any] = {}
        if self.verifier is not None:
            id_claims = await self.verifier.verify(
                token.get("id_token"), nonce=self.nonce(csrf_token, state), access_token=access_token
            )
            if id_claims["sub"] != account_id:
                raise ProviderError  # OpenID Connect Core, section 5.3.2
        if len(account_id) > _MAX_ACCOUNT_ID_LENGTH or "\0" in account_id:
            raise ProviderError  # which no column takes
        email = presentable_email(account_email)
        if email is None:
            raise EmailNotAvailable
        return Identity(
            access_token=access_token,
            account_id=account_id,
            email=email,
            expires_at=_expiry(token),
            refresh_token=token.get("refresh_token"),
            profile={**id_claims, **profile},
            email_verified=_vouches(profile, id_claims, email),
        )

    def finish(self, request: Request, response: Response) -> Response:
        claims = self._claims_of_this_browser(request)
        target = claims.get("redirect")
        if target in self.allowed_redirects:
            answer = response
            challenge = {"challenge": answer.challenge.id} if isinstance(answer, ChallengeAnswer) else {}
            response = RedirectResponse(_with_query(str(target), challenge), status.HTTP_303_SEE_OTHER)
            response.background = answer.background
            response.raw_headers += [header for header in answer.raw_headers if header[0] not in _OF_THE_BODY]
        self.cookie.remove(request, response, claims.get(CSRF_TOKEN_KEY, ""))
        return response

    def refuse(self, request: Request, refusal: HTTPException) -> Response:
        """Where the browser came for a redirect, it gets one with the code; everything else is raised."""
        claims = self._claims_of_this_browser(request, is_expiry_verified=False)
        is_ours = refusal.status_code in (status.HTTP_400_BAD_REQUEST, status.HTTP_401_UNAUTHORIZED)
        if not is_ours or claims.get("redirect") not in self.allowed_redirects:
            if claims and self.strict:
                self.cookie.remove(request, removal := Response(), claims[CSRF_TOKEN_KEY])
                refusal.headers = {**(refusal.headers or {}), "set-cookie": removal.headers["set-cookie"]}
            raise refusal
        response = RedirectResponse(
            _with_query(claims["redirect"], {"error": _public_code(refusal)}), status.HTTP_303_SEE_OTHER
        )
        self.cookie.remove(request, response, claims[CSRF_TOKEN_KEY])
        return response

    def _claims_of_this_browser(self, request: Request, *, is_expiry_verified: bool = True) -> dict[str, Any]:
        """Of a state that is ours, and perhaps too old, but tells where the browser was going."""
        try:
            claims, _ = decode_with_secret(
                request.query_params.get("state", ""),
                get_secret_values(self.state_secret),
                [STATE_TOKEN_AUDIENCE],
                [JWT_ALGORITHM],
                options={"verify_exp": is_expiry_verified},
            )
            return self._check_claims(request, claims)
        except (jwt.PyJWTError, InvalidState):
            return {}


def _takes(function: Callable[..., Any], *names: str) -> bool:
    parameters = inspect.signature(function).parameters
    return {*names} <= {*parameters} or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _base64url(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _unverified_claims(state: str | None) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(state or "", options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError, UnicodeEncodeError):
        return {}
    return claims


def _expiry(token: OAuth2Token) -> int | None:
    """What is no time within the next ten years is not kept: the column might not take it."""
    expires_at = token.get("expires_at")
    is_sensible = isinstance(expires_at, int) and 0 <= expires_at < time.time() + 10 * 365 * 24 * 3600
    return expires_at if is_sensible else None


def _vouches(profile: Mapping[str, Any], id_claims: Mapping[str, Any], email: str) -> bool | None:
    """Each of the two speaks for the address that it names, and not for the other's."""
    statements = [is_email_verified(profile)] if profile.get("email", email) == email else []
    if id_claims.get("email") == email:
        statements.append(is_email_verified(id_claims))
    if False in statements:
        return False
    return True if True in statements else None


def is_email_verified(profile: Mapping[str, Any]) -> bool | None:
    """What a provider says of it: ``true`` means yes, anything else no, silence ``None``.

    In the claim of OpenID Connect, in that of Google's older API, and in the list of its newer one.
    """
    for claim in ("email_verified", "verified_email"):
        if claim in profile:
            return profile[claim] is True
    addresses = profile.get("emailAddresses")
    for address in addresses if isinstance(addresses, list) else ():
        metadata = address.get("metadata") if isinstance(address, dict) else None
        if isinstance(metadata, dict) and metadata.get("primary"):
            return metadata.get("verified") is True
    return None


def _with_query(target: str, parameters: Mapping[str, str]) -> str:
    if not parameters:
        return target
    page, hash_sign, fragment = target.partition("#")
    return f"{page}{'&' if '?' in page else '?'}{urlencode(parameters)}{hash_sign}{fragment}"


def _public_code(refusal: HTTPException) -> str:
    """One of ours, or a word of RFC 6749 or OpenID Connect."""
    if isinstance(refusal.detail, ErrorCode):
        return refusal.detail.value
    if refusal.status_code != status.HTTP_400_BAD_REQUEST:  # the user who began to link an account has gone
        return "login_required"
    if refusal.detail == HTTPStatus.BAD_REQUEST.phrase:  # no code, or another user began
        return ErrorCode.OAUTH_INVALID_STATE.value
    return refusal.detail if refusal.detail in _PROVIDER_ERRORS else ErrorCode.OAUTH_PROVIDER_ERROR.value


def get_oauth_router(
    oauth_client: BaseOAuth2[Any],
    backend: AuthenticationBackend[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
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
    authenticator: Authenticator[models.UP, models.ID] | None = None,
) -> APIRouter:
    """Log in, or register, with an account at a provider.

    :param redirect_url: where the provider sends the browser back to; by default the URL of the callback route, as
        the request's ``Host`` header makes it.
    :param associate_by_email: see ``BaseUserManager.oauth_callback``. Never where the provider says that it has not
        verified the address.
    :param is_verified_by_default: new users start verified: for providers that verify addresses themselves. Never where
        the provider says that it has not.
    :param strict: for new applications: see :class:`Flow`.
    :param requires_verification: refuse users whose address is not verified.
    :param link_policy: ``verified`` links by e-mail only what both sides have verified; the default with ``strict``.
    :param allowed_scopes: what a client may ask for; ``None`` allows everything.
    :param allowed_redirects: where a browser may want to be sent after ``/authorize?redirect=…``, to the letter.
    :param authenticator: over all backends of the application, whose sessions may have to end.
    :raises ValueError: redirects are allowed, and the transport of the backend sets no cookie; or ``strict``, and a
        ``state_secret`` is weak.
    :raises TypeError: a text stands where a list has to.
    """
    _require_client(oauth_client)
    require_backend(backend)
    if allowed_redirects and not isinstance(backend.transport.scheme, APIKeyCookie):
        raise ValueError(f"A browser that is redirected cannot take the token of {backend.name!r}: use cookies.")
    router = APIRouter(route_class=SafeRoute)
    route_name = f"oauth:{oauth_client.name}.{backend.name}"
    policy = link_policy or ("verified" if strict else "default")
    login_refusals, callback_refusals = (
        (VERIFIED_LOGIN, VERIFIED_LOGIN_CALLBACK) if requires_verification else (LOGIN, LOGIN_CALLBACK)
    )
    # Version 15 documents a 200 whatever the transport answers.
    successes: OpenAPIResponseType = {
        code: documented
        for code, documented in backend.transport.get_openapi_login_responses_success().items()
        if code != status.HTTP_200_OK
    }
    get_session_ender = (authenticator or Authenticator([backend], get_user_manager)).session_ender()
    flow = Flow(
        client=oauth_client,
        purpose="login",
        callback_route=f"{route_name}.callback",
        redirect_url=redirect_url,
        state_secret=state_secret,
        cookie=CSRFCookie(
            csrf_token_cookie_name,
            csrf_token_cookie_path,
            csrf_token_cookie_domain,
            csrf_token_cookie_secure,
            csrf_token_cookie_httponly,
            csrf_token_cookie_samesite,
            strict=strict,
        ),
        strict=strict,
        allowed_scopes=allowed_scopes,
        allowed_redirects=allowed_redirects,
    )

    @router.get(
        "/authorize",
        name=f"{route_name}.authorize",
        response_model=OAuth2AuthorizeResponse,
        responses=flow.authorize_responses,
    )
    async def authorize(
        request: Request,
        response: Response,
        scopes: list[str] = Query(None),
        redirect: str | None = Query(None, include_in_schema=bool(allowed_redirects)),
    ) -> Any:
        return await flow.authorize(request, response, scopes, redirect)

    async def callback(
        request: Request,
        token_and_state: tuple[OAuth2Token, str | None] = Depends(flow.exchange),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
        strategy: Strategy[models.UP, models.ID] = Depends(backend.get_strategy),
        end_sessions: Callable[[models.UP], Awaitable[None]] = Depends(get_session_ender),
    ) -> Response:
        token, state = token_and_state
        with CALLBACK:
            claims = flow.check_state(request, state)
            identity = await flow.get_identity(token, claims[CSRF_TOKEN_KEY], state)
        is_vouched_for = identity.email_verified is not False
        may_link = identity.email_verified is True if policy == "verified" else is_vouched_for
        with login_refusals, ending_sessions(end_sessions):
            user = await user_manager.oauth_callback(
                flow.client.name,
                *identity.arguments,
                request,
                associate_by_email=associate_by_email and may_link,
                is_verified_by_default=is_verified_by_default and is_vouched_for,
                **_further_arguments(user_manager, identity, policy),
            )
        with login_refusals:
            refuse_unfit(user, requires_verification=requires_verification)
        # Not within the table: exceptions of the application's hooks are no refusals of ours.
        with LOGIN_OUTDATED:
            return await complete_login(
                backend,
                strategy,
                user=user,
                user_manager=user_manager,
                methods=[FEDERATED_METHOD],
                request=request,
                requires_verification=requires_verification,
            )

    router.add_api_route(
        "/callback",
        callback,
        methods=["GET"],
        route_class_override=flow.route_class(),
        name=flow.callback_route,
        responses={**successes, **flow.redirect_responses, **callback_refusals.responses},
        openapi_extra=login_openapi_extra(backend),
    )
    return router


def _further_arguments(user_manager: Any, identity: Identity, policy: str) -> dict[str, Any]:
    """What upstream's signature does not have, only where the application has asked for it."""
    arguments: dict[str, Any] = {} if policy == "default" else {"link_policy": policy}
    get_fields = getattr(type(user_manager), "get_oauth_user_fields", None)
    if get_fields not in (None, BaseUserManager.get_oauth_user_fields):
        arguments["profile"] = identity.profile
    return arguments


def get_oauth_associate_router(
    oauth_client: BaseOAuth2[Any],
    authenticator: Authenticator[models.UP, models.ID],
    get_user_manager: UserManagerDependency[models.UP, models.ID],
    user_schema: type[schemas.U],
    state_secret: SecretsType,
    redirect_url: str | None = None,
    requires_verification: bool = False,
    *,
    csrf_token_cookie_name: str = CSRF_TOKEN_COOKIE_NAME,
    csrf_token_cookie_path: str = "/",
    csrf_token_cookie_domain: str | None = None,
    csrf_token_cookie_secure: bool = True,
    csrf_token_cookie_httponly: bool = True,
    csrf_token_cookie_samesite: Literal["lax", "strict", "none"] = "lax",
    strict: bool = False,
    allowed_scopes: Collection[str] | None = None,
    allowed_redirects: Collection[str] = (),
) -> APIRouter:
    """Link an account at a provider to the user who is logged in. The parameters are those of ``get_oauth_router``.

    :param requires_verification: refuse users whose address is not verified.
    """
    _require_client(oauth_client)
    router = APIRouter(route_class=SafeRoute)
    get_current_active_user = authenticator.current_user(active=True, verified=requires_verification)
    route_name = f"oauth-associate:{oauth_client.name}"
    unfit = {**UNAUTHORIZED, **UNVERIFIED} if requires_verification else UNAUTHORIZED
    flow = Flow(
        client=oauth_client,
        purpose="associate",
        callback_route=f"{route_name}.callback",
        redirect_url=redirect_url,
        state_secret=state_secret,
        cookie=CSRFCookie(
            csrf_token_cookie_name,
            csrf_token_cookie_path,
            csrf_token_cookie_domain,
            csrf_token_cookie_secure,
            csrf_token_cookie_httponly,
            csrf_token_cookie_samesite,
            strict=strict,
        ),
        strict=strict,
        allowed_scopes=allowed_scopes,
        allowed_redirects=allowed_redirects,
    )

    @router.get(
        "/authorize",
        name=f"{route_name}.authorize",
        response_model=OAuth2AuthorizeResponse,
        responses={**unfit, **flow.authorize_responses},
    )
    async def authorize(
        request: Request,
        response: Response,
        scopes: list[str] = Query(None),
        redirect: str | None = Query(None, include_in_schema=bool(allowed_redirects)),
        user: models.UP = Depends(get_current_active_user),
    ) -> Any:
        return await flow.authorize(request, response, scopes, redirect, sub=str(user.id))

    async def callback(
        request: Request,
        user: Any = Depends(get_current_active_user),  # before the exchange: a stranger spends no code
        token_and_state: tuple[OAuth2Token, str | None] = Depends(flow.exchange),
        user_manager: BaseUserManager[models.UP, models.ID] = Depends(get_user_manager),
    ) -> schemas.U:
        token, state = token_and_state
        with CALLBACK:
            claims = flow.check_state(request, state)
            if claims.get("sub") != str(user.id):
                raise HTTPException(status.HTTP_400_BAD_REQUEST)
            identity = await flow.get_identity(token, claims[CSRF_TOKEN_KEY], state)
        with ASSOCIATE:
            user = await user_manager.oauth_associate_callback(user, flow.client.name, *identity.arguments, request)
        return user_schema.model_validate(user)

    router.add_api_route(
        "/callback",
        callback,
        methods=["GET"],
        route_class_override=flow.route_class(),
        name=flow.callback_route,
        response_model=user_schema,
        responses={**unfit, **flow.redirect_responses, **ASSOCIATE_CALLBACK.responses},
    )
    return router


def _require_client(oauth_client: Any) -> None:
    if isinstance(oauth_client, type) or not hasattr(oauth_client, "get_authorization_url"):
        raise TypeError(
            "This router takes a client of httpx-oauth first, not a class of them: write GoogleOAuth2(client_id, "
            "client_secret)."
        )
