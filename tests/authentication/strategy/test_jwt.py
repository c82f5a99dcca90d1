import asyncio
import hmac
import json
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from unittest.mock import MagicMock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import (
    Authentication,
    InMemoryDenylist,
    StrategyDestroyNotSupportedError,
)
from fastapi_users.authentication.strategy.base import current_authentication
from fastapi_users.exceptions import InsecureSecretWarning, InsecureSettingWarning
from fastapi_users.jwt import SecretsType, decode_with_secret, generate_jwt
from fastapi_users.testing import InMemoryUserDatabase, User, frozen_clock
from tests.test_manager import UserManager
from tests.world import SECRET

Strategy = JWTStrategy[User, uuid.UUID]
NEW, OLD = "the new secret, longer than 32 bytes", "the old secret, longer than 32 bytes"
AUDIENCE = "fastapi-users:auth"


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


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def rsa_pair() -> tuple[str, str]:
    return pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def ec_pair() -> tuple[str, str]:
    return pem(ec.generate_private_key(ec.SECP256R1()))


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


async def test_without_a_lifetime_a_token_never_expires(manager: UserManager, user: User) -> None:
    strategy = Strategy(SECRET, None)
    with frozen_clock() as clock:
        token = await strategy.write_token(user)
        clock.advance(seconds=1e9)
        assert await strategy.read_token(token, manager) is user


