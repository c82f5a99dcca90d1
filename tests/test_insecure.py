import warnings

import jwt
import pytest

from fastapi_users.exceptions import InsecureSecretWarning, InsecureSettingWarning
from fastapi_users.insecure import endless, refuse_weak_secret, secret_weakness, warn_of_weak_secret, warn_once
from tests.world import SECRET


@pytest.mark.parametrize(
    ("secret", "weakness"),
    [
        (None, "empty"),
        ("", "empty"),
        ("SECRET", "well-known"),
        (" changeme\n", "well-known"),
        (b"Secret", "well-known"),
        ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "well-known"),
        ("x" * 31, "only 31 bytes long"),
        (b"x" * 31, "only 31 bytes long"),
        ("\ud800", "only 3 bytes long"),
        ("x" * 32, None),
        ("\u00e9" * 16, None),
        (b"x" * 32, None),
        (SECRET, None),
    ],
)
def test_a_weak_secret_is_known_by_its_length_or_its_name(secret: str | bytes | None, weakness: str | None) -> None:
    """D16, requirement 58: 256 bits for HS256."""
    assert secret_weakness(secret) == weakness


def test_a_weak_secret_is_told_of_once_for_each_place_and_is_not_repeated() -> None:
    def set_up() -> None:
        for place in ("A.secret", "A.secret", "B.secret", None):
            warn_of_weak_secret("hunter2", place)

    with pytest.warns(InsecureSecretWarning) as told:
        set_up()

    texts = [str(warning.message) for warning in told]
    assert [text.split()[0] for text in texts] == ["A.secret", "B.secret"]
    assert "secrets.token_urlsafe(32)" in texts[0]
    assert not any("hunter2" in text for text in texts)
    assert {warning.filename for warning in told} == {__file__}


def test_what_silences_the_warning_of_pyjwt_silences_ours() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        warn_of_weak_secret("SECRET", "A.secret")


def test_where_warnings_are_errors_it_is_one_each_time() -> None:
    for _ in range(2):
        with pytest.raises(InsecureSettingWarning):
            warn_once(endless("A.lifetime_seconds"))


def test_a_strong_secret_is_no_reason_for_anything() -> None:
    warn_of_weak_secret(SECRET, "A.secret")
    refuse_weak_secret(SECRET, "A.secret")


def test_a_weak_secret_can_be_refused() -> None:
    with pytest.raises(ValueError, match=r"A\.secret is well-known"):
        refuse_weak_secret("SECRET", "A.secret")
