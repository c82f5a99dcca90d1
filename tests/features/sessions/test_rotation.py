import uuid
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.sessions.rotation import (
    RefreshToken,
    Verdict,
    child_of,
    idle_end,
    judge,
    repeated_child,
    seal,
    unseal,
)

KEY = "a key"
NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)

tokens = st.builds(
    RefreshToken,
    session_id=st.uuids(),
    generation=st.integers(0, 2**32 - 1),
    secret=st.binary(min_size=32, max_size=32),
)
TOKEN = RefreshToken(session_id=uuid.UUID(int=1), generation=0, secret=b"\1" * 32)


@given(tokens, st.lists(st.text(min_size=1)))
def test_what_is_sealed_is_opened_by_the_same_key_among_others(token: RefreshToken, others: list[str]) -> None:
    text = seal(token, KEY)

    assert len(text) == 92
    assert unseal(text, [*others, KEY]) == token
    assert unseal(text, [other for other in others if other != KEY]) is None


@given(tokens, st.integers(0, 91), st.sampled_from("ABCDwxyz0189-_"))
def test_a_token_with_another_character_is_nobodys(token: RefreshToken, place: int, char: str) -> None:
    text = seal(token, KEY)
    forged = text[:place] + char + text[place + 1 :]

    assert unseal(forged, [KEY]) == (token if forged == text else None)


@given(st.text())
def test_whatever_comes_is_plainly_no_token(text: str) -> None:
    assert unseal(text, [KEY]) is None


@pytest.mark.parametrize("text", ["", "A" * 92, "A" * 91, "\n" + "A" * 92, "A" * 92 + "\n", "\u0661" * 92])
def test_what_has_almost_the_form_is_none_either(text: str) -> None:
    assert unseal(text, [KEY]) is None


def test_another_version_is_refused_though_the_key_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_users.features.sessions.rotation._VERSION", 2)
    text = seal(TOKEN, KEY)
    monkeypatch.undo()

    assert unseal(text, [KEY]) is None


@given(tokens.filter(lambda token: token.generation < 2**32 - 1), st.text(min_size=1).filter(lambda key: key != KEY))
def test_a_child_is_always_the_same_and_unknown_without_the_key(token: RefreshToken, other_key: str) -> None:
    child = child_of(token, KEY)

    assert child == child_of(token, KEY)
    assert (child.session_id, child.generation) == (token.session_id, token.generation + 1)
    assert child.secret not in (token.secret, child_of(token, other_key).secret)
    assert len({token.digest, child.digest, child_of(child, KEY).digest}) == 3


def test_a_digest_tells_no_secret_and_fits_its_column() -> None:
    assert len(TOKEN.digest) == 43
    assert urlsafe_b64encode(TOKEN.secret).decode()[:8] not in TOKEN.digest
    assert "secret" not in repr(TOKEN)


@pytest.mark.parametrize(
    ("generation", "seconds", "verdict"),
    [
        (2, 10, Verdict.DUE),
        (2, 10**6, Verdict.DUE),
        (2, 0, Verdict.YOUNG),
        (2, 9.9, Verdict.YOUNG),
        (2, -5, Verdict.YOUNG),
        (1, 0, Verdict.REPEATED),
        (1, 9.9, Verdict.REPEATED),
        (1, -5, Verdict.REPEATED),  # the clock of another server
        (1, 10, Verdict.STOLEN),
        (0, 0, Verdict.STOLEN),
        (3, 0, Verdict.STOLEN),  # after the database was put back: only the thief of a backup has it
    ],
)
def test_a_token_is_judged_by_the_session_and_the_clock(generation: int, seconds: float, verdict: Verdict) -> None:
    family = [TOKEN]
    for _ in range(3):
        family.append(child_of(family[-1], KEY))

    assert (
        judge(
            family[generation],
            current=family[2].digest,
            previous=family[1].digest,
            rotated_at=NOW,
            now=NOW + timedelta(seconds=seconds),
            grace_seconds=10,
        )
        is verdict
    )


def test_a_session_that_was_never_refreshed_has_no_parent() -> None:
    child = child_of(TOKEN, KEY)

    state: dict[str, Any] = {
        "current": TOKEN.digest,
        "previous": None,
        "rotated_at": NOW,
        "now": NOW,
        "grace_seconds": 10,
    }

    assert judge(TOKEN, **state) is Verdict.DUE  # however young: nobody can have another one
    assert judge(child, **state) is Verdict.STOLEN


def test_a_child_is_found_again_under_the_key_that_made_it() -> None:
    child = child_of(TOKEN, KEY)

    assert repeated_child(TOKEN, current=child.digest, keys=["new", KEY]) == child
    assert repeated_child(TOKEN, current=child.digest, keys=["new"]) is None


def test_idleness_ends_a_session_and_its_absolute_end_does_so_before() -> None:
    ends_at = NOW + timedelta(days=2)

    assert idle_end(NOW, idle_seconds=3600, ends_at=ends_at) == NOW + timedelta(hours=1)
    assert idle_end(NOW, idle_seconds=10**6, ends_at=ends_at) == ends_at