async def test_a_token_that_is_not_ours_leads_to_nobody(manager: UserManager, user: User) -> None:
    claims = {"sub": str(user.id), "aud": ["fastapi-users:auth"]}
    tokens: list[str | None] = [
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
        jwt.encode(claims, SECRET, headers={"crit": ["made-up"], "made-up": 1}),
        jwt.encode({**claims, "nbf": 2**33}, SECRET),
        jwt.encode({**claims, "exp": "soon"}, SECRET),
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


# claims


async def test_a_token_tells_its_time_and_has_a_name_of_its_own(user: User) -> None:
    """D15, requirements 49 and 57."""
    with frozen_clock() as clock:
        first, second = [claims_of(await Strategy(SECRET, 60).write_token(user)) for _ in range(2)]

        assert first["iat"] == int(clock.now.timestamp())
        assert isinstance(first["iat"], int)
    assert first["jti"] != second["jti"]
    assert len(first["jti"]) == 22, "128 bits"
    assert first.keys() == {"sub", "aud", "exp", "iat", "jti", "fgpt"}


async def test_a_clock_that_is_ahead_on_another_server_refuses_nobody(manager: UserManager, user: User) -> None:
    """RFC 7519, section 4.1.6: ``iat`` limits nothing, but PyJWT refuses what comes from the future."""
    with frozen_clock() as clock:
        token = await Strategy(SECRET, 60).write_token(user)
        clock.advance(seconds=-30)

        assert await Strategy(SECRET, 60).read_token(token, manager) is user


@pytest.mark.parametrize("field", ["hashed_password", "email"])
async def test_a_token_ends_when_password_or_address_change(manager: UserManager, user: User, field: str) -> None:
    """D4, D5, D20, requirements 44 and 45: also where nothing is stored for the token."""
    token = await Strategy(SECRET, 60).write_token(user)
    before = getattr(user, field)

    setattr(user, field, "another")
    assert await Strategy(SECRET, 60).read_token(token, manager) is None
    setattr(user, field, before)
    assert await Strategy(SECRET, 60).read_token(token, manager) is user


async def test_what_ends_a_token_keeps_hash_and_address_apart(manager: UserManager, user: User) -> None:
    user.hashed_password, user.email = "ab", "c"
    token = await Strategy(SECRET, 60).write_token(user)

    user.hashed_password, user.email = "a", "bc"
    assert await Strategy(SECRET, 60).read_token(token, manager) is None


async def test_a_token_does_not_tell_the_hash_to_who_knows_no_secret(user: User) -> None:
    fingerprints = {claims_of(await Strategy(secret, 60).write_token(user))["fgpt"] for secret in (SECRET, NEW)}

    assert len(fingerprints) == 2
    assert {len(each) for each in fingerprints} == {22}


async def test_a_reused_id_opens_nothing(manager: UserManager, user: User) -> None:
    """D20, requirement 44: SQLite gives the id of a deleted user to the next one."""
    token = await Strategy(SECRET, 60).write_token(user)
    await manager.user_db.delete(user)
    await manager.user_db.create({"id": user.id, "email": "bob@example.org", "hashed_password": "h"})

    assert await Strategy(SECRET, 60).read_token(token, manager) is None


async def test_an_application_can_let_sessions_go_on(user: User) -> None:
    class Lenient(UserManager):
        sessions_end_with_credentials = False

    lenient = Lenient(InMemoryUserDatabase(User))
    user = await lenient.user_db.create({"email": "ann@example.org", "hashed_password": "h"})
    token = await Strategy(SECRET, 60).write_token(user)
    user.hashed_password = "another"

    assert await Strategy(SECRET, 60).read_token(token, lenient) is user


@pytest.mark.parametrize("fingerprint", [None, 1, ["x"]])
async def test_tokens_of_upstream_live_out_their_time(manager: UserManager, user: User, fingerprint: object) -> None:
    """So do those with a claim of this name that is the application's own."""
    claims = {"sub": str(user.id), "aud": AUDIENCE, **({} if fingerprint is None else {"fgpt": fingerprint})}
    token = generate_jwt(claims, SECRET, 60)
    user.hashed_password = "another"

    assert await Strategy(SECRET, 60).read_token(token, manager) is user


@pytest.mark.parametrize("fingerprint", ["", "\u00e9", "\ud800", "x" * 22])
async def test_whatever_does_not_fit_is_refused(manager: UserManager, user: User, fingerprint: str) -> None:
    token = generate_jwt({"sub": str(user.id), "aud": AUDIENCE, "fgpt": fingerprint}, SECRET, 60)

    assert await Strategy(SECRET, 60).read_token(token, manager) is None


@dataclass
class Badge:
    """A user without a password, as tests of applications hand them over."""

    id: uuid.UUID
    email: str | None = None


async def test_a_user_without_password_gets_a_token_without_a_fingerprint(manager: UserManager) -> None:
    strategy: JWTStrategy[Any, Any] = JWTStrategy(SECRET, 60)
    for user in (Badge(uuid.uuid4()), MagicMock()):
        assert "fgpt" not in claims_of(await strategy.write_token(user))


async def test_a_token_with_a_fingerprint_is_nobodys_who_has_no_password_any_more(
    manager: UserManager, user: User
) -> None:
    token = await Strategy(SECRET, 60).write_token(user)
    user.hashed_password = None  # type: ignore[assignment]  # a column that an application made nullable

    assert await Strategy(SECRET, 60).read_token(token, manager) is None


# the session that made the change


async def test_a_session_goes_on_after_the_change_that_it_made(manager: UserManager, user: User) -> None:
    """Requirement 45: the others end. What else stands in the token, an application's claims included, stays."""
    strategy = Strategy(SECRET, 60)
    own = {"auth_time": 1, "amr": ["pwd"], "tenant": "a"}
    with frozen_clock() as clock:
        written = {**claims_of(await strategy.write_token(user)), **own}
        token, other = generate_jwt(written, SECRET), await strategy.write_token(user)
        clock.advance(seconds=10)
        user.hashed_password = "another"

        reissued = await strategy.reissue_token(token, user)

        assert reissued is not None
        assert await strategy.read_token(reissued, manager) is user
        assert [await strategy.read_token(each, manager) for each in (token, other)] == [None, None]
        new = claims_of(reissued)
        changed = {"jti", "iat", "fgpt"}
        assert {name for name in new if new[name] != written[name]} == changed
        assert new["iat"] == written["iat"] + 10


async def test_a_subclass_that_writes_tokens_in_its_own_way_is_asked_for_the_new_one(
    manager: UserManager, user: User
) -> None:
    """It may keep a list of them."""
    written: list[str] = []

    class Listing(Strategy):
        async def write_token(self, user: User) -> str:
            written.append(await super().write_token(user))
            return written[-1]

    strategy = Listing(SECRET, 60)
    login = Authentication(methods=("pwd",), time=datetime.now(timezone.utc).replace(microsecond=0))
    token = generate_jwt(
        {**claims_of(await strategy.write_token(user)), "auth_time": int(login.time.timestamp()), "amr": ["pwd"]},
        SECRET,
    )
    user.hashed_password = "another"

    reissued = await strategy.reissue_token(token, user)

    assert reissued == written[-1] != written[0]
    assert await strategy.read_token(reissued, manager) is user
    assert await strategy.read_authentication(reissued) == login


async def test_what_is_no_session_of_this_user_is_not_reissued(manager: UserManager, user: User) -> None:
    strategy = Strategy(SECRET, 60)
    bob = User("bob@example.org", "h")
    needs_none = generate_jwt({"sub": str(user.id), "aud": AUDIENCE}, SECRET, 60)

    for token in ("", "x.y.z", await Strategy(NEW, 60).write_token(user), await strategy.write_token(bob), needs_none):
        assert await strategy.reissue_token(token, user) is None


async def test_a_session_of_a_user_who_lost_the_password_goes_on_without_a_fingerprint(
    manager: UserManager, user: User
) -> None:
    token = await Strategy(SECRET, 60).write_token(user)
    user.hashed_password = None  # type: ignore[assignment]  # as above

    reissued = await Strategy(SECRET, 60).reissue_token(token, user)

    assert reissued is not None
    assert await Strategy(SECRET, 60).read_token(reissued, manager) is user


# several secrets and keys


@pytest.mark.parametrize("secrets", [[NEW, OLD], (SecretStr(NEW), SecretStr(OLD))])
async def test_secrets_are_rotated_without_a_break(manager: UserManager, user: User, secrets: SecretsType) -> None:
    """Requirement 59 and Flask's CVE-2025-47278: the newest signs, a removed one fails."""
    before = await Strategy(OLD, 60).write_token(user)
    during = await Strategy(secrets, 60).write_token(user)

    assert await Strategy(secrets, 60).read_token(before, manager) is user
    assert await Strategy(secrets, 60).read_token(during, manager) is user
    assert await Strategy(NEW, 60).read_token(during, manager) is user
    assert await Strategy(OLD, 60).read_token(during, manager) is None
    assert await Strategy(NEW, 60).read_token(before, manager) is None
    user.hashed_password = "another"
    assert await Strategy(secrets, 60).read_token(before, manager) is None, "the fingerprint of the old secret"


@pytest.mark.parametrize(("algorithm", "make_pair"), [("RS256", rsa_pair), ("ES256", ec_pair)])
async def test_pairs_of_keys_are_rotated_without_a_break(
    manager: UserManager, user: User, algorithm: str, make_pair: Callable[[], tuple[str, str]]
) -> None:
    (old_private, old_public), (new_private, new_public) = make_pair(), make_pair()
    before = await Strategy(old_private, 60, algorithm=algorithm, public_key=old_public).write_token(user)
    rotated = Strategy([new_private, old_private], 60, algorithm=algorithm, public_key=[new_public, old_public])
    during = await rotated.write_token(user)

    assert await rotated.read_token(before, manager) is user
    assert await rotated.read_token(during, manager) is user
    after = Strategy("", 60, algorithm=algorithm, public_key=new_public)
    assert await after.read_token(during, manager) is user
    assert await after.read_token(before, manager) is None


async def test_who_has_the_public_key_only_sees_that_a_session_ended(manager: UserManager, user: User) -> None:
    private, public = ec_pair()
    token = await Strategy(private, 60, algorithm="ES256", public_key=public).write_token(user)
    reader = Strategy("", 60, algorithm="ES256", public_key=f"{public}\n")  # in another spelling
    assert await reader.read_token(token, manager) is user

    user.hashed_password = "another"
    assert await reader.read_token(token, manager) is None


async def test_a_private_key_is_enough_for_both(manager: UserManager, user: User) -> None:
    for algorithm, (private, _) in (("RS256", rsa_pair()), ("ES256", ec_pair())):
        strategy = Strategy(private, 60, algorithm=algorithm)
        assert await strategy.read_token(await strategy.write_token(user), manager) is user


async def test_the_header_chooses_among_our_keys_and_brings_none(manager: UserManager, user: User) -> None:
    """Requirement 53 (RFC 8725, section 3.10): ``jwk`` and ``jku`` are not looked at, ``kid`` opens nothing."""
    (private, public), (_, second), (foreign, _) = ec_pair(), ec_pair(), ec_pair()
    strategy = Strategy(private, 60, algorithm="ES256", public_key=[second, public])
    ids = [key.id for key in strategy.verifying_keys]
    foreign_jwk = dict(Strategy(foreign, 60, algorithm="ES256").verifying_keys[0].jwk)
    claims = {"sub": str(user.id), "aud": AUDIENCE}

    token = await strategy.write_token(user)
    assert jwt.get_unverified_header(token)["kid"] == ids[1]
    assert await strategy.read_token(token, manager) is user
    for kid in (None, "unknown"):  # of upstream, and of an application that names its keys
        token = jwt.encode(claims, private, algorithm="ES256", headers=None if kid is None else {"kid": kid})
        assert await strategy.read_token(token, manager) is user
    wrong_key = jwt.encode(claims, private, algorithm="ES256", headers={"kid": ids[0]})
    assert await strategy.read_token(wrong_key, manager) is None
    headers_of_strangers: list[dict[str, Any]] = [
        {"jwk": {**foreign_jwk, "alg": "ES256"}},
        {"jku": "https://evil.test/jwks.json", "kid": "evil"},
        *({"kid": key_id} for key_id in ids),
    ]
    for headers in headers_of_strangers:
        token = jwt.encode(claims, foreign, algorithm="ES256", headers=headers)
        assert await strategy.read_token(token, manager) is None


async def test_a_symmetric_secret_has_no_name_in_the_header(user: User) -> None:
    """Its digest would tell whether a guess is right."""
    assert "kid" not in jwt.get_unverified_header(await Strategy(SECRET, 60).write_token(user))
    with pytest.raises(ValueError, match="no public key"):
        _ = Strategy(SECRET, 60).verifying_keys


class Backwards(jwt.algorithms.HMACAlgorithm):
    """An algorithm that an application has registered."""

    def __init__(self) -> None:
        super().__init__(jwt.algorithms.HMACAlgorithm.SHA256)

    def sign(self, msg: bytes, key: bytes) -> bytes:
        return super().sign(msg, key)[::-1]


async def test_an_algorithm_of_the_application_works_as_ever(manager: UserManager, user: User) -> None:
    jwt.register_algorithm("BACKWARDS", Backwards())
    try:
        strategy = Strategy(SECRET, 60, algorithm="BACKWARDS")
        token = await strategy.write_token(user)
        assert await strategy.read_token(token, manager) is user
        user.hashed_password = "another"
        assert await strategy.read_token(token, manager) is None
    finally:
        jwt.unregister_algorithm("BACKWARDS")


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "b64"]), st.none() | st.text() | st.integers()
    )
    | st.fixed_dictionaries({"alg": st.sampled_from(["none", "HS256", "ES256", "RS256"]), "kid": st.text()}),
    signed_by=st.sampled_from(["public", "empty", "nobody"]),
)
def test_no_header_opens_a_session_without_the_private_key(header: dict[str, Any], signed_by: str) -> None:
    """Requirement 52, weaknesses §3 (PyJWT): none, confusion of HS and ES, unknown ``crit``, whatever ``kid``."""
    manager = UserManager(InMemoryUserDatabase(User))

    async def read() -> None:
        user = await manager.user_db.create({"email": "ann@example.org", "hashed_password": "h"})
        parts = [json.dumps(part).encode() for part in (header, {"sub": str(user.id), "aud": AUDIENCE})]
        message = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        key = {"public": PAIR[1], "empty": "", "nobody": "x"}[signed_by]
        signature = b"" if signed_by == "nobody" else hmac.digest(key.encode(), message, "sha256")
        token = message.decode() + "." + urlsafe_b64encode(signature).rstrip(b"=").decode()
        for strategy in (
            Strategy(PAIR[0], 60, algorithm="ES256", public_key=[OTHER[1], PAIR[1]]),
            Strategy(PAIR[0], 60, algorithm="ES256"),
            Strategy([NEW, OLD], 60),
        ):
            assert await strategy.read_token(token, manager) is None

    asyncio.run(read())


