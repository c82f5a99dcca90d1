"""Which passwords are good enough: NIST SP 800-63B-4, section 3.1.1.2, and OWASP ASVS 5.0, 6.2.

Length, and nothing that is guessed first. There are no rules about digits or symbols, which only make "Password1!".

The list of the commonest passwords is our own file, though the library ``zxcvbn`` has one, from which this one was made:
that library brings 800 kB of which we need a tenth, and an opinion about strength that changes with its versions. The
file holds what is left when digits around a word are taken off, since the policy takes them off as well.
"""

import re
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from typing import Any, Literal

from fastapi_users.exceptions import InvalidPasswordException
from fastapi_users.password import MAX_PASSWORD_BYTES

RefusalCode = Literal["too_short", "too_long", "pattern", "personal", "common", "breached"]

USER_FIELDS = ("username", "name", "first_name", "last_name", "full_name", "display_name", "nickname")

_LEAST_LENGTH = 8  # what the standard allows where a second factor is asked for as well
_ADVICE = "A few words that have nothing to do with each other are easy to remember and hard to guess."


class PasswordRefused(InvalidPasswordException):
    """``reason`` is an English sentence, which reaches the client. ``code`` stays the same, for texts of yours."""

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class PasswordPolicy:
    """Make one for the whole application, and give it to the manager as ``password_policy``.

    :param min_length: in characters: 15 where the password is all that is asked for, 8 beside a second factor.
    :param max_bytes: in UTF-8. The manager refuses more than 4096 anyway.
    :param words: of the application, such as its name: a password made of them is the first that one tries.
    :param user_fields: attributes of the user and of the schemas that hold names, for the same reason.
    :param breached: tells whether a password is known from a breach, such as ``BreachedPasswords()``.
    :raises ValueError: lengths that the standard does not allow, or that nothing fits in.
    """

    def __init__(
        self,
        min_length: int = 15,
        *,
        max_bytes: int = MAX_PASSWORD_BYTES,
        words: Iterable[str] = (),
        user_fields: Iterable[str] = USER_FIELDS,
        breached: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        if min_length < _LEAST_LENGTH:
            raise ValueError(
                f"A password of less than {_LEAST_LENGTH} characters is none (NIST SP 800-63B-4, 3.1.1.2)."
            )
        if not max(min_length, 64) <= max_bytes <= MAX_PASSWORD_BYTES:
            raise ValueError(
                f"max_bytes is at least 64 (OWASP ASVS 5.0, 6.2.9) and min_length, and at most {MAX_PASSWORD_BYTES}."
            )
        self.min_length = min_length
        self.max_bytes = max_bytes
        self.words = frozenset(word for text in words for word in _words_of(text))
        self.user_fields = tuple(user_fields)
        self.breached = breached

    async def check(self, password: str, *, user: Any) -> None:
        """
        :param user: the stored user, the schema of a new one, or ``None``.
        :raises PasswordRefused: with a reason that says what to do.
        """
        if len(password) < self.min_length:
            raise PasswordRefused("too_short", f"Use at least {self.min_length} characters. {_ADVICE}")
        if len(password.encode()) > self.max_bytes:
            raise PasswordRefused("too_long", f"Use at most {self.max_bytes} bytes.")
        folded = _fold(password)
        if is_made_of(folded, self.words | self._words_of_user(user), leaving=self.min_length // 2):
            raise PasswordRefused(
                "personal", f"This password is made of your address, your name or the name of this site. {_ADVICE}"
            )
        if has_pattern(folded, self.min_length):
            raise PasswordRefused("pattern", f"This password repeats itself or follows the keyboard. {_ADVICE}")
        if is_common(folded):
            raise PasswordRefused("common", f"Many people use this password, or parts of it. {_ADVICE}")
        if self.breached is not None and await self.breached(password):
            raise PasswordRefused(
                "breached", f"This password is known from a data breach: change it wherever you use it. {_ADVICE}"
            )

    def _words_of_user(self, user: Any) -> frozenset[str]:
        local_part, _, domain = _text_of(user, "email").rpartition("@")
        texts = [local_part, *domain.split(".")[:-1], *(_text_of(user, field) for field in self.user_fields)]
        return frozenset(word for text in texts for word in _words_of(text))


def _text_of(user: Any, field: str) -> str:
    value = getattr(user, field, None)
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


_MAX_TEXT = 320  # as long as an address can be: what is longer is no name, and would be work
_SHORTEST_WORD = 3


def _words_of(text: str) -> Iterator[str]:
    """The parts of a name or an address, and all of it in one word, as ``_skeleton`` writes them."""
    parts = [_skeleton(part) for part in re.split(r"[\W_]+", _fold(text))]
    yield from (word for word in {*parts, "".join(parts)} if len(word) >= _SHORTEST_WORD)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


# Digits and signs that stand for letters. The letter l becomes i, since 1 and ! stand for either of them.
_LOOKS_LIKE = str.maketrans("013457@$!|l", "oieastasiii")


def _skeleton(folded: str) -> str:
    """What "p4$$w0rd" and "password" have in common. As long as what was given."""
    return folded.translate(_LOOKS_LIKE)


_ROWS = ["1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"]
_LINES = [
    "abcdefghijklmnopqrstuvwxyz",
    "12345678901234567890",
    *_ROWS,
    *("".join(column) for column in zip_longest(*_ROWS, fillvalue="")),  # 1qaz 2wsx
    "qwertzuiopü",
    "asdfghjklöä",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
]
_SEQUENCES = "\n".join([*_LINES, *(line[::-1] for line in _LINES)])
_MEAN_RUN = 3


def has_pattern(folded: str, min_length: int) -> bool:
    """One part over and over, or runs along the alphabet, the digits or the keyboard, two interleaved ones as well."""
    longest_period = min((len(folded) + 1) // 2, min_length - 1)  # a part that is good enough alone may come twice
    is_periodic = any(folded[:-period] == folded[period:] for period in range(1, longest_period + 1))
    runs = min(_count_runs(folded), _count_runs(folded[::2]) + _count_runs(folded[1::2]))
    return is_periodic or runs * _MEAN_RUN <= len(folded) + 1


def _count_runs(text: str) -> int:
    runs, start = 0, 0
    for end in range(1, len(text) + 1):
        run = text[start : end + 1]
        if end == len(text) or not (run in _SEQUENCES or run == run[0] * len(run)):
            runs, start = runs + 1, end
    return runs


def is_made_of(folded: str, words: frozenset[str], *, leaving: int) -> bool:
    """Whether so little is left without these words, and without digits and signs around it, that it says nothing."""
    if not words:
        return False
    either = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))
    found = [match.span() for match in either.finditer(_skeleton(folded))]
    starts, ends = [0, *(end for _, end in found)], [*(start for start, _ in found), len(folded)]
    rest = "".join(folded[start:end] for start, end in zip(starts, ends, strict=True))
    return bool(found) and len(rest) - _leading(rest) - _leading(rest[::-1]) < leaving


_LONGEST_CORE = 48
_SHORTEST_PART = 4
_KEPT_DECORATION = 4


def is_common(folded: str) -> bool:
    """One of the commonest passwords or two of them, whatever digits, signs and letter look-alikes adorn them."""
    common = _common_passwords()
    for core in _cores(folded):
        if core in common:
            return True
        cuts = range(_SHORTEST_PART, len(core) - _SHORTEST_PART + 1)
        if any(core[:cut] in common and core[cut:] in common for cut in cuts):
            return True
    return False


def _cores(folded: str) -> Iterator[str]:
    """What may be the password inside of its adornments, of which the first may be look-alikes of letters."""
    for text in {folded, re.sub(r"[\s._-]", "", folded)}:
        for start in {0, _leading(text)}:
            end = max(len(text) - _leading(text[::-1]), start)
            for kept in {*range(end, end + _KEPT_DECORATION), len(text)}:
                if kept - start <= _LONGEST_CORE:
                    yield _skeleton(text[start:kept])


def _leading(text: str) -> int:
    """How many digits and signs there are before the first letter."""
    return next((index for index, character in enumerate(text) if character.isalpha()), len(text))


@cache
def _common_passwords() -> frozenset[str]:
    lines = files("fastapi_users").joinpath("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(_skeleton(line) for line in lines if not line.startswith("#"))
