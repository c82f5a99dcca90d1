import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha256
from typing import Any

import jwt
from jwt.algorithms import requires_cryptography
from pydantic import SecretStr

from fastapi_users.insecure import MIN_SECRET_BYTES, warn_of_weak_secret

SecretType = str | SecretStr
SecretsType = SecretType | Sequence[SecretType]
"""One secret, or several, the newest first: that one signs, all of them verify.

To rotate, put a new one in front, and drop an old one when what it signed has expired.
"""
JWT_ALGORITHM = "HS256"


def _get_secret_value(secret: SecretType) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def get_secret_values(secrets: SecretsType) -> list[str]:
    """The newest first. :raises ValueError: the list is empty."""
    if isinstance(secrets, str):  # as nearly everywhere, and for every request
        return [secrets]
    several = list(secrets) if isinstance(secrets, Sequence) and not isinstance(secrets, str | bytes) else [secrets]
    if not several:
        raise ValueError("A list of secrets needs at least one.")
    return [_get_secret_value(secret) for secret in several]


def generate_jwt(
    data: dict[str, Any],
    secret: SecretsType,
    lifetime_seconds: int | None = None,
    algorithm: str = JWT_ALGORITHM,
    *,
    headers: dict[str, Any] | None = None,
) -> str:
    """Sign a copy of the claims (RFC 7519). A lifetime of ``None`` or 0 makes a token that never expires."""
    claims = data.copy()
    if lifetime_seconds:
        claims["exp"] = datetime.now(timezone.utc) + timedelta(seconds=lifetime_seconds)
    key = _key(get_secret_values(secret)[0], [algorithm])
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def decode_jwt(
    encoded_jwt: str,
    secret: SecretsType,
    audience: list[str],
    algorithms: list[str] = [JWT_ALGORITHM],  # noqa: B006 -- upstream's default, compared by the contract; never mutated
) -> dict[str, Any]:
    """The claims of a token that shares an audience with ours; PyJWT's ``PyJWTError`` for every other token."""
    claims, _ = decode_with_secret(encoded_jwt, get_secret_values(secret), audience, algorithms)
    return claims


def decode_with_secret(
    encoded_jwt: str,
    secrets: Sequence[Any],
    audience: list[str],
    algorithms: list[str],
    *,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Any]:
    """The claims, and the one of the secrets, or keys, that fits the signature. Refusals as in :func:`decode_jwt`.

    :param options: PyJWT's.
    """
    *others, last = secrets
    for secret in others:
        with suppress(jwt.InvalidSignatureError):
            return _decode(encoded_jwt, _key(secret, algorithms), audience, algorithms, options), secret
    return _decode(encoded_jwt, _key(last, algorithms), audience, algorithms, options), last


def _decode(
    encoded_jwt: str, key: Any, audience: list[str], algorithms: list[str], options: Mapping[str, Any] | None
) -> dict[str, Any]:
    given: dict[str, Any] = {} if options is None else {"options": dict(options)}
    try:
        return jwt.decode(encoded_jwt, key, audience=audience, algorithms=algorithms, **given)
    except RecursionError as error:  # a header or payload of nothing but brackets
        raise jwt.DecodeError("Nested too deeply") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise jwt.DecodeError("Not text") from error


def has_signature(encoded_jwt: str, secrets: Sequence[Any], algorithm: str) -> bool:
    """Whether one of the secrets made the signature: what has none of them PyJWT refuses as well, but only after it has
    looked at each character in Python, which is a quarter of the instructions of the answer. So this is for refusing
    only. Of an algorithm that is not HMAC, and of bytes, it says nothing: yes.
    """
    if algorithm not in _HMAC or not isinstance(encoded_jwt, str):
        return True
    known: Any = jwt.get_algorithm_by_name(algorithm)
    signed, _, signature = encoded_jwt.rpartition(".")
    try:
        # Lenient, as PyJWT is not: whatever it takes for a signature is the same here.
        mac = urlsafe_b64decode(signature + "==")
        message = signed.encode()
    except ValueError:
        return True  # PyJWT knows what is wrong with it
    keys = [secret.key if isinstance(secret, jwt.PyJWK) else _key(secret, [algorithm]) for secret in secrets]
    return any(known.verify(message, known.prepare_key(key), mac) for key in keys)


