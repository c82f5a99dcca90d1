import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.throttle.device import DEVICE_AUDIENCE, Device, make_device_token, read_device_token
from fastapi_users.testing import frozen_clock

KEYS = ["the newest key, which is long enough", "the key before it, as long as the other"]
DEVICE = Device(user_id="1", identifiers=("digest",), fingerprint="f")


def test_a_device_is_known_by_its_token_for_its_time() -> None:
    with frozen_clock() as clock:
        token = make_device_token(DEVICE, KEYS, 60)
        assert read_device_token(token, KEYS) == DEVICE
        assert read_device_token(token, ["a key that is newer than the newest", *KEYS]) == DEVICE
        clock.advance(seconds=61)
        assert read_device_token(token, KEYS) is None


def test_each_token_is_another_device() -> None:
    assert DEVICE.id != Device(user_id="1", identifiers=(), fingerprint="f").id


@given(st.text())
def test_what_is_no_token_is_no_device(token: str) -> None:
    assert read_device_token(token, KEYS) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"sub": None},
        {"jti": 1},
        {"names": "digest"},
        {"names": [1]},
        {"fgpt": None},
    ],
)
def test_tokens_of_another_kind_are_no_device(claims: dict[str, object]) -> None:
    payload = {"sub": "1", "aud": DEVICE_AUDIENCE, "jti": "x", "names": ["digest"], "fgpt": "f", **claims}

    assert read_device_token(jwt.encode(payload, KEYS[0]), KEYS) is None
