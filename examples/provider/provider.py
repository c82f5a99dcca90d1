"""An OpenID Connect provider to log in with: Authlib's grants behind a few routes, everything in memory.

It is for examples and tests, and trusts whoever comes: they say themselves who they are. It plays fair until a test turns
one of its switches.
"""

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import jwt
import uvicorn
from authlib.oauth2 import AuthorizationServer, OAuth2Error, OAuth2Request, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, InvalidRequestError, TokenMixin
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import AuthorizationCodeMixin, OpenIDCode, UserInfo
from joserfc.jwk import KeySet, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

SCOPES = ("openid", "email", "profile")
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"email": "ann@example.org", "email_verified": True, "name": "Ann"},
    "bob": {"email": "bob@example.org", "email_verified": False, "name": "Bob"},
}


@contextmanager
def serve(app: ASGIApp, *, port: int = 0) -> Iterator[str]:
    """Run the application on the loopback, by default on a free port, in a thread of its own: its URL.

    A thread, because httpx-oauth's ``OpenID`` reads the provider's configuration with a client that is not async.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may linger
        listener.bind(("127.0.0.1", port))
        listener.listen()  # connections that come before the server is up wait here
        options: Any = {"lifespan": "off", "ws": "none", "log_level": "warning", "timeout_graceful_shutdown": 5}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


class OIDCProvider(AuthorizationServer):
    """One client, and a user who is logged in here and agrees to everything.

    Switches: ``user`` logged in, ``None`` refuses; ``interactive`` asks who it is; ``require_pkce``; ``expires_in`` of
    access tokens; ``id_token_claims`` and ``userinfo_claims`` replace what would be said; ``id_token_algorithm`` is
    ``RS256``, ``HS256`` or ``none``; ``token_failure`` is the status with which no token is given.
    """

    client_id = "the-client"
    client_secret = "the secret of the client, longer than 32 bytes"

    def __init__(
        self,
        users: Mapping[str, Mapping[str, Any]],
        *,
        redirect_uris: list[str],
        interactive: bool = False,
        require_pkce: bool = False,
    ) -> None:
        """``users``: the claims of each, by ``sub``."""
        super().__init__(scopes_supported=SCOPES)
        self.users = {sub: dict(claims) for sub, claims in users.items()}
        self.user = next(iter(self.users), None)
        self.redirect_uris = redirect_uris
        self.interactive = interactive
        self.require_pkce = require_pkce
        self.expires_in = 3600
        self.id_token_claims: dict[str, Any] = {}
        self.id_token_algorithm = "RS256"
        self.userinfo_claims: dict[str, Any] = {}
        self.token_failure: int | None = None

        self.issuer = ""
        self.token_requests: list[dict[str, Any]] = []
        self.jwks_requests = 0
        self.codes: dict[str, Code] = {}
        self.nonces: set[str | None] = set()
        self.tokens: list[Token] = []
        self.rotate_key()

        self.register_grant(CodeGrant, [PKCE(self), IDTokens(self)])
        self.register_grant(RefreshGrant)
        self.register_token_generator("default", BearerTokenGenerator(new_secret, new_secret, self._get_expires_in))
        self.protector = ResourceProtector()
        self.protector.register_token_validator(AccessTokens(self))
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discovery),
                Route("/jwks", self.jwks),
                Route("/authorize", self.authorize, methods=["GET", "POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/userinfo", self.userinfo),
            ]
        )

    @contextmanager
    def serve(self, *, port: int = 0) -> Iterator[str]:
        """The URL of the configuration, as clients want it."""
        with serve(self.app, port=port) as self.issuer:
            yield f"{self.issuer}/.well-known/openid-configuration"

    def rotate_key(self) -> None:
        """Sign with a new key, and forget the old one."""
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(8), "use": "sig", "alg": "RS256"})

    def claims(self, sub: str, scope: str) -> UserInfo:
        return UserInfo({**self.users[sub], "sub": sub}).filter(scope)

    async def discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/jwks",
                "scopes_supported": SCOPES,
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def jwks(self, request: Request) -> Response:
        self.jwks_requests += 1
        return JSONResponse(KeySet([self.key]).as_dict(private=False))

    async def authorize(self, request: Request) -> Response:
        oauth2_request = await read(request)
        try:
            grant: Any = self.get_consent_grant(oauth2_request, self.user)  # type: ignore[no-untyped-call]  # a gap of its stubs
        except OAuth2Error as error:
            return as_response(self.handle_error_response(oauth2_request, error))
        user = self.user
        if self.interactive:
            if request.method == "GET":
                return HTMLResponse(login_page(self.users))
            user = self.log_in(oauth2_request.form)
        return as_response(self.create_authorization_response(oauth2_request, grant_user=user, grant=grant))

    def log_in(self, form: dict[str, str]) -> str | None:
        """Who the form of the page names: one of the users, a new one, or nobody."""
        if email := form.get("email"):
            self.users.setdefault(email, {"email": email, "email_verified": "verified" in form})
            return email
        user = form.get("user")
        return user if user in self.users else None

    async def token(self, request: Request) -> Response:
        oauth2_request = await read(request)
        self.token_requests.append(oauth2_request.form)
        if self.token_failure is not None:
            failure = {"error": "server_error", "error_description": "The text of the provider."}
            return JSONResponse(failure, self.token_failure)
        return as_response(self.create_token_response(oauth2_request))

    async def userinfo(self, request: Request) -> Response:
        oauth2_request = await read(request)
        try:
            token: Any = self.protector.validate_request(["openid"], oauth2_request)  # type: ignore[no-untyped-call]  # the same
        except OAuth2Error as error:
            return as_response(self.handle_error_response(oauth2_request, error))
        return JSONResponse({**self.claims(token.user, token.scope), **self.userinfo_claims})

    # What Authlib asks of the framework and the database.

    def create_oauth2_request(self, request: Any) -> OAuth2Request:
        return cast("OAuth2Request", request)

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        return Response(json.dumps(body) if isinstance(body, dict) else body, status, dict(headers))

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def query_client(self, client_id: str) -> Any:
        return Client(self) if client_id == self.client_id else None

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        self.tokens.append(
            Token(
                access_token=token["access_token"],
                refresh_token=token["refresh_token"],
                scope=token.get("scope", ""),
                user=str(request.user),
                expires_at=time.time() + self.expires_in,
            )
        )

    def _get_expires_in(self, client: ClientMixin, grant_type: str) -> int:
        return self.expires_in


class FormRequest(OAuth2Request):
    def __init__(self, request: Request, form: dict[str, str]) -> None:
        super().__init__(request.method, str(request.url), headers=request.headers)
        self.payload = BasicOAuth2Payload({**request.query_params, **form})
        self._form = form

    @property
    def form(self) -> dict[str, str]:
        return self._form


async def read(request: Request) -> FormRequest:
    return FormRequest(request, {name: str(value) for name, value in (await request.form()).items()})


def as_response(response: object) -> Response:
    """Authlib hands back what ``handle_response`` made, untyped."""
    return cast("Response", response)


def new_secret(**_: object) -> str:
    return secrets.token_urlsafe(32)


class Client(ClientMixin):
    def __init__(self, provider: OIDCProvider) -> None:
        self.provider = provider

    def get_client_id(self) -> str:
        return self.provider.client_id

    def get_allowed_scope(self, scope: Any) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.provider.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.provider.client_secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return True

    def check_response_type(self, response_type: str) -> bool:
        return True

    def check_grant_type(self, grant_type: str) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Code(AuthorizationCodeMixin):
    code: str
    redirect_uri: str
    scope: str
    user: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int | None:
        return None

    def get_acr(self) -> Any:
        return None

    def get_amr(self) -> Any:
        return None


@dataclass(frozen=True, kw_only=True)
class Token(TokenMixin):
    access_token: str
    refresh_token: str
    scope: str
    user: str
    expires_at: float

    def check_client(self, client: Any) -> bool:
        return True

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at

    def is_revoked(self) -> bool:
        return False


class CodeGrant(AuthorizationCodeGrant):
    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        payload = cast("BasicOAuth2Payload", request.payload)
        self.server.codes[code] = Code(
            code=code,
            redirect_uri=payload.redirect_uri,
            scope=request.scope,
            user=str(request.user),
            nonce=payload.data.get("nonce"),
            code_challenge=payload.data.get("code_challenge"),
            code_challenge_method=payload.data.get("code_challenge_method"),
        )
        self.server.nonces.add(payload.data.get("nonce"))

    def query_authorization_code(self, code: str, client: ClientMixin) -> Any:
        return self.server.codes.get(code)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class RefreshGrant(RefreshTokenGrant):
    """Each refresh token works once (RFC 9700, section 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AuthorizationCodeGrant.TOKEN_ENDPOINT_AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Any:
        return next((token for token in self.server.tokens if token.refresh_token == refresh_token), None)

    def authenticate_user(self, refresh_token: Any) -> Any:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: Any) -> None:
        self.server.tokens.remove(refresh_token)