PAIR, OTHER = ec_pair(), ec_pair()


# strict


@pytest.mark.parametrize("lifetime_seconds", [None, 0, -1])
def test_strict_demands_a_lifetime(lifetime_seconds: int | None) -> None:
    """D15, requirements 41 and 54."""
    with pytest.raises(ValueError, match="lifetime_seconds"):
        Strategy(SECRET, lifetime_seconds, strict=True)


@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [("SECRET", "HS256"), ([SECRET, "changeme"], "HS256"), ("", "HS256"), (None, "HS256"), (SECRET, "HS512")],
)
def test_strict_refuses_weak_secrets(secret: Any, algorithm: str) -> None:
    """D16, requirement 58; RFC 7518, section 3.2, asks of HS512 for 64 bytes."""
    with pytest.raises(ValueError, match=r"(?i)secret|bytes"):
        Strategy(secret, 60, algorithm=algorithm, strict=True)


def test_strict_refuses_weak_keys() -> None:
    private, public = pem(rsa.generate_private_key(65537, 1024))  # noqa: S505 -- that is what is tested
    with pytest.raises(ValueError, match="1024 bits"):
        Strategy(private, 60, algorithm="RS256", public_key=public, strict=True)
    Strategy("", 60, algorithm="ES256", public_key=PAIR[1], strict=True)


