"""Who is counted as one: pure functions, so that a spelling that gets around them is a test away."""

import ipaddress
import unicodedata
from hashlib import sha256

from pydantic.networks import validate_email
from pydantic_core import PydanticCustomError

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


def mailed_address(email: str) -> str:
    """Whom a mail goes to, as ``EmailStr`` takes it: ``Ann <ann@example.org>`` and punycode are spellings of one address.

    What that refuses stays as it is: a schema of the application's may take it.
    """
    try:
        return validate_email(email)[1]
    except PydanticCustomError:
        return email


def identifier_key(identifier: str) -> str:
    """A digest, since the storage is no place for addresses. Case and blanks around it make no difference.

    No more is folded here: who can register a spelling of somebody else's address shall not clear the counters of that
    one by logging in.
    """
    return subject_key(_plain(identifier))


def lookalike_key(identifier: str) -> str | None:
    """Of what some database takes for the same, such as MariaDB with accents: else there were as many guesses as
    spellings. ``None`` for a plain spelling, which is what the others look like."""
    plain = _plain(identifier)
    folded = fold(plain)
    return None if folded == plain else subject_key(folded)


def subject_key(subject: str) -> str:
    """A digest of what an application counts by, which may be long or anything, letter by letter."""
    return sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def fold(identifier: str) -> str:
    text = identifier
    for _ in range(2):  # a folded letter may decompose again
        text = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in text if not unicodedata.category(letter).startswith(_IGNORED_CATEGORIES))


def _plain(identifier: str) -> str:
    text = unicodedata.normalize("NFC", identifier[:_MAX_LENGTH].strip())
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
