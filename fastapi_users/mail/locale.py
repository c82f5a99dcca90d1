"""Which languages a reader wants. Everything in here comes from a client, hence from anyone."""

import re
from collections.abc import Iterable
from itertools import islice

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MAX_TAG_LENGTH = 35  # what RFC 5646, section 4.4.1, asks readers to hold; it keeps paths short as well
_WEIGHT = re.compile(r"[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MAX_LOCALES = 10


def accepted_locales(header: str | None) -> list[str]:
    """The languages of an ``Accept-Language`` header (RFC 9110, section 12.5.4), the most wanted first, at most ten.

    What is malformed, a wildcard, or refused with ``q=0`` is left out.
    """
    wanted: list[tuple[float, str]] = []
    for item in (header or "").split(","):
        tag, *parameters = (part.strip(" \t") for part in item.split(";"))
        weight = _weight(parameters)
        locale = canonical_locale(tag)
        if locale is not None and weight:
            wanted.append((weight, locale))
    wanted.sort(key=lambda pair: pair[0], reverse=True)  # stable: of equals, the first
    return list(islice(dict.fromkeys(locale for _, locale in wanted), _MAX_LOCALES))


def _weight(parameters: list[str]) -> float:
    if not parameters:
        return 1
    found = _WEIGHT.fullmatch(parameters[0])
    return 0 if found is None or len(parameters) > 1 else float(found[1])


def canonical_locale(tag: str) -> str | None:
    """The tag in the letter case of RFC 5646, section 2.1.1 (``de-AT``, ``zh-Hant``), or ``None`` if it is none.

    What comes out is safe as the name of a folder: letters, digits and hyphens.
    """
    if len(tag) > _MAX_TAG_LENGTH or _TAG.fullmatch(tag) is None:
        return None
    language, *subtags = tag.lower().split("-")
    by_length = {2: str.upper, 4: str.title}
    return "-".join([language, *(by_length.get(len(subtag), str)(subtag) for subtag in subtags)])


def with_fallbacks(locales: Iterable[str]) -> list[str]:
    """Each locale, followed by what is left of it without its last subtags (RFC 4647, section 3.4)."""
    found: dict[str, None] = {}
    for locale in locales:
        subtags = locale.split("-")
        found.update(dict.fromkeys("-".join(subtags[:length]) for length in range(len(subtags), 0, -1)))
    return list(found)
