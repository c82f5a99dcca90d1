from typing import Generic

import jwt

from fastapi_users.authentication.strategy.base import (
    Strategy,
    StrategyDestroyNotSupportedError,
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
        if token is None:
            return None
        try:
            claims = decode_jwt(token, self.decode_key, self.token_audience, algorithms=[self.algorithm])
        except jwt.PyJWTError:
            return None
        if "sub" not in claims:
            return None
        return await get_token_owner(claims["sub"], user_manager)

    async def write_token(self, user: UP) -> str:
        return generate_jwt(
            {"sub": str(user.id), "aud": self.token_audience},
            self.encode_key,
            self.lifetime_seconds,
            algorithm=self.algorithm,
        )

    async def destroy_token(self, token: str, user: UP) -> None:
        raise JWTStrategyDestroyNotSupportedError
