import ipaddress
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users.features.throttle.keys import (
    address_key,
    fold,
    identifier_key,
    lookalike_key,
    mailed_address,
    subject_key,
)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:ffff::2", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_network_of_ipv6(address: str, key: str) -> None:
    assert address_key(address) == key


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_nobody_leaves_the_own_network_by_another_address_in_it(address: ipaddress.IPv6Address, host: int) -> None:
    neighbour = ipaddress.IPv6Address(int(address) >> 64 << 64 | host)

    # The one exception are the mapped ones, which are as many clients.
    keys = {address_key(str(each)) for each in (address, neighbour) if each.ipv4_mapped is None}
    assert len(keys) <= 1


@pytest.mark.parametrize("spelling", ["ANN@EXAMPLE.ORG", " ann@example.org ", "ann@example.org\u00a0"])
def test_case_and_blanks_around_it_make_no_other_identifier(spelling: str) -> None:
    assert identifier_key(spelling) == identifier_key("ann@example.org")
    assert lookalike_key(spelling) is None


@pytest.mark.parametrize(
    "spelling",
    [
        "ann@example.org\u200b",
        "\uff41\uff4e\uff4e@example.org",
        "a\u0301nn@example.org",
        "\u00e1nn@example.org",
        "\u00c1NN@example.org",
        "ann\x00@example.org",
        "an n@example.org",
    ],
)
def test_what_some_database_takes_for_the_same_looks_like_it(spelling: str) -> None:
    assert identifier_key(spelling) != identifier_key("ann@example.org")
    assert lookalike_key(spelling) == identifier_key("ann@example.org")


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        *[
            (spelling, "ann@b\u00fccher.example")
            for spelling in ("ann@B\u00fccher.example", "ann@xn--bcher-kva.example")
        ],
        *[
            (f"{name} <ann@b\u00fccher.example>", "ann@b\u00fccher.example")
            for name in ("A", '"<x@y.org>"', "a" * 1500)
        ],
        *[(text, text) for text in ("ann@intranet", "", "Ann <ann@example.org>, <bob@example.org>", "\ud800@b.org")],
    ],
)
def test_whom_a_mail_goes_to_is_one_in_every_spelling(spelling: str, address: str) -> None:
    assert mailed_address(spelling) == address


@given(st.text(st.characters()) | st.emails())
def test_whom_a_mail_goes_to_stays_the_same(text: str) -> None:
    assert mailed_address(mailed_address(text)) == mailed_address(text)


def test_different_identifiers_stay_different_and_out_of_the_storage() -> None:
    assert identifier_key("ann@example.org") != identifier_key("bob@example.org")
    assert "ann" not in identifier_key("ann@example.org")


@given(st.text())
def test_folding_is_done_once_and_for_all(text: str) -> None:
    folded = fold(text)

    assert fold(folded) == folded
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))
    assert len(identifier_key(text)) == 64


@given(st.text(st.characters()), st.text(st.characters()))
def test_subjects_are_told_apart_whatever_they_are(one: str, other: str) -> None:
    assert (subject_key(one) == subject_key(other)) == (one == other)
    assert len(subject_key(one)) == len(subject_key("\ud800")) == 64


def test_what_stands_behind_a_thousand_letters_makes_no_other_identifier() -> None:
    assert identifier_key("x" * 1000 + "1") == identifier_key("x" * 1_000_000)
    assert identifier_key("\ud800") != identifier_key("x")
