from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_users.cipher import TokenCipher

OLD, NEW = "the old secret, longer than 32 bytes", SecretStr("the new secret, longer than 32 bytes")
old = TokenCipher([OLD])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_encrypted_can_be_read_again(token: str) -> None:
    stored = old.encrypt(token)

    assert old.decrypt(stored) == token
    assert stored.isascii()
    assert not token or token not in stored or len(token) < 4


def test_the_same_token_never_looks_the_same() -> None:
    assert old.encrypt("token") != old.encrypt("token")


def test_secrets_can_be_rotated() -> None:
    both = TokenCipher([NEW, OLD])

    assert both.decrypt(old.encrypt("token")) == "token"
    assert TokenCipher([NEW]).decrypt(both.encrypt("token")) == "token"


def test_what_was_stored_before_is_read_as_it_is() -> None:
    assert old.decrypt("ya29.clear") == "ya29.clear"


@pytest.mark.parametrize(
    "change", [lambda stored: stored[:-5] + "AAAA=", lambda stored: stored[:7] + stored[:6:-1], lambda _: "fernet:é"]
)
def test_what_was_changed_is_refused(change: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="No secret of the cipher fits"):
        old.decrypt(change(old.encrypt("token")))


def test_another_secret_reads_nothing() -> None:
    with pytest.raises(ValueError, match="No secret of the cipher fits"):
        TokenCipher([NEW]).decrypt(old.encrypt("token"))


@pytest.mark.parametrize("secrets", [[], "one text, longer than thirty-two bytes", ["short"], [OLD, "short"]])
def test_weak_secrets_are_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match=r"list of secrets|at least 32 bytes"):
        TokenCipher(secrets)
