import uuid
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from fastapi_users.authentication import JWTStrategy
from fastapi_users.router import get_jwks_router
from fastapi_users.testing import User
from tests.world import SECRET

Strategy = JWTStrategy[User, uuid.UUID]
AUDIENCE = "fastapi-users:auth"


def pem(key: Any) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


RSA = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
FIRST, SECOND = pem(ec.generate_private_key(ec.SECP256R1())), pem(ec.generate_private_key(ec.SECP256R1()))


async def get(*strategies: Strategy, path: str = "/.well-known/jwks.json", **options: Any) -> Response:
    app = FastAPI()
    app.include_router(get_jwks_router(*strategies, **options))
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        return await client.get(path)


async def test_another_service_reads_the_tokens_with_what_is_published() -> None:
    """Requirement 59 (RFC 7517): it finds the key by the ``kid`` of the header."""
    strategies = [
        Strategy(RSA[0], 60, algorithm="RS256", public_key=RSA[1]),
        Strategy([SECOND[0], FIRST[0]], 60, algorithm="ES256", public_key=[SECOND[1], FIRST[1]]),
        Strategy(FIRST[0], 60, algorithm="ES256"),  # of another backend, before the rotation
    ]
    answer = await get(*strategies)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert len(answer.json()["keys"]) == 3
    published = jwt.PyJWKSet.from_dict(answer.json())
    user = User("ann@example.org", "h")
    for strategy in strategies:
        token = await strategy.write_token(user)
        key = published[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, audience=AUDIENCE, algorithms=[strategy.algorithm])
        assert claims["sub"] == str(user.id)


async def test_nothing_of_a_private_key_is_published() -> None:
    answer = await get(Strategy(RSA[0], 60, algorithm="RS256"), Strategy(FIRST[0], 60, algorithm="ES256"))

    assert [set(key) for key in answer.json()["keys"]] == [
        {"kty", "n", "e", "use", "alg", "kid"},
        {"kty", "crv", "x", "y", "use", "alg", "kid"},
    ]
    assert {key["use"] for key in answer.json()["keys"]} == {"sig"}


def test_a_secret_is_never_published() -> None:
    """Whoever reads it could make tokens."""
    with pytest.raises(ValueError, match="HS256 has no public key"):
        get_jwks_router(Strategy(FIRST[0], 60, algorithm="ES256"), Strategy(SECRET, 60))


async def test_how_long_others_keep_it_can_be_chosen() -> None:
    answer = await get(Strategy(FIRST[0], 60, algorithm="ES256"), max_age_seconds=60)

    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_the_route_is_documented() -> None:
    document = (await get(Strategy(FIRST[0], 60, algorithm="ES256"), path="/openapi.json")).json()

    response = document["paths"]["/.well-known/jwks.json"]["get"]["responses"]["200"]
    assert response["content"] == {"application/jwk-set+json": {"schema": {"$ref": "#/components/schemas/JWKSet"}}}
    assert "Cache-Control" in response["headers"]
