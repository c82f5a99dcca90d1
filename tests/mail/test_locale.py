import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_users.mail.locale import accepted_locales, canonical_locale, with_fallbacks

SAFE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@pytest.mark.parametrize(
    ("header", "locales"),
    [
        (None, []),
        ("", []),
        ("*", []),
        ("de", ["de"]),
        ("de-AT,de;q=0.9,en;q=0.8", ["de-AT", "de", "en"]),
        ("en;q=0.8, de-AT, de;q=0.9", ["de-AT", "de", "en"]),  # by weight, not by place
        ("fr, it", ["fr", "it"]),  # of equals, the first
        ("da, en-gb;q=0.8, en;q=0.7", ["da", "en-GB", "en"]),  # the example of RFC 9110, section 12.5.4
        ("fr;q=0, de", ["de"]),  # refused
        ("de, DE;q=0.5, de-at;q=0.1", ["de", "de-AT"]),
        ("de ; Q=0.500 , en\t;\tq=1.000", ["en", "de"]),
        ("de;q=2, en;q=-1, fr;q=x, it;q=0.1234, es;q=, pt;level=1, nl;q=0.5;q=0.5, sv;q=0.\u0665", []),
        (",,;q=1, ,de", ["de"]),
        ("../../etc/passwd, de/at, de_AT, d, abcd, de-, de-x, \u00e4\u00f6, de\n", []),
    ],
)
def test_a_header_is_a_list_of_languages(header: str | None, locales: list[str]) -> None:
    assert accepted_locales(header) == locales


def test_ten_languages_are_enough() -> None:
    header = ",".join(f"{first}{second}" for first in "abcdef" for second in "abcdef")

    assert accepted_locales(header) == ["aa", "ab", "ac", "ad", "ae", "af", "ba", "bb", "bc", "bd"]


@given(st.text() | st.lists(st.text("deAT01-;q=.,* "), max_size=30).map(",".join))
@example("," * 100_000)
@example("a" * 100_000)
@example("aa-" * 100_000)
def test_no_header_is_an_error_and_what_comes_out_is_safe(header: str) -> None:
    locales = accepted_locales(header)

    assert len(locales) <= 10
    assert len(set(locales)) == len(locales)
    assert all(SAFE.fullmatch(locale) and len(locale) <= 35 for locale in locales)


@pytest.mark.parametrize(
    ("tag", "locale"),
    [
        ("DE", "de"),
        ("de-at", "de-AT"),
        ("ZH-HANT-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("de-DE-1996", "de-DE-1996"),
        ("sl-ROZAJ", "sl-rozaj"),
        ("..", None),
        ("aa-" + "b" * 33, None),
        ("aaa" + "-bbbbbbb" * 5, None),
    ],
)
def test_a_tag_has_one_spelling(tag: str, locale: str | None) -> None:
    assert canonical_locale(tag) == locale


def test_a_locale_falls_back_to_what_is_less_special() -> None:
    assert with_fallbacks(["zh-Hant-TW", "de-AT", "de", "zh"]) == ["zh-Hant-TW", "zh-Hant", "zh", "de-AT", "de"]
