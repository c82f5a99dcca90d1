"""Settings that are accepted, because upstream accepts them, and that nobody should run: said once, and clearly."""

import sys
import warnings
from functools import lru_cache
from typing import Any

from fastapi_users.exceptions import InsecureSecretWarning, InsecureSettingWarning

MIN_SECRET_BYTES = 32
"""256 bits, as RFC 7518, section 3.2, asks of a key for HS256."""

_WELL_KNOWN = frozenset(
    {
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",  # FastAPI's tutorial
        "a-string-secret-at-least-256-bits-long",  # jwt.io
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",  # the same
        "change me",
        "change-me",
        "change_me",
        "changeme",
        "changethis",
        "default",
        "dev",
        "development",
        "jwt_secret",
        "jwtsecret",
        "mysecret",
        "password",
        "secret",
        "secret-key",
        "secret_key",
        "secretkey",
        "supersecret",
        "supersecretkey",
        "test",
        "thisisasecret",
        "your-256-bit-secret",  # jwt.io
        "your-secret-key",
        "your_secret_key",
    }
)

_told: set[str] = set()
_told_secrets: set[str | bytes | None] = set()


@lru_cache(maxsize=64)  # strategies are made for every request
def secret_weakness(secret: Any) -> str | None:
    """What is wrong with it; ``None`` for nothing. How random it is, nobody can see from one, and nothing from a key that is
    no text.
    """
    if not secret:
        return "empty"
    if not isinstance(secret, str | bytes):
        return None
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    if text.strip().lower() in _WELL_KNOWN:
        return "well-known"
    length = len(text.encode("utf-8", "surrogatepass"))
    return f"only {length} bytes long" if length < MIN_SECRET_BYTES else None


def warn_of_weak_secret(secret: str | bytes | None, place: str | None = None) -> None:
    """Once per place; where that is not known, only about a secret that no place was named for."""
    weakness = secret_weakness(secret)
    if weakness is None or (place is None and secret in _told_secrets):
        return
    warn_once(_about_secret(place or "A secret for JWTs", weakness), InsecureSecretWarning)
    _told_secrets.add(secret)


def refuse_weak_secret(secret: str | bytes | None, place: str) -> None:
    """:raises ValueError:"""
    weakness = secret_weakness(secret)
    if weakness is not None:
        raise ValueError(_about_secret(place, weakness))


def warn_once(message: str, category: type[Warning] = InsecureSettingWarning) -> None:
    """At the line of the application that leads here.

    Strategies are made for every request, and Python remembers warnings only as its filters please.
    """
    if message not in _told:
        warnings.warn(message, category, stacklevel=_frames_of_ours() + 1)
        _told.add(message)  # not before: where warnings are errors, it is one each time


def _frames_of_ours() -> int:
    """How many lie between the caller of this function, which is one of them, and the application. Those of typing are
    between as well: ``JWTStrategy[User, UUID](…)`` is called by it.
    """
    frame, count = sys._getframe(1), 0  # noqa: SLF001 -- documented
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(("fastapi_users.", "typing.")):
        frame, count = frame.f_back, count + 1
    return count


def endless(place: str) -> str:
    return f"{place} is 0: these tokens never expire. Set how many seconds they count."


def _about_secret(place: str, weakness: str) -> str:
    return (
        f"{place} is {weakness}: whoever guesses it makes tokens for every user. Use {MIN_SECRET_BYTES} random bytes or "
        "more, made once by secrets.token_urlsafe(32), and keep them out of the code."
    )
