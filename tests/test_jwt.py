import hmac
from base64 import urlsafe_b64encode
from typing import Any
from unittest.mock import MagicMock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_users.exceptions import InsecureSecretWarning
from fastapi_users.jwt import (
    SecretsType,
    decode_jwt,
    generate_jwt,
    get_secret_values,
    has_signature,
    key_length_weakness,
    load_verifying_key,
    read_key_id,
)
from fastapi_users.testing import frozen_clock
from tests.world import SECRET

CLAIMS: dict[str, Any] = {"sub": "1", "aud": "here"}
NEW, OLD, REMOVED = (f"the {name} secret, longer than 32 bytes" for name in ("new", "old", "removed"))


@pytest.mark.parametrize("secret", [SECRET, SecretStr(SECRET)])
def test_claims_survive_the_round_trip_and_the_payload_is_left_alone(secret: str | SecretStr) -> None:
    payload = dict(CLAIMS)
    with frozen_clock() as clock:
        token = generate_jwt(payload, secret, 60)

        assert payload == CLAIMS
        assert decode_jwt(token, SECRET, ["elsewhere", "here"]) == {**CLAIMS, "exp": int(clock.now.timestamp()) + 60}


def test_a_token_expires_with_its_lifetime() -> None:
    with frozen_clock() as clock:
        token = generate_jwt(CLAIMS, SECRET, 60)
        clock.advance(seconds=59)
        assert decode_jwt(token, SECRET, ["here"])
        clock.advance(seconds=1)
        with pytest.raises(jwt.ExpiredSignatureError):
            decode_jwt(token, SECRET, ["here"])


@pytest.mark.parametrize("lifetime_seconds", [None, 0])
def test_without_a_lifetime_a_token_never_expires(lifetime_seconds: int | None) -> None:
    assert decode_jwt(generate_jwt(CLAIMS, SECRET, lifetime_seconds), SECRET, ["here"]) == CLAIMS


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (generate_jwt(CLAIMS, SECRET + "!"), jwt.InvalidSignatureError),
        (generate_jwt({"sub": "1"}, SECRET), jwt.MissingRequiredClaimError),
        (generate_jwt({"sub": "1", "aud": "elsewhere"}, SECRET), jwt.InvalidAudienceError),
        (generate_jwt(CLAIMS, SECRET * 2, algorithm="HS512"), jwt.InvalidAlgorithmError),
        (jwt.encode(CLAIMS, "", algorithm="none"), jwt.InvalidAlgorithmError),
        (jwt.encode(CLAIMS, SECRET, headers={"crit": ["made-up"], "made-up": 1}), jwt.InvalidTokenError),
        (jwt.encode({**CLAIMS, "nbf": 2**33}, SECRET), jwt.ImmatureSignatureError),
        ("\ud800", jwt.DecodeError),
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_jwt(token, SECRET, ["here"])


@pytest.mark.parametrize("secrets", [[NEW, OLD], (SecretStr(NEW), OLD), [SecretStr(NEW), SecretStr(OLD)]])
def test_of_several_secrets_the_newest_signs_and_all_verify(secrets: SecretsType) -> None:
    """Requirement 59, and the probe of Flask's CVE-2025-47278, which signed with the oldest."""
    assert decode_jwt(generate_jwt(CLAIMS, secrets), NEW, ["here"]) == CLAIMS
    assert decode_jwt(generate_jwt(CLAIMS, OLD), secrets, ["here"]) == CLAIMS
    with pytest.raises(jwt.InvalidSignatureError):
        decode_jwt(generate_jwt(CLAIMS, secrets), OLD, ["here"])
    with pytest.raises(jwt.InvalidSignatureError):
        decode_jwt(generate_jwt(CLAIMS, REMOVED), secrets, ["here"])


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_signature_that_none_of_the_secrets_made_is_known_without_a_look_at_the_rest(algorithm: str) -> None:
    token = generate_jwt(CLAIMS, SECRET * 2, algorithm=algorithm)
    assert has_signature(token, [REMOVED, SECRET * 2], algorithm)
    assert not has_signature(token, [REMOVED, OLD], algorithm)
    assert not has_signature(token[:-8], [SECRET * 2], algorithm)


@pytest.mark.parametrize("token", ["", "x", "no.token", "h.p.\u00e9", "\ud800.p.c2ln", "h.p.x"])
def test_of_what_is_no_token_pyjwt_says_what_is_wrong(token: str) -> None:
    with pytest.raises(jwt.PyJWTError):
        decode_jwt(token, SECRET, ["here"])
    assert isinstance(has_signature(token, [SECRET], "HS256"), bool)


def test_of_signatures_that_are_no_hmac_nothing_is_said() -> None:
    assert has_signature("h.p.x", [SECRET], "ES256")
    assert has_signature("h.p.x", [SECRET], "unknown")
    assert has_signature(b"h.p.x", [SECRET], "HS256")  # type: ignore[arg-type]  # PyJWT takes it


