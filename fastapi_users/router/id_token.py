"""ID tokens of OpenID Connect providers (OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725)."""

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio
import jwt

from fastapi_users.exceptions import FastAPIUsersException

__all__ = ["IDTokenVerifier", "InvalidIDToken"]

LEEWAY_SECONDS = 60
KEYS_LIFETIME_SECONDS = 3600
REFETCH_INTERVAL_SECONDS = 60
FETCH_TIMEOUT_SECONDS = 10
MAX_TOKEN_LENGTH = 64 * 1024
MAX_KEYS_BYTES = 512 * 1024
MAX_SUB_LENGTH = 255  # OpenID Connect Core 1.0, section 2


class InvalidIDToken(FastAPIUsersException):
    """Malformed, not signed by a key of the provider, expired, or made for another client or another log in."""


class Algorithm(NamedTuple):
    """What a signature needs: the key's ``kty`` and ``crv``, and the digest of ``at_hash``."""

    kty: str
    crv: str | None
    digest: str


# Only asymmetric ones: with HS256 whoever knows the public key, or a weak client secret, is the provider.
ALGORITHMS = {
    "RS256": Algorithm("RSA", None, "sha256"),
    "RS384": Algorithm("RSA", None, "sha384"),
    "RS512": Algorithm("RSA", None, "sha512"),
    "PS256": Algorithm("RSA", None, "sha256"),
    "PS384": Algorithm("RSA", None, "sha384"),
    "PS512": Algorithm("RSA", None, "sha512"),
    "ES256": Algorithm("EC", "P-256", "sha256"),
    "ES384": Algorithm("EC", "P-384", "sha384"),
    "ES512": Algorithm("EC", "P-521", "sha512"),
    "EdDSA": Algorithm("OKP", "Ed25519", "sha512"),
}
PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