@pytest.mark.parametrize("missing", ["exp", "iat", "jti", "fgpt"])
async def test_strict_demands_every_claim(manager: UserManager, user: User, missing: str) -> None:
    """Requirement 54, weaknesses §3 (PyJWT)."""
    strategy = Strategy(SECRET, 60, strict=True)
    token = await strategy.write_token(user)
    assert await strategy.read_token(token, manager) is user

    claims = {name: value for name, value in claims_of(token).items() if name != missing}
    assert await strategy.read_token(generate_jwt(claims, SECRET), manager) is None
    assert await Strategy(SECRET, 60).read_token(generate_jwt(claims, SECRET), manager) is user


async def test_strict_demands_a_fingerprint_that_is_ours(manager: UserManager, user: User) -> None:
    strategy = Strategy(SECRET, 60, strict=True)
    claims = {**claims_of(await strategy.write_token(user)), "fgpt": 1}

    assert await strategy.read_token(generate_jwt(claims, SECRET), manager) is None


# warnings


async def test_a_lifetime_of_0_is_told_of_once_and_works_as_ever(manager: UserManager, user: User) -> None:
    """D15: a strategy is made for every request."""
    with pytest.warns(InsecureSettingWarning, match=r"JWTStrategy\.lifetime_seconds is 0") as told:
        strategies = [Strategy(SECRET, 0) for _ in range(2)]

    assert len(told) == 1
    with frozen_clock() as clock:
        token = await strategies[0].write_token(user)
        clock.advance(seconds=1e9)
        assert await strategies[1].read_token(token, manager) is user


