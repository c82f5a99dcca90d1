import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeGuard

import jwt

from fastapi_users import exceptions, models  # noqa: F401 -- applications import it from here, as from upstream's
from fastapi_users.authentication.strategy.base import (
    MAX_TIME,
    Authentication,
    Strategy,
    StrategyDestroyNotSupportedError,
    current_authentication,
    get_token_owner,
)
from fastapi_users.authentication.strategy.denylist import Denylist
from fastapi_users.insecure import endless, refuse_weak_secret, secret_weakness, warn_of_weak_secret, warn_once
from fastapi_users.jwt import (
    SecretsType,
    SecretType,  # noqa: F401 -- applications import it from here, as from upstream's
    VerifyingKey,
    decode_jwt,  # noqa: F401 -- applications import it from here, as from upstream's
    decode_with_secret,
    generate_jwt,
    get_secret_values,
    has_signature,
    is_asymmetric,
    is_symmetric,
    key_length_weakness,
    load_verifying_key,
    read_key_id,
)
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

_REQUIRED = ["exp", "iat", "jti", "fgpt"]


class JWTStrategyDestroyNotSupportedError(StrategyDestroyNotSupportedError):
    def __init__(self) -> None:
        super().__init__("A JWT can't be invalidated: it's valid until it expires.")