class IDTokenVerifier:
    """Checks ID tokens with the keys that the provider publishes, which it fetches when it needs them.

    Keys are kept for an hour. A signature that none of them made is a reason to fetch them again, since the provider
    may have changed them, but once a minute at most.
    """

    def __init__(
        self,
        client: Any,
        *,
        issuer: str,
        jwks_uri: str,
        algorithms: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param client: one of httpx-oauth, whose ``get_httpx_client()`` fetches the keys."""
        self._client = client
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._algorithms = algorithms
        self._clock = clock
        self._lock = anyio.Lock()
        self._keys: list[dict[str, Any]] = []
        self._expires_at = float("-inf")
        self._refetch_at = float("-inf")
        self._fetches = 0

    @classmethod
    def for_client(cls, client: Any, *, clock: Callable[[], float] = time.monotonic) -> "IDTokenVerifier | None":
        """The verifier for httpx-oauth's ``OpenID`` and its like, ``None`` for clients that know no OpenID Connect."""
        configuration = getattr(client, "openid_configuration", None)
        if not isinstance(configuration, Mapping):
            return None
        issuer, jwks_uri = configuration.get("issuer"), configuration.get("jwks_uri")
        if not (isinstance(issuer, str) and issuer and isinstance(jwks_uri, str) and jwks_uri):
            return None
        announced = configuration.get("id_token_signing_alg_values_supported")
        if not isinstance(announced, list):
            announced = ["RS256"]
        algorithms = frozenset(name for name in ALGORITHMS if name in announced)
        return cls(client, issuer=issuer, jwks_uri=jwks_uri, algorithms=algorithms, clock=clock)

    async def verify(self, id_token: object, *, nonce: str | None, access_token: str | None = None) -> dict[str, Any]:
        """The claims of a token that this provider made for this client.

        :param id_token: what the token endpoint answered, of whatever type.
        :param nonce: what the authorization request carried; a token without it, or with another one, was made for
            another log in, and accepting it lets an attacker inject a stolen code or token.
        :param access_token: the one that came along, which a token with ``at_hash`` must belong to.
        :raises InvalidIDToken: for every failure, also where the provider's keys cannot be had.
        """
        with refusals_only():
            token = self._read(id_token)
            claims = self._claims(token)
            if claims is None:
                await self._refetch()
                claims = self._claims(token)
            if claims is None:
                raise InvalidIDToken("no key of the provider made the signature")
            self._check(claims, nonce=nonce)
            if access_token is not None and "at_hash" in claims:
                check_at_hash(claims["at_hash"], access_token, ALGORITHMS[token.algorithm])
            return claims

    def _read(self, id_token: object) -> "UnverifiedToken":
        if not isinstance(id_token, str):
            raise InvalidIDToken("it is no string")
        if len(id_token) > MAX_TOKEN_LENGTH:
            raise InvalidIDToken("it is too long")
        header = jwt.get_unverified_header(id_token)
        if header.get("alg") not in self._algorithms:
            raise InvalidIDToken("its algorithm is not allowed")
        if "crit" in header:  # RFC 7515, section 4.1.11: extensions that must be understood, and we know none
            raise InvalidIDToken("it has critical extensions")
        return UnverifiedToken(id_token, header["alg"], header.get("kid"))

    def _claims(self, token: "UnverifiedToken") -> dict[str, Any] | None:
        """``None`` where no key that we have made the signature."""
        if self._clock() >= self._expires_at:
            return None
        for key in self._keys:
            if not fits(key, token):
                continue
            try:
                return jwt.decode(
                    token.text,
                    public_key(key, token.algorithm),
                    algorithms=[token.algorithm],
                    audience=self._client.client_id,
                    issuer=self._issuer,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["iss", "sub", "aud", "exp", "iat"], "enforce_minimum_key_length": True},
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
        return None

    def _check(self, claims: dict[str, Any], *, nonce: str | None) -> None:
        """What OpenID Connect asks for beyond RFC 7519."""
        subject = claims["sub"]
        if not 0 < len(subject) <= MAX_SUB_LENGTH or not subject.isprintable():
            raise InvalidIDToken("sub is empty, too long or has control characters")
        is_for_several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (is_for_several or "azp" in claims) and claims.get("azp") != self._client.client_id:
            raise InvalidIDToken("azp is not this client")
        if nonce is not None and not same(claims.get("nonce"), nonce):
            raise InvalidIDToken("nonce is not the one that was sent")

    async def _refetch(self) -> None:
        """Fetch the keys, or take those that another request fetched while this one waited for its turn.

        :raises InvalidIDToken: they were fetched less than a minute ago.
        """
        fetches = self._fetches
        async with self._lock:
            if self._fetches != fetches:
                return
            now = self._clock()
            if self._refetch_at > now and self._expires_at > now:
                raise InvalidIDToken("no key of the provider made the signature")
            try:
                with anyio.CancelScope(shield=True):  # others wait for it too
                    self._keys = await self._fetch()
                self._expires_at = now + KEYS_LIFETIME_SECONDS
            finally:  # also of a failure: those who wait shall not ask, one by one, a provider that does not answer
                self._refetch_at = now + REFETCH_INTERVAL_SECONDS
                self._fetches += 1

    async def _fetch(self) -> list[dict[str, Any]]:
        with anyio.fail_after(FETCH_TIMEOUT_SECONDS):
            headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
            async with (
                self._client.get_httpx_client() as client,
                client.stream("GET", self._jwks_uri, headers=headers) as response,
            ):
                response.raise_for_status()
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_KEYS_BYTES:
                        raise InvalidIDToken("the provider's keys are too long")
        keys = json.loads(body)["keys"]
        return [key for key in keys if isinstance(key, dict)]


class UnverifiedToken(NamedTuple):
    text: str
    algorithm: str
    kid: str | None


@contextmanager
def refusals_only() -> Iterator[None]:
    """Tokens and keys come from outside, and what their parsers and HTTP clients raise is theirs."""
    try:
        yield
    except InvalidIDToken:
        raise
    except Exception as error:
        raise InvalidIDToken(type(error).__name__) from error  # and not its message, which may quote the token


def fits(key: dict[str, Any], token: UnverifiedToken) -> bool:
    """Whether the key says of itself that it makes such signatures; one without ``kid``, ``alg``, ``use`` may."""
    needed = ALGORITHMS[token.algorithm]
    return (
        key.get("kty") == needed.kty
        and key.get("crv") == needed.crv
        and key.get("alg", token.algorithm) == token.algorithm
        and key.get("use", "sig") == "sig"
        and (token.kid is None or key.get("kid") == token.kid)
    )


def public_key(key: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    """Without its private half, should a provider publish it by mistake: PyJWT cannot verify with that."""
    try:
        return jwt.PyJWK({name: key[name] for name in PUBLIC_MEMBERS if name in key}, algorithm)
    except Exception as error:
        raise jwt.InvalidKeyError from error


def check_at_hash(at_hash: Any, access_token: str, algorithm: Algorithm) -> None:
    """Section 3.1.3.6: the left half of the digest. Without the check the access token may be another user's."""
    digest = hashlib.new(algorithm.digest, access_token.encode()).digest()
    expected = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if not same(at_hash, expected):
        raise InvalidIDToken("at_hash is of another access token")


def same(value: Any, expected: str) -> bool:
    return isinstance(value, str) and secrets.compare_digest(value.encode(), expected.encode())
