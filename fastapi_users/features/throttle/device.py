"""The cookie by which a browser is known from an earlier login (OWASP, "Device Cookies")."""

import secrets
from dataclasses import dataclass, field

import jwt

from fastapi_users.jwt import decode_jwt, generate_jwt

DEVICE_AUDIENCE = "fastapi-users:device"


@dataclass(frozen=True, kw_only=True)
class Device:
    """``identifiers`` are digests of what the user called itself, ``fingerprint`` is one of address and password."""

    user_id: str
    identifiers: tuple[str, ...]
    fingerprint: str = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))


def make_device_token(device: Device, keys: list[str], lifetime_seconds: int) -> str:
    claims = {
        "sub": device.user_id,
        "aud": DEVICE_AUDIENCE,
        "jti": device.id,
        "names": device.identifiers,
        "fgpt": device.fingerprint,
    }
    return generate_jwt(claims, keys, lifetime_seconds)


def read_device_token(token: str, keys: list[str]) -> Device | None:
    """``None`` for one that is forged or expired: the browser is then as unknown as any."""
    try:
        claims = decode_jwt(token, keys, [DEVICE_AUDIENCE])
    except jwt.PyJWTError:
        return None
    names = claims.get("names")
    texts = [claims.get("sub"), claims.get("jti"), claims.get("fgpt"), *(names if isinstance(names, list) else [None])]
    if not all(isinstance(text, str) for text in texts):  # whoever shares the secret could sign others
        return None
    user_id, device_id, fingerprint, *identifiers = texts
    return Device(user_id=user_id, identifiers=tuple(identifiers), fingerprint=fingerprint, id=device_id)
