from typing import Any
from unittest.mock import MagicMock

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_users.jwt import decode_jwt, generate_jwt
from fastapi_users.testing import frozen_clock
from tests.world import SECRET

CLAIMS: dict[str, Any] = {"sub": "1", "aud": "here"}


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
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_jwt(token, SECRET, ["here"])


def test_a_token_of_nothing_but_brackets_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions of PyJWT let the RecursionError of their JSON reader through."""
    monkeypatch.setattr("jwt.decode", MagicMock(side_effect=RecursionError))

    with pytest.raises(jwt.DecodeError):
        decode_jwt("x", SECRET, ["here"])


@given(st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_whatever_is_no_token_raises_an_error_of_pyjwt(text: str) -> None:
    with pytest.raises(jwt.PyJWTError):
        decode_jwt(text, SECRET, ["here"])