@pytest.mark.parametrize("secret", ["SECRET", SecretStr("secret"), "x" * 31, "", None, [SECRET, "changeme"], b"x"])
def test_a_weak_secret_is_told_of_once(secret: Any) -> None:
    """D16: where the strategy is made, and not at every use."""
    with pytest.warns(InsecureSecretWarning, match=r"JWTStrategy\.secret is") as told:
        _ = [JWTStrategy[Any, Any](secret, 60) for _ in range(2)]

    assert [warning.filename for warning in told] == [__file__]


async def test_where_it_was_told_of_nothing_says_it_again(user: User) -> None:
    with pytest.warns(InsecureSecretWarning):
        strategy = Strategy("SECRET", 60)
    await strategy.write_token(user)


async def test_a_subclass_with_an_init_of_its_own_works(manager: UserManager, user: User) -> None:
    class Own(Strategy):
        def __init__(self) -> None:
            self.secret, self.lifetime_seconds, self.token_audience = SECRET, 60, [AUDIENCE]
            self.algorithm, self.public_key = "HS256", None

    strategy = Own()
    assert await strategy.read_token(await strategy.write_token(user), manager) is user


# revocation


class ExpiringDenylist:
    """Like a server that forgets what has expired."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, datetime | None]] = {}

    async def put(self, digest: str, value: str, expires_at: datetime | None) -> None:
        self.entries[digest] = (value, expires_at)

    async def get(self, digests: Sequence[str]) -> list[str | None]:
        now = datetime.now(timezone.utc)
        found = [self.entries.get(digest) for digest in digests]
        return [None if entry is None or (entry[1] or now) < now else entry[0] for entry in found]


@pytest.fixture
def revocable() -> Strategy:
    return Strategy(SECRET, 3600, revoke=InMemoryDenylist())


async def test_logging_out_ends_a_token_that_is_revocable(
    manager: UserManager, user: User, revocable: Strategy
) -> None:
    """Requirements 43 and 57."""
    token, other = [await revocable.write_token(user) for _ in range(2)]

    await revocable.destroy_token(token, user)
    await revocable.destroy_token("x.y.z", user)

    assert await revocable.read_token(token, manager) is None
    assert await revocable.read_token(other, manager) is user
    assert await revocable.reissue_token(token, user) is None


@pytest.mark.parametrize("exp", [None, 2**60, 2**33])
async def test_a_token_without_a_name_of_its_own_is_revocable_too(
    manager: UserManager, user: User, revocable: Strategy, exp: int | None
) -> None:
    """As upstream makes them."""
    claims = {"sub": str(user.id), "aud": AUDIENCE, **({} if exp is None else {"exp": exp})}
    first, second = [generate_jwt({**claims, "n": n}, SECRET) for n in range(2)]
    assert await revocable.read_token(first, manager) is user

    await revocable.destroy_token(first, user)

    for spelling in (first, first + "=", first + "=="):
        assert await revocable.read_token(spelling, manager) is None
    assert await revocable.read_token(second, manager) is user


async def test_all_tokens_of_a_user_end_and_those_of_others_go_on(
    manager: UserManager, user: User, revocable: Strategy
) -> None:
    """Requirement 46, within one millisecond: what is issued later counts, what was issued before does not."""
    bob = await manager.user_db.create({"email": "bob@example.org", "hashed_password": "h"})
    with frozen_clock():
        before = [await revocable.write_token(user) for _ in range(2)]
        theirs = await revocable.write_token(bob)
        upstreams = generate_jwt({"sub": str(user.id), "aud": AUDIENCE}, SECRET, 60)

        assert await revocable.destroy_all_tokens(user) == 1

        after = await revocable.write_token(user)
        for token in (*before, upstreams):
            assert await revocable.read_token(token, manager) is None
        assert await revocable.read_token(after, manager) is user
        assert await revocable.read_token(theirs, manager) is bob
        assert isinstance(claims_of(after)["iat"], float)
        await revocable.destroy_all_tokens(user)
        assert await revocable.read_token(after, manager) is None
        assert await revocable.read_token(await revocable.write_token(user), manager) is user


async def test_what_a_shorter_lifetime_ends_does_not_come_back(manager: UserManager, user: User) -> None:
    """Of two strategies with one list, or when the lifetime has been shortened."""
    denylist = ExpiringDenylist()
    long, short = (Strategy(SECRET, lifetime, revoke=denylist) for lifetime in (3600, 60))
    endless = Strategy(SECRET, None, revoke=denylist)
    with frozen_clock() as clock:
        token = await long.write_token(user)
        await long.destroy_all_tokens(user)
        await short.destroy_all_tokens(user)
        clock.advance(seconds=61)
        assert await long.read_token(token, manager) is None

        token = await endless.write_token(user)
        await endless.destroy_all_tokens(user)
        await short.destroy_all_tokens(user)
        clock.advance(seconds=400 * 24 * 3600)
        assert await endless.read_token(token, manager) is None


async def test_what_is_kept_of_many_sessions_fits_the_column(user: User) -> None:
    denylist = ExpiringDenylist()
    strategy = Strategy(SECRET, 3600, revoke=denylist)
    tokens = [await strategy.write_token(user) for _ in range(9)]

    await strategy.destroy_all_tokens(user, except_tokens=[*tokens, *tokens])

    assert [len(value) <= 255 for value, _ in denylist.entries.values()] == [True]


async def test_a_server_whose_clock_is_behind_makes_tokens_that_count(
    manager: UserManager, user: User, revocable: Strategy
) -> None:
    with frozen_clock() as clock:
        await revocable.destroy_all_tokens(user)
        clock.advance(seconds=-60)
        token = await revocable.write_token(user)
        assert await revocable.read_token(token, manager) is user

        await revocable.destroy_all_tokens(user)
        assert await revocable.read_token(token, manager) is None


@pytest.mark.parametrize("has_name", [True, False])
async def test_the_session_that_ends_the_others_goes_on(
    manager: UserManager, user: User, revocable: Strategy, has_name: bool
) -> None:
    """Requirement 45."""
    other, own = [await revocable.write_token(user) for _ in range(2)]
    if not has_name:
        own = generate_jwt({"sub": str(user.id), "aud": AUDIENCE}, SECRET, 60)

    await revocable.destroy_all_tokens(user, except_tokens=[own])

    assert await revocable.read_token(own, manager) is user
    assert await revocable.read_token(other, manager) is None
    reissued = await revocable.reissue_token(own, user)
    assert (reissued is None) == (not has_name), "which needs none"
    if reissued is not None:
        assert await revocable.read_token(reissued, manager) is user
    await revocable.destroy_all_tokens(user, except_tokens=["x.y.z"])
    assert await revocable.read_token(own, manager) is None


async def test_the_session_that_goes_on_can_log_out(manager: UserManager, user: User, revocable: Strategy) -> None:
    token = await revocable.write_token(user)
    await revocable.destroy_all_tokens(user, except_tokens=[token])

    await revocable.destroy_token(token, user)

    assert await revocable.read_token(token, manager) is None


async def test_without_a_denylist_no_token_is_ended(manager: UserManager, user: User) -> None:
    token = await Strategy(SECRET, 60).write_token(user)

    assert await Strategy(SECRET, 60).destroy_all_tokens(user) == 0
    assert await Strategy(SECRET, 60).read_token(token, manager) is user


async def test_users_of_another_audience_with_the_same_id_are_others(manager: UserManager, user: User) -> None:
    revoke = InMemoryDenylist()
    admins = Strategy(SECRET, 60, ["admins"], revoke=revoke)
    token = await admins.write_token(user)

    await Strategy(SECRET, 60, ["customers"], revoke=revoke).destroy_all_tokens(user)

    assert await admins.read_token(token, manager) is user


async def test_what_was_ended_stays_ended_until_it_would_have_expired(manager: UserManager, user: User) -> None:
    asked: list[int] = []

    class Counting(InMemoryDenylist):
        async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
            asked.append(len(digests))
            return await super().get(digests)

    revoke = Counting()
    strategy = Strategy(SECRET, 3600, revoke=revoke)
    endless = Strategy(SECRET, None, revoke=revoke)
    with frozen_clock() as clock:
        token, eternal = await strategy.write_token(user), await endless.write_token(user)
        await endless.destroy_all_tokens(user)
        clock.advance(seconds=1e9)
        asked.clear()

        assert await endless.read_token(eternal, manager) is None
        assert asked == [2], "one round trip"
        assert await strategy.read_token(token, manager) is None
        assert asked == [2], "nobody asks for what is no token"


async def test_a_denylist_that_does_not_answer_lets_nobody_in(manager: UserManager, user: User) -> None:
    class Broken(InMemoryDenylist):
        async def get(self, digests: Sequence[str]) -> Sequence[str | None]:
            raise ConnectionError

    token = await Strategy(SECRET, 60).write_token(user)
    strategy = Strategy(SECRET, 60, revoke=Broken())

    with pytest.raises(ConnectionError):
        await strategy.read_token(token, manager)
    assert await strategy.read_token("x.y.z", manager) is None


@pytest.mark.parametrize("issued_at", [2**70, -1, "now", None, float("inf")])
async def test_a_time_that_is_none_is_before_everything(
    manager: UserManager, user: User, revocable: Strategy, issued_at: object
) -> None:
    """A subclass of the application may write what it likes."""
    token = generate_jwt({"sub": str(user.id), "aud": AUDIENCE, "iat": issued_at}, SECRET, 60)
    assert await revocable.read_token(token, manager) is user

    await revocable.destroy_all_tokens(user)

    assert await revocable.read_token(token, manager) is None


# Signatures that were right are remembered


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were checked."""
    tokens: list[str] = []

    def record(token: str, *args: Any, **kwargs: Any) -> Any:
        tokens.append(token)
        return decode_with_secret(token, *args, **kwargs)

    monkeypatch.setattr("fastapi_users.authentication.strategy.jwt.decode_with_secret", record)
    return tokens