_HMAC = ("HS256", "HS384", "HS512")


def is_symmetric(algorithm: str) -> bool:
    return algorithm.startswith("HS")


def is_asymmetric(algorithm: str) -> bool:
    """Of the algorithms that PyJWT knows: an application may have registered one of its own, with keys of its own."""
    return algorithm in requires_cryptography


def _key(secret: Any, algorithms: Collection[str]) -> Any:
    if isinstance(secret, VerifyingKey):
        return secret.key
    if secret is None:
        raise TypeError(
            "The secret is None: set it to 32 random bytes or more, made once by secrets.token_urlsafe(32). Is the "
            "variable of the environment there?"
        )
    return _hmac_key(secret) if isinstance(secret, str) and all(map(is_symmetric, algorithms)) else secret


def _hmac_key(secret: str) -> str | bytes:
    """A short one, with the zero bytes that HMAC fills it up with anyway (RFC 2104): the signature is the same, and the
    warning is ours, said once, instead of PyJWT's at every use.
    """
    if not secret:
        raise jwt.InvalidKeyError("An empty secret is known to everybody.")  # which old versions of PyJWT do not mind
    if len(secret) >= MIN_SECRET_BYTES:
        return secret
    warn_of_weak_secret(secret)
    return secret.encode().ljust(MIN_SECRET_BYTES, b"\0")


_REQUIRED_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


@dataclass(frozen=True)
class VerifyingKey:
    """The public half of a pair. ``id`` is its thumbprint (RFC 7638), ``jwk`` what others may know of it (RFC 7517)."""

    id: str
    jwk: Mapping[str, str]
    key: Any = field(repr=False)


def load_verifying_key(key: Any, algorithm: str) -> VerifyingKey:
    """Of a public or private key, as PEM or as the object that ``cryptography`` makes of it.

    :raises jwt.InvalidKeyError: and whatever else PyJWT says of a key that it cannot use with this algorithm.
    """
    return _load_pem(key, algorithm) if isinstance(key, str | bytes) else _load(key, algorithm)


def _load(key: Any, algorithm: str) -> VerifyingKey:
    known = jwt.get_algorithm_by_name(algorithm)
    prepared: Any = known.prepare_key(key)
    public = prepared.public_key() if hasattr(prepared, "public_key") else prepared
    members = known.to_jwk(public, as_dict=True)
    # The members of RFC 7638, section 3.2, in lexicographic order and without spaces.
    jwk = {name: str(members[name]) for name in _REQUIRED_MEMBERS[str(members["kty"])]}
    thumbprint = sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest()
    return VerifyingKey(id=urlsafe_b64encode(thumbprint).rstrip(b"=").decode(), jwk=jwk, key=public)


_load_pem = lru_cache(maxsize=64)(_load)  # strategies are made for every request


def read_key_id(encoded_jwt: str) -> str | None:
    """The ``kid`` of the header, which nobody has verified: it may choose among our keys, and nothing else."""
    try:
        key_id = jwt.get_unverified_header(encoded_jwt).get("kid")
    except (jwt.PyJWTError, RecursionError, UnicodeEncodeError):
        return None
    return key_id if isinstance(key_id, str) else None


def key_length_weakness(key: Any, algorithm: str) -> str | None:
    """What PyJWT says of a key that is too short for the algorithm (RFC 7518, sections 3.2 and 3.3)."""
    check = _key_length_weakness if isinstance(key, str | bytes) else _key_length_weakness.__wrapped__
    return check(key, algorithm)


@lru_cache(maxsize=64)  # strategies are made for every request
def _key_length_weakness(key: Any, algorithm: str) -> str | None:
    known = jwt.get_algorithm_by_name(algorithm)
    return known.check_key_length(known.prepare_key(key))