def test_an_older_secret_verifies_nothing_that_has_expired_or_is_for_others() -> None:
    with pytest.raises(jwt.ExpiredSignatureError):
        decode_jwt(generate_jwt(CLAIMS, OLD, -1), [NEW, OLD], ["here"])
    with pytest.raises(jwt.InvalidAudienceError):
        decode_jwt(generate_jwt(CLAIMS, OLD), [NEW, OLD], ["elsewhere"])


def test_no_secret_at_all_is_an_error_of_the_application() -> None:
    with pytest.raises(ValueError, match="at least one"):
        get_secret_values([])


@given(
    secrets=st.lists(st.binary(min_size=16, max_size=40).map(bytes.hex), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_whatever_one_of_the_secrets_signed_is_read_and_nothing_else(secrets: list[str], data: st.DataObject) -> None:
    signer = data.draw(st.sampled_from(secrets))
    others = [secret for secret in secrets if secret != signer] or [REMOVED]
    token = generate_jwt(CLAIMS, signer)

    assert decode_jwt(token, secrets, ["here"]) == CLAIMS
    with pytest.raises(jwt.InvalidSignatureError):
        decode_jwt(token, others, ["here"])


def test_an_empty_secret_signs_nothing() -> None:
    """Requirement 58, weaknesses §3 (PyJWT): anybody could sign with it."""
    with pytest.raises(jwt.InvalidKeyError):
        generate_jwt(CLAIMS, "")
    with pytest.raises(jwt.InvalidKeyError):
        decode_jwt(generate_jwt(CLAIMS, SECRET), "", ["here"])


def test_a_short_secret_signs_as_ever_and_is_told_of_once() -> None:
    """The zero bytes that HMAC fills it up with change nothing; they keep PyJWT from warning at every use as well."""
    with pytest.warns(InsecureSecretWarning) as told:
        token = generate_jwt(CLAIMS, "short")

    assert [warning.filename for warning in told] == [__file__]
    assert decode_jwt(token, "short", ["here"]) == CLAIMS
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        assert jwt.encode(CLAIMS, "short") == token


rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_public_key_is_no_secret() -> None:
    """Requirement 52: HS256 with the text of a public key, which everybody knows (RFC 8725, section 2.1)."""
    public = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    header, payload, _ = generate_jwt(CLAIMS, SECRET).split(".")
    signature = hmac.digest(public.encode(), f"{header}.{payload}".encode(), "sha256")
    forged = f"{header}.{payload}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    for algorithms in (["RS256"], ["RS256", "HS256"]):
        with pytest.raises(jwt.PyJWTError):
            decode_jwt(forged, public, ["here"], algorithms=algorithms)


@pytest.mark.parametrize(
    ("key", "algorithm", "members"),
    [
        (rsa_key, "RS256", {"kty", "n", "e"}),
        (rsa_key, "PS512", {"kty", "n", "e"}),
        (ec.generate_private_key(ec.SECP256R1()), "ES256", {"kty", "crv", "x", "y"}),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA", {"kty", "crv", "x"}),
    ],
)
def test_a_pair_of_keys_has_one_public_half_whatever_it_is_loaded_from(
    key: Any, algorithm: str, members: set[str]
) -> None:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    loaded = [load_verifying_key(each, algorithm) for each in (private, public, key, key.public_key())]

    assert len({each.id for each in loaded}) == 1
    assert len(loaded[0].id) == 43
    assert set(loaded[0].jwk) == members, "nothing of the private half"
    token = generate_jwt(CLAIMS, private, algorithm=algorithm, headers={"kid": loaded[0].id})
    assert read_key_id(token) == loaded[0].id
    jwk = {**loaded[1].jwk, "alg": algorithm}
    assert jwt.decode(token, jwt.PyJWK(jwk), algorithms=[algorithm], audience="here") == CLAIMS


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    """The example of RFC 7638, section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    public = jwt.PyJWK({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256"}).key

    assert load_verifying_key(public, "RS256").id == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_that_is_too_short_for_its_algorithm_is_known() -> None:
    assert key_length_weakness("x" * 32, "HS256") is None
    assert "64 bytes" in str(key_length_weakness("x" * 32, "HS512"))


@pytest.mark.parametrize("token", ["", "x.y.z", generate_jwt(CLAIMS, SECRET), "\ud800", f"{'[' * 10}.."])
def test_the_id_of_a_key_is_read_from_anything(token: str) -> None:
    assert read_key_id(token) is None


def test_the_header_of_a_token_of_nothing_but_brackets_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.get_unverified_header", MagicMock(side_effect=RecursionError))

    assert read_key_id("x") is None


def test_a_token_of_nothing_but_brackets_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions of PyJWT let the RecursionError of their JSON reader through."""
    monkeypatch.setattr("jwt.decode", MagicMock(side_effect=RecursionError))

    with pytest.raises(jwt.DecodeError):
        decode_jwt("x", SECRET, ["here"])


@given(st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_whatever_is_no_token_raises_an_error_of_pyjwt(text: str) -> None:
    for secrets in (SECRET, [NEW, OLD]):
        with pytest.raises(jwt.PyJWTError):
            decode_jwt(text, secrets, ["here"])