async def test_a_signature_is_checked_once(manager: UserManager, user: User, decoded: list[str]) -> None:
    token = await Strategy(SECRET, 60).write_token(user)
    for _ in range(3):  # a strategy is made for every request
        assert await Strategy(SECRET, 60).read_token(token, manager) is user
    assert decoded == [token]


async def test_what_was_refused_is_refused_by_its_signature_again(manager: UserManager, decoded: list[str]) -> None:
    for _ in range(2):
        assert await Strategy(SECRET, 60).read_token("a.b.c", manager) is None
    assert len(decoded) == 2


async def test_a_remembered_token_ends_when_it_expires_and_begins_when_it_says(
    manager: UserManager, user: User, decoded: list[str]
) -> None:
    strategy = Strategy(SECRET, 60)
    with frozen_clock() as clock:
        now = int(datetime.now(timezone.utc).timestamp())
        token = generate_jwt({"sub": str(user.id), "aud": [AUDIENCE], "nbf": now, "exp": now + 60}, SECRET)
        assert await strategy.read_token(token, manager) is user
        clock.advance(seconds=59)
        assert await strategy.read_token(token, manager) is user
        clock.advance(seconds=1)
        assert await strategy.read_token(token, manager) is None
        clock.advance(seconds=-61)
        assert await strategy.read_token(token, manager) is None
        clock.advance(seconds=1)
        assert await strategy.read_token(token, manager) is user
    assert decoded == [token]


