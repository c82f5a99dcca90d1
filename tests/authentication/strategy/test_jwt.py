import uuid
from collections.abc import Callable
from datetime import datetime, timezone

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import Authentication, StrategyDestroyNotSupportedError
from fastapi_users.authentication.strategy.base import current_authentication
from fastapi_users.jwt import generate_jwt
from fastapi_users.testing import InMemoryUserDatabase, User, frozen_clock
from tests.test_manager import UserManager
from tests.world import SECRET

Strategy = JWTStrategy[User, uuid.UUID]


@pytest.fixture
def manager() -> UserManager:
    return UserManager(InMemoryUserDatabase(User))


@pytest.fixture
async def user(manager: UserManager) -> User:
    return await manager.user_db.create({"email": "ann@example.org", "hashed_password": "h"})


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


async def test_a_token_leads_back_to_its_user(manager: UserManager, user: User) -> None:
    token = await Strategy(SECRET, 3600).write_token(user)

    assert await Strategy(SecretStr(SECRET), 3600).read_token(token, manager) is user
    claims = jwt.decode(token, SECRET, audience="fastapi-users:auth", algorithms=["HS256"])
    assert claims["sub"] == str(user.id)
    assert claims["aud"] == ["fastapi-users:auth"]


@pytest.mark.parametrize(
    ("algorithm", "make_key"),
    [
        ("RS256", lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
    ],
)
async def test_a_pair_of_keys_signs_and_verifies(
    manager: UserManager,
    user: User,
    algorithm: str,
    make_key: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey],
) -> None:
    private, public = pem(make_key())
    strategy = Strategy(SecretStr(private), 3600, algorithm=algorithm, public_key=public)
    token = await strategy.write_token(user)

    assert await strategy.read_token(token, manager) is user
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    _, foreign = pem(make_key())
    other = Strategy("", 3600, algorithm=algorithm, public_key=foreign)
    assert await other.read_token(token, manager) is None


@pytest.mark.parametrize("lifetime_seconds", [None, 0])
async def test_without_a_lifetime_a_token_never_expires(
    manager: UserManager, user: User, lifetime_seconds: int | None
) -> None:
    strategy = Strategy(SECRET, lifetime_seconds)
    with frozen_clock() as clock:
        token = await strategy.write_token(user)
        clock.advance(seconds=1e9)
        assert await strategy.read_token(token, manager) is user


async def test_a_token_that_is_not_ours_leads_to_nobody(manager: UserManager, user: User) -> None:
    claims = {"sub": str(user.id), "aud": ["fastapi-users:auth"]}
    tokens = [
        None,
        "",
        "x.y.z",
        generate_jwt(claims, SECRET, -1),
        generate_jwt(claims, SECRET + "!"),
        generate_jwt({**claims, "aud": "fastapi-users:verify"}, SECRET),
        generate_jwt({"aud": "fastapi-users:auth"}, SECRET),
        generate_jwt({**claims, "sub": "nonsense"}, SECRET),
        generate_jwt({**claims, "sub": str(uuid.uuid4())}, SECRET),
        generate_jwt(claims, SECRET * 2, algorithm="HS512"),
        jwt.encode(claims, "", algorithm="none"),
    ]

    for token in tokens:
        assert await Strategy(SECRET, 3600).read_token(token, manager) is None
    assert await Strategy(SECRET, 3600).read_token(generate_jwt(claims, SECRET), manager) is user


async def test_a_token_cannot_be_destroyed(user: User) -> None:
    with pytest.raises(StrategyDestroyNotSupportedError, match="valid until it expires"):
        await Strategy(SECRET, 3600).destroy_token("token", user)


async def test_a_token_tells_how_and_when_its_session_began(user: User) -> None:
    strategy = Strategy(SECRET, 60)
    authentication = Authentication(methods=("pwd", "otp"), time=datetime(2026, 1, 2, tzinfo=timezone.utc))

    current = current_authentication.set(authentication)
    token = await strategy.write_token(user)
    current_authentication.reset(current)

    assert await strategy.read_authentication(token) == authentication
    assert await strategy.read_authentication(await strategy.write_token(user)) is None
    assert await strategy.read_authentication("no token of ours") is None


@pytest.mark.parametrize(
    "claims", [{"auth_time": 1}, {"auth_time": "now", "amr": ["pwd"]}, {"auth_time": 1, "amr": "pwd"}]
)
async def test_claims_of_the_application_with_these_names_tell_nothing(claims: dict[str, object]) -> None:
    token = generate_jwt({"sub": "1", "aud": ["fastapi-users:auth"], **claims}, SECRET, 60)

    assert await Strategy(SECRET, 60).read_authentication(token) is None
