from datetime import datetime, timezone
from typing import Any, Generic

import jwt

from fastapi_users.authentication.strategy.base import (
    MAX_TIME,
    Authentication,
    Strategy,
    StrategyDestroyNotSupportedError,
    current_authentication,
    get_token_owner,
)
from fastapi_users.jwt import SecretType, decode_jwt, generate_jwt
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP


class JWTStrategyDestroyNotSupportedError(StrategyDestroyNotSupportedError):
    def __init__(self) -> None:
        super().__init__("A JWT can't be invalidated: it's valid until it expires.")


class JWTStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Signed tokens (RFC 7519) that nothing is stored for.

    ``lifetime_seconds`` of ``None`` or 0 makes tokens that never expire. With an asymmetric ``algorithm`` (RS256,
    ES256), ``secret`` is the private and ``public_key`` the public key, as PEM. Only ``algorithm`` is accepted on
    reading, whatever the token says (RFC 8725, section 3.1).
    """

    def __init__(
        self,
        secret: SecretType,
        lifetime_seconds: int | None,
        token_audience: list[str] = ["fastapi-users:auth"],  # noqa: B006 -- upstream's default; never mutated
        algorithm: str = "HS256",
        public_key: SecretType | None = None,
    ) -> None:
        self.secret = secret
        self.lifetime_seconds = lifetime_seconds
        self.token_audience = token_audience
        self.algorithm = algorithm
        self.public_key = public_key

    @property
    def encode_key(self) -> SecretType:
        return self.secret

    @property
    def decode_key(self) -> SecretType:
        return self.public_key or self.secret

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        claims = {} if token is None else self._read_claims(token)
        if "sub" not in claims:
            return None
        return await get_token_owner(claims["sub"], user_manager)

    async def read_authentication(self, token: str) -> Authentication | None:
        """From the claims ``auth_time`` (OpenID Connect Core, section 2) and ``amr`` (RFC 8176)."""
        claims = self._read_claims(token)
        auth_time, methods = claims.get("auth_time"), claims.get("amr")
        if not isinstance(auth_time, int) or not 0 <= auth_time < MAX_TIME or not isinstance(methods, list):
            return None  # a subclass of the application may write claims of its own
        return Authentication(methods=tuple(methods), time=datetime.fromtimestamp(auth_time, timezone.utc))

    async def write_token(self, user: UP) -> str:
        claims: dict[str, Any] = {"sub": str(user.id), "aud": self.token_audience}
        authentication = current_authentication.get()
        if authentication is not None:
            claims["auth_time"] = int(authentication.time.timestamp())
            claims["amr"] = list(authentication.methods)
        return generate_jwt(claims, self.encode_key, self.lifetime_seconds, algorithm=self.algorithm)

    async def destroy_token(self, token: str, user: UP) -> None:
        raise JWTStrategyDestroyNotSupportedError

    def _read_claims(self, token: str) -> dict[str, Any]:
        try:
            return decode_jwt(token, self.decode_key, self.token_audience, algorithms=[self.algorithm])
        except jwt.PyJWTError:
            return {}