class JWTStrategy(Strategy[UP, ID], Generic[UP, ID]):
    """Signed tokens (RFC 7519) that nothing is stored for, unless there is a ``revoke``.

    ``lifetime_seconds`` of ``None`` or 0 makes tokens that never expire. With an asymmetric ``algorithm`` (RS256,
    ES256), ``secret`` is the private and ``public_key`` the public key, as PEM. Only ``algorithm`` is accepted on
    reading, whatever the token says (RFC 8725, section 3.1). Both may be lists: the first secret signs, and whatever
    one of the public keys, or of the secrets, fits is accepted.

    A token ends when the password or the address of its user changes, since it carries a keyed fingerprint of both
    (``fgpt``). Tokens without one, as upstream makes them, count until they expire.

    :param revoke: a list of tokens that were ended, asked once per request. Without one, logging out ends a token only
        for a client that forgets it.
    :param strict: a lifetime and strong secrets are demanded, and of every token ``exp``, ``iat``, ``jti`` and ``fgpt``.
    :raises ValueError: something that ``strict`` demands is missing.
    """

    revoke: Denylist | None = None  # also of a subclass with an __init__ of its own
    strict: bool = False

    def __init__(
        self,
        secret: SecretsType,
        lifetime_seconds: int | None,
        token_audience: list[str] = ["fastapi-users:auth"],  # noqa: B006 -- upstream's default; never mutated
        algorithm: str = "HS256",
        public_key: SecretsType | None = None,
        *,
        revoke: Denylist | None = None,
        strict: bool = False,
    ) -> None:
        self.secret = secret
        self.lifetime_seconds = lifetime_seconds
        self.token_audience = token_audience
        self.algorithm = algorithm
        self.public_key = public_key
        self.revoke = revoke
        self.strict = strict
        self._check_settings()

    @property
    def encode_key(self) -> SecretsType:
        return self.secret

    @property
    def decode_key(self) -> SecretsType:
        return self.public_key or self.secret

    @property
    def verifying_keys(self) -> Sequence[VerifyingKey]:
        """What others need to read the tokens. :raises ValueError: the algorithm has secrets only."""
        if not is_asymmetric(self.algorithm):
            raise ValueError(f"{self.algorithm} has no public key: who could read the tokens could make them.")
        return [load_verifying_key(key, self.algorithm) for key in get_secret_values(self.decode_key)]

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        if token is None:
            return None
        claims, key = self._verify(token)
        if "sub" not in claims:
            return None
        user = await get_token_owner(claims["sub"], user_manager)
        if user is None or not self._fits_credentials(claims, key, user, user_manager):
            return None
        return None if self.revoke is not None and await self._is_revoked(token, claims, user) else user

    async def read_authentication(self, token: str) -> Authentication | None:
        """From the claims ``auth_time`` (OpenID Connect Core, section 2) and ``amr`` (RFC 8176)."""
        claims, _ = self._verify(token)
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
        return self._sign({**claims, **await self._claims_of_session(user)}, self.lifetime_seconds)

    async def reissue_token(self, token: str, user: UP) -> str | None:
        """The same session, for the user as it is now: all claims stay, its end and those of the application included,
        but ``jti``, ``iat`` and ``fgpt``. A subclass that overrides ``write_token`` is asked for a new one instead.

        To be called when the credentials of the user changed in this very session, which would end with the others.
        ``None`` where it would not, or where the token is none of this user's that counts.
        """
        claims, _ = self._verify(token)
        if not isinstance(claims.get("fgpt"), str) or claims.get("sub") != str(user.id):
            return None
        if await self._is_revoked(token, claims, user):
            return None
        if type(self).write_token is not JWTStrategy.write_token:  # which may keep a list of what it wrote
            authentication = current_authentication.set(await self.read_authentication(token))
            try:
                return await self.write_token(user)
            finally:
                current_authentication.reset(authentication)
        kept = {name: value for name, value in claims.items() if name != "fgpt"}
        return self._sign({**kept, **await self._claims_of_session(user)}, None)

    async def destroy_token(self, token: str, user: UP) -> None:
        """:raises JWTStrategyDestroyNotSupportedError: there is no ``revoke``."""
        if self.revoke is None:
            raise JWTStrategyDestroyNotSupportedError
        claims, _ = self._verify(token)
        if claims:  # or it counts no more
            await self.revoke.put(_token_digest(token, claims), "revoked", _expires_at(claims))

    async def destroy_all_tokens(self, user: UP, *, except_tokens: Sequence[str] = ()) -> int:
        """End every session of a user but these: 1, since how many those are is known to nobody, or 0 without ``revoke``.

        What was issued later counts, also within the same millisecond, or on a server whose clock is behind. One whose
        clock is ahead may have issued, before, what will outlive this.
        """
        if self.revoke is None:
            return 0
        digest = self._user_digest(user)
        [entry] = await self.revoke.get([digest])
        moment = max(_now(), 1 + _ended_before(entry))
        kept = [(token, self._verify(token)[0]) for token in except_tokens]
        exempt = list(dict.fromkeys(_token_digest(token, claims) for token, claims in kept if claims))[:_MAX_EXEMPT]
        # Not before the entry that was there, which may be of a strategy whose tokens live longer.
        expiry = max(
            _expiry_of(entry), moment + self.lifetime_seconds * _MILLISECONDS if self.lifetime_seconds else _NEVER
        )
        expires_at = None if expiry == _NEVER else datetime.fromtimestamp(expiry / _MILLISECONDS, timezone.utc)
        await self.revoke.put(digest, f"{moment}:{expiry}:{','.join(exempt)}", expires_at)
        return 1

    async def _claims_of_session(self, user: UP) -> dict[str, Any]:
        issued_at: float = int(time.time())
        if self.revoke is not None:
            # With its fraction, and after the end of the user's other sessions, whatever the clocks say.
            ended_before = _ended_before(*await self.revoke.get([self._user_digest(user)]))
            issued_at = max(_now(), 1 + ended_before) / _MILLISECONDS
        claims = {"iat": issued_at, "jti": secrets.token_urlsafe(16)}
        fingerprint = _fingerprint(self._signing_key(), user)
        return claims if fingerprint is None else {**claims, "fgpt": fingerprint}

    def _sign(self, claims: dict[str, Any], lifetime_seconds: int | None) -> str:
        key = self._signing_key()
        headers: dict[str, Any] = {"headers": {"kid": key.id}} if isinstance(key, VerifyingKey) else {}
        return generate_jwt(claims, self.encode_key, lifetime_seconds, algorithm=self.algorithm, **headers)

    def _verify(self, token: str) -> tuple[Mapping[str, Any], Any]:
        """The claims, and the key that signed them; no claims where the token is none of ours that counts."""
        about = self._all_that_decides(token)
        verified = None if about is None else _VERIFIED.get(about)
        if verified is None:
            # A clock that is ahead is no reason to refuse: "iat" tells an age, and limits nothing (RFC 7519, 4.1.6).
            options: dict[str, Any] = {"verify_iat": False, **({"require": _REQUIRED} if self.strict else {})}
            keys, audience = self._keys(token), self.token_audience
            try:
                if not has_signature(token, keys, self.algorithm):
                    return {}, None
                claims, key = decode_with_secret(token, keys, audience, [self.algorithm], options=options)
            except jwt.PyJWTError:
                return {}, None
            verified = _Verified(MappingProxyType(claims), key)
            if about is not None:
                _VERIFIED.put(about, verified)
        return ({}, None) if verified.is_out_of_time(time.time()) else verified

    def _all_that_decides(self, token: str) -> Any:
        """Whether a token counts, but for the time. ``None`` for what is not worth remembering, or not able to."""
        audience: Any = self.token_audience  # upstream takes a text as well
        secrets_ = get_secret_values(self.decode_key)
        is_plain = isinstance(audience, list) and set(map(type, secrets_)) == {str}
        if not is_plain or len(token) > _MAX_REMEMBERED or type(self).verifying_keys is not JWTStrategy.verifying_keys:
            return None
        return token, self.algorithm, self.strict, *audience, None, *secrets_

    def _keys(self, token: str) -> Sequence[Any]:
        if not is_asymmetric(self.algorithm):
            return get_secret_values(self.decode_key)
        keys = self.verifying_keys
        key_id = read_key_id(token) if len(keys) > 1 else None
        # One that we do not know, as upstream's tokens have none, narrows nothing: the signature decides.
        return [key for key in keys if key.id == key_id] or keys

    def _signing_key(self) -> Any:
        key = get_secret_values(self.encode_key)[0]
        return load_verifying_key(key, self.algorithm) if is_asymmetric(self.algorithm) else key

    def _fits_credentials(
        self, claims: Mapping[str, Any], key: Any, user: UP, user_manager: BaseUserManager[UP, ID]
    ) -> bool:
        fingerprint = claims.get("fgpt")
        if not isinstance(fingerprint, str):
            return not self.strict
        if getattr(user_manager, "sessions_end_with_credentials", True) is False:
            return True
        current = _fingerprint(key, user)
        return current is not None and fingerprint.isascii() and hmac.compare_digest(current, fingerprint)

    async def _is_revoked(self, token: str, claims: Mapping[str, Any], user: UP) -> bool:
        if self.revoke is None:
            return False
        digest = _token_digest(token, claims)
        token_entry, user_entry = await self.revoke.get([digest, self._user_digest(user)])
        is_exempt = user_entry is not None and digest in user_entry.rpartition(":")[2].split(",")
        return token_entry is not None or (not is_exempt and _issued_at(claims) <= _ended_before(user_entry))

    def _user_digest(self, user: UP) -> str:
        """Of one audience: other users may have the same id in another table."""
        return _digest("user", *sorted(self.token_audience), str(user.id))

    def _check_settings(self) -> None:
        is_usual = not self.strict and self.lifetime_seconds != 0 and type(self.secret) is str
        if is_usual and secret_weakness(self.secret) is None:
            return  # at once, since strategies are made for every request
        secrets_ = tuple(get_secret_values(self.secret)) if is_symmetric(self.algorithm) else ()
        if not self.strict:
            for secret in secrets_:
                if secret_weakness(secret) is not None:
                    warn_of_weak_secret(secret, f"{type(self).__name__}.secret")
            if self.lifetime_seconds == 0:
                warn_once(endless(f"{type(self).__name__}.lifetime_seconds"))
            return
        if self.lifetime_seconds is None or self.lifetime_seconds <= 0:
            raise ValueError(f"{type(self).__name__} is strict: lifetime_seconds has to be more than 0.")
        for secret in secrets_:
            refuse_weak_secret(secret, f"{type(self).__name__}.secret")
        for key in get_secret_values(self.decode_key):
            weakness = key_length_weakness(key, self.algorithm)
            if weakness is not None:
                raise ValueError(weakness)


