from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
from pydantic import SecretStr

SecretType = str | SecretStr
JWT_ALGORITHM = "HS256"


def _get_secret_value(secret: SecretType) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def generate_jwt(
    data: dict[str, Any],
    secret: SecretType,
    lifetime_seconds: int | None = None,
    algorithm: str = JWT_ALGORITHM,
) -> str:
    """Sign a copy of the claims (RFC 7519). A lifetime of ``None`` or 0 makes a token that never expires."""
    claims = data.copy()
    if lifetime_seconds:
        claims["exp"] = datetime.now(timezone.utc) + timedelta(seconds=lifetime_seconds)
    return jwt.encode(claims, _get_secret_value(secret), algorithm=algorithm)


def decode_jwt(
    encoded_jwt: str,
    secret: SecretType,
    audience: list[str],
    algorithms: list[str] = [JWT_ALGORITHM],  # noqa: B006 -- upstream's default, compared by the contract; never mutated
) -> dict[str, Any]:
    """The claims of a token that shares an audience with ours; PyJWT's ``PyJWTError`` for every other token."""
    try:
        return jwt.decode(encoded_jwt, _get_secret_value(secret), audience=audience, algorithms=algorithms)
    except RecursionError as error:  # a header or payload of nothing but brackets
        raise jwt.DecodeError("Nested too deeply") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise jwt.DecodeError("Not text") from error