async def test_a_remembered_token_is_of_no_use_to_another_strategy(manager: UserManager, user: User) -> None:
    token = generate_jwt({"sub": str(user.id), "aud": [AUDIENCE]}, SECRET)
    assert await Strategy(SECRET, 60).read_token(token, manager) is user

    others = [
        Strategy(NEW, 60),
        Strategy([NEW, OLD], 60),
        Strategy(SECRET, 60, token_audience=["other"]),
        Strategy(SECRET, 60, algorithm="HS384"),
        Strategy(SECRET, 60, strict=True),
    ]
    assert [await strategy.read_token(token, manager) for strategy in others] == [None] * 5
    assert await Strategy([NEW, SECRET], 60).read_token(token, manager) is user


async def test_it_is_the_signature_that_is_remembered_and_not_the_user(manager: UserManager, user: User) -> None:
    strategy = Strategy(SECRET, 60, revoke=InMemoryDenylist())
    tokens = [await strategy.write_token(user) for _ in range(2)]
    assert [await strategy.read_token(token, manager) for token in tokens] == [user] * 2

    await strategy.destroy_token(tokens[0], user)
    assert [await strategy.read_token(token, manager) for token in tokens] == [None, user]
    await manager.user_db.update(user, {"hashed_password": "another"})
    assert await strategy.read_token(tokens[1], manager) is None


