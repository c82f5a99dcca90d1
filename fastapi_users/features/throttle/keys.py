"""Who is counted as one: pure functions, so that a spelling that gets around them is a test away."""

import ipaddress
import unicodedata
from hashlib import sha256

_MAX_LENGTH = 1000
_IGNORED_CATEGORIES = ("C", "Mn", "Z")
"""Of Unicode: controls and invisible signs, accents, blanks."""


def address_key(address: str) -> str:
    """Of an IPv6 address its /64, of which everybody has one whole; IPv4 that is mapped into IPv6 is IPv4.

    :raises ValueError: it is no address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def identifier_key(identifier: str) -> str:
    """A digest, since the storage is no place for addresses.

    Spellings that some database takes for the same, such as MariaDB with accents and blanks at the end, are folded into
    one: with a counter for each, they would be as many guesses as there are spellings.
    """
    return sha256(fold(identifier).encode()).hexdigest()


def subject_key(subject: str) -> str:
    """A digest of what an application counts by, which may be long or anything, letter by letter."""
    return sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def fold(identifier: str) -> str:
    text = identifier[:_MAX_LENGTH]
    for _ in range(2):  # a folded letter may decompose again
        text = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in text if not unicodedata.category(letter).startswith(_IGNORED_CATEGORIES))