class PKCE(CodeChallenge):
    """Authlib checks the verifier; here S256 is the only method, and may be asked for of confidential clients too."""

    def __init__(self, provider: OIDCProvider) -> None:
        super().__init__(required=False)
        self.provider = provider

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        is_used = "code_challenge" in data or "code_challenge_method" in data
        if (is_used or self.provider.require_pkce) and data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)


class IDTokens(OpenIDCode):
    def __init__(self, provider: OIDCProvider) -> None:
        super().__init__()
        self.provider = provider

    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:
        return nonce in self.provider.nonces

    def encode_id_token(self, token: Any, request: OAuth2Request) -> str:
        id_token = super().encode_id_token(token, request)
        if self.provider.id_token_algorithm == "none":  # which the library for it refuses to write without a warning
            claims = jwt.decode(id_token, options={"verify_signature": False})
            return jwt.encode(claims, None, "none", {"kid": self.provider.key.kid})  # type: ignore[arg-type]  # no key
        return id_token

    def get_client_algorithm(self, client: Any) -> str:
        return "HS256" if self.provider.id_token_algorithm == "HS256" else "RS256"

    def get_encode_header(self, client: Any) -> dict[str, Any]:
        return {"alg": self.get_client_algorithm(client), "kid": self.provider.key.kid}

    def get_client_claims(self, client: Any) -> dict[str, Any]:
        return {"iss": self.provider.issuer, "aud": self.provider.client_id}

    def resolve_client_private_key(self, client: Any) -> Any:
        is_symmetric = self.get_client_algorithm(client) == "HS256"
        return OctKey.import_key(self.provider.client_secret) if is_symmetric else self.provider.key

    def generate_user_info(self, user: str, scope: str) -> UserInfo:
        """The last claims to be written: these replace those before."""
        return UserInfo({**self.provider.claims(user, scope), **self.provider.id_token_claims})


class AccessTokens(BearerTokenValidator):
    def __init__(self, provider: OIDCProvider) -> None:
        super().__init__()
        self.provider = provider

    def authenticate_token(self, token_string: str) -> Token | None:
        return next((token for token in self.provider.tokens if token.access_token == token_string), None)


def login_page(users: Mapping[str, Mapping[str, Any]]) -> str:
    """Buttons for the users, a field for somebody else. The form goes to its own URL, which has the request."""
    buttons = "\n".join(
        f'<p><button name="user" value="{escape(sub)}">Log in as {escape(str(claims.get("name", sub)))}</button> '
        f"{escape(str(claims.get('email', '')))}{'' if claims.get('email_verified') is True else ' (not proven)'}</p>"
        for sub, claims in users.items()
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Demo provider</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem }}</style>
<h1>Demo provider</h1>
<form method="post">
{buttons}
</form>
<form method="post">
<p><label>Somebody else: <input type="email" name="email" required autocomplete="email"></label></p>
<p><label><input type="checkbox" name="verified" checked> who has proven this address</label></p>
<p><button>Log in</button></p>
</form>
<form method="post"><p><button>Cancel</button></p></form>
</html>"""