async def test_remembered_claims_cannot_be_changed(user: User) -> None:
    strategy = Strategy(SECRET, 60)
    claims, _ = strategy._verify(await strategy.write_token(user))
    with pytest.raises(TypeError):
        claims["sub"] = "somebody else"  # type: ignore[index]  # that is what is tested


async def test_only_so_many_are_remembered_and_none_that_is_long(
    manager: UserManager, user: User, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi_users.authentication.strategy import jwt as module

    monkeypatch.setattr(module, "_VERIFIED", module._VerifiedTokens(2))
    strategy = Strategy(SECRET, 60)
    first, second, third = [await strategy.write_token(user) for _ in range(3)]
    for token in (first, second, third, third, first):
        assert await strategy.read_token(token, manager) is user
    assert decoded == [first, second, third, first]

    decoded.clear()
    long = generate_jwt({"sub": str(user.id), "aud": [AUDIENCE], "more": "x" * 4096}, SECRET)
    for _ in range(2):
        assert await strategy.read_token(long, manager) is user
    assert decoded == [long] * 2


async def test_a_strategy_with_keys_of_its_own_remembers_nothing(
    manager: UserManager, user: User, decoded: list[str]
) -> None:
    class Own(Strategy):
        verifying_keys = property(lambda self: [])  # as an application may

    token = await Own(SECRET, 60).write_token(user)
    for _ in range(2):
        assert await Own(SECRET, 60).read_token(token, manager) is user
    assert decoded == [token] * 2


async def test_of_several_public_keys_the_right_one_is_remembered(manager: UserManager, user: User) -> None:
    old, new = ec_pair(), ec_pair()
    token = await Strategy(old[0], 60, algorithm="ES256", public_key=old[1]).write_token(user)
    several: dict[str, Any] = {"algorithm": "ES256", "public_key": [new[1], old[1]]}
    for _ in range(2):
        assert await Strategy([new[0], old[0]], 60, **several).read_token(token, manager) is user
    assert await Strategy(new[0], 60, algorithm="ES256", public_key=new[1]).read_token(token, manager) is None


def test_of_settings_that_were_checked_the_secret_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Strategy(SECRET, 60, strict=True)
    monkeypatch.setattr("fastapi_users.insecure._WELL_KNOWN", None)
    Strategy(SECRET, 60, strict=True)
    Strategy(SECRET, 60)


async def test_a_key_object_of_pyjwt_is_a_secret_as_well(user: User, manager: Any) -> None:
    keys: list[Any] = [jwt.PyJWK.from_dict({"kty": "oct", "k": letter * 43, "alg": "HS256"}) for letter in "AQ"]
    ours, another = (Strategy(key, 60) for key in keys)

    assert await ours.read_token(await ours.write_token(user), manager) is user
    assert await ours.read_token(await another.write_token(user), manager) is None