_MAX_REMEMBERED = 4096


class _Verified(NamedTuple):
    """What a token said whose signature was right, and the key that it was made with."""

    claims: Mapping[str, Any]
    key: Any

    def is_out_of_time(self, now: float) -> bool:
        """By the rules of PyJWT (RFC 7519, sections 4.1.4 and 4.1.5)."""
        expires_at, not_before = self.claims.get("exp"), self.claims.get("nbf")
        return (expires_at is not None and int(expires_at) <= now) or (not_before is not None and int(not_before) > now)


class _VerifiedTokens:
    """Signatures that were right, so that each is checked once: a third of what a request with a JWT costs otherwise.

    Never whose token it is, nor whether it was revoked or has expired: that is asked each time. What is refused leaves
    nothing here, so that nobody fills it who has no good token.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[Any, _Verified] = {}
        self._lock = Lock()  # applications have several event loops, each in a thread

    def get(self, about: Any) -> _Verified | None:
        return self._known.get(about)

    def put(self, about: Any, verified: _Verified) -> None:
        with self._lock:
            if len(self._known) >= self._size:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[about] = verified


_VERIFIED = _VerifiedTokens(1024)
_MILLISECONDS = 1000
_NEVER = MAX_TIME * _MILLISECONDS
_MAX_EXEMPT = 4  # which with both times fit 255 characters


def _now() -> int:
    return time.time_ns() // 1_000_000


def _issued_at(claims: Mapping[str, Any]) -> int:
    """In milliseconds. Tokens that do not tell are older than everything."""
    issued_at = claims.get("iat")
    return round(issued_at * _MILLISECONDS) if _is_time(issued_at) else 0


def _expires_at(claims: Mapping[str, Any]) -> datetime | None:
    expires_at = claims.get("exp")
    return datetime.fromtimestamp(expires_at, timezone.utc) if _is_time(expires_at) else None


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value < MAX_TIME


def _ended_before(user_entry: str | None) -> int:
    return -1 if user_entry is None else int(user_entry.partition(":")[0])


def _expiry_of(user_entry: str | None) -> int:
    return 0 if user_entry is None else int(user_entry.split(":")[1])


def _token_digest(token: str, claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    # Without the signature, which has several spellings.
    return _digest("jti", jti) if isinstance(jti, str) else _digest("token", token.rpartition(".")[0])


def _digest(kind: str, *parts: str) -> str:
    texts = [text.encode("utf-8", "surrogatepass") for text in (kind, *parts)]
    message = b"".join(len(text).to_bytes(8, "big") + text for text in texts)
    return urlsafe_b64encode(sha256(message).digest()).rstrip(b"=").decode()


def _fingerprint(key: Any, user: Any) -> str | None:
    """128 bits of an HMAC-SHA256 of password hash and address; ``None`` for a user that has no such texts."""
    password_hash, email = getattr(user, "hashed_password", None), getattr(user, "email", None)
    material = key.id if isinstance(key, VerifyingKey) else key
    if not (isinstance(password_hash, str) and isinstance(email, str) and isinstance(material, str)):
        return None
    return _mark(material, password_hash, email)


# The same user comes again with every request, of which this would be a hundredth. The stored hashes that are kept for it are
# in good company: the secrets themselves are in the memory of the process.
@lru_cache(maxsize=1024)
def _mark(material: str, password_hash: str, email: str) -> str:
    message = f"{len(password_hash)}:{password_hash}{email}".encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(hmac.digest(_mark_key(material), message, "sha256")[:16])[:22].decode()


@lru_cache(maxsize=64)
def _mark_key(material: str) -> bytes:
    """For this only, since nothing that is signed as a JWT begins with a zero byte."""
    return hmac.digest(material.encode("utf-8", "surrogatepass"), b"\0fastapi-users:session", "sha256")
