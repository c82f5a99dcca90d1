import hashlib
import hmac
import logging
import re
import secrets
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import anyio
from anyio.lowlevel import RunVar

from fastapi_users.exceptions import InvalidPasswordException
from fastapi_users.hashing import hashing_pool

if TYPE_CHECKING:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher
    from pwdlib.hashers.bcrypt import BcryptHasher

    __all__ = [
        "MAX_PASSWORD_BYTES",
        "Argon2Hasher",
        "BcryptHasher",
        "PasswordHash",
        "PasswordHashProtocol",
        "PasswordHelper",
        "PasswordHelperProtocol",
        "default_password_hash",
        "is_fingerprint",
        "run_in_hashing_pool",
    ]

logger = logging.getLogger("fastapi_users.password")

R = TypeVar("R")

MAX_PASSWORD_BYTES = 4096
"""In UTF-8. Nobody types more, and hashing more is work that an attacker hands out (libpass has the same limit)."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_BCRYPT = re.compile(r"\$2[abxy]?\$")
_BCRYPT_BYTES = 72

_FINGERPRINT = "fapi-fgpt1$"
# Modular crypt and PHC formats. Whatever else is stored (nothing, "!", hashes of very old systems) is none for sure.
_STORED_HASH = re.compile(r"\$[a-z0-9-]{1,32}\$[!-~]{32,}")


class PasswordHashProtocol(Protocol):
    """passlib's ``CryptContext`` and ``pwdlib.PasswordHash`` both are one."""

    def hash(self, password: str, /) -> str: ...

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]: ...


class PasswordHelperProtocol(Protocol):
    """What the manager asks of its helper: synchronous, and safe to call from several threads at once."""

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        """Whether the password is right and, if it is stored in an outdated way, the hash to store instead."""
        ...

    def hash(self, password: str) -> str: ...

    def generate(self) -> str:
        """A random password that nobody can guess."""
        ...


@cache
def default_password_hash() -> PasswordHashProtocol:
    """argon2id with the second recommended option of RFC 9106, section 4; bcrypt is verified and upgraded."""
    from passlib.context import CryptContext  # noqa: PLC0415 -- 30 ms that only the first helper needs to pay

    context: PasswordHashProtocol = CryptContext(
        schemes=["argon2", "bcrypt"],
        deprecated=["bcrypt"],
        argon2__type="ID",
        argon2__memory_cost=65536,
        argon2__time_cost=3,
        argon2__parallelism=4,
        argon2__salt_size=16,
        argon2__digest_size=32,
    )
    return context


class PasswordHelper(PasswordHelperProtocol):
    def __init__(self, password_hash: PasswordHashProtocol | None = None) -> None:
        self.password_hash = default_password_hash() if password_hash is None else password_hash

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        """A stored or submitted value that the hasher cannot read is a wrong password, never an exception.

        It costs a hash all the same, so that the time does not tell whose stored hash is broken.
        """
        try:
            if is_fingerprint(hashed_password):
                return _is_fingerprint_of(plain_password, hashed_password), None
            if _BCRYPT.match(hashed_password) and len(plain_password.encode()) > _BCRYPT_BYTES:
                return self._verify_as_bcrypt_did(plain_password, hashed_password)
            return self.password_hash.verify_and_update(plain_password, hashed_password)
        except Exception as error:  # noqa: BLE001 -- every hasher has exceptions of its own for what it cannot read
            logger.warning("A password could not be verified: the hasher raised %s", type(error).__name__)
        with suppress(Exception):
            self.password_hash.hash(plain_password)
        return False, None

    def hash(self, password: str) -> str:
        return self.password_hash.hash(password)

    def fingerprint(self, hashed_password: str) -> str:
        """A salted mark of a stored hash, for reset tokens: ``verify_and_update(hashed_password, mark)`` knows it.

        It is cheap, since a stored hash is random enough, and no password is ever compared with one: a mark is only
        made of, and only verifies, what has the form of a stored hash. What has not (a placeholder such as ``!``)
        is hashed like a password instead.
        """
        if not _STORED_HASH.fullmatch(hashed_password):
            return self.hash(hashed_password)
        salt = secrets.token_hex(16)
        return f"{_FINGERPRINT}{salt}${_mark(hashed_password, salt)}"

    def _verify_as_bcrypt_did(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        """By the first 72 bytes, which is all that bcrypt looked at until its version 5 began to raise instead.

        They may end in the middle of a character. The upgraded hash is of the whole password.
        """
        password_hash: Any = self.password_hash  # takes bytes as well
        is_right, upgraded = password_hash.verify_and_update(plain_password.encode()[:_BCRYPT_BYTES], hashed_password)
        if upgraded is not None:
            with suppress(ValueError):  # it hashes with bcrypt itself, and takes no more
                upgraded = self.password_hash.hash(plain_password)
        return is_right, upgraded

    def generate(self) -> str:
        """256 bits from the system's random source, as 43 URL-safe characters."""
        return secrets.token_urlsafe()


def is_fingerprint(hashed_password: Any) -> bool:
    """Made by ``PasswordHelper.fingerprint``: no password's hash, so that nobody may log in with it.

    ``Any``, since tests of applications store mocks, and some tables nulls.
    """
    return isinstance(hashed_password, str) and hashed_password.startswith(_FINGERPRINT)


def is_quick_to_mark(helper: PasswordHelperProtocol, hashed_password: Any) -> bool:
    """Whether ``fingerprint`` of our helper takes microseconds: no work for the pool, where it would wait for slow ones.

    ``Any`` as in ``is_fingerprint``.
    """
    is_hash = isinstance(hashed_password, str) and _STORED_HASH.fullmatch(hashed_password) is not None
    return is_hash and getattr(getattr(helper, "fingerprint", None), "__func__", None) is _OWN_FINGERPRINT


def is_quick_to_verify(helper: PasswordHelperProtocol, hashed_password: Any) -> bool:
    """Of a mark, likewise."""
    return is_fingerprint(hashed_password) and getattr(helper.verify_and_update, "__func__", None) is _OWN_METHODS[1]


def _is_fingerprint_of(hashed_password: str, fingerprint: str) -> bool:
    salt, _, mark = fingerprint.removeprefix(_FINGERPRINT).partition("$")
    is_same = hmac.compare_digest(mark.encode(), _mark(hashed_password, salt).encode())
    return is_same and _STORED_HASH.fullmatch(hashed_password) is not None


def _mark(hashed_password: str, salt: str) -> str:
    return hmac.new(salt.encode(), hashed_password.encode(), hashlib.sha256).hexdigest()


def refuse_unfit_password(password: str) -> None:
    """What no application can want, whatever else it asks for.

    :raises InvalidPasswordException: it is empty, longer than 4096 bytes, or holds NUL or half a surrogate pair.
    """
    if not password:
        raise InvalidPasswordException("The password must not be empty.")
    if "\0" in password or _SURROGATE.search(password):
        raise InvalidPasswordException("The password must not contain NUL or half a surrogate pair.")
    if not _is_short_enough(password):
        raise InvalidPasswordException(f"The password must not be longer than {MAX_PASSWORD_BYTES} bytes.")


def normalize_password(password: str, form: str | None) -> str:
    """NIST SP 800-63B-4, 3.1.1.2: a character is the same however a keyboard composes it."""
    return unicodedata.normalize("NFKC", password) if form == "NFKC" else password


def spellings_to_verify(password: str, form: str | None) -> list[str]:
    """A submitted password as it is stored today and, where that differs, as it was before there was a normal form.

    None for one that cannot have been stored: it is wrong without being hashed.
    """
    if _SURROGATE.search(password) or not _is_short_enough(password):
        return []
    normalized = normalize_password(password, form)
    if not _is_short_enough(normalized):  # there are characters that become eighteen
        return []
    return list(dict.fromkeys([normalized, password]))


def _is_short_enough(password: str) -> bool:
    return len(password.encode()) <= MAX_PASSWORD_BYTES


class LoginCheck(NamedTuple):
    is_right: bool
    upgraded_hash: str | None
    seconds: float


def check_login(
    helper: PasswordHelperProtocol,
    spellings: Sequence[str],
    hashed_password: str | None,
    clock: Callable[[], float] = time.perf_counter,
) -> LoginCheck:
    """Verify one spelling after the other, or do as much for nobody (``None``), and say how long it took.

    Called in its thread, so that waiting for a free one is not counted: that is the same for all. What a helper that
    is not ours cannot read, and says so with a ``ValueError``, is wrong.
    """
    started = clock()
    is_right, upgraded_hash = False, None
    for spelling in spellings:
        with suppress(ValueError):
            if hashed_password is None:
                helper.hash(spelling)
            else:
                is_right, upgraded_hash = helper.verify_and_update(spelling, hashed_password)
        if is_right:
            with suppress(ValueError):  # bcrypt may not take the normal form, which can be longer
                upgraded_hash = upgraded_hash if spelling == spellings[0] else helper.hash(spellings[0])
            break
    return LoginCheck(is_right, upgraded_hash, clock() - started)


async def pad_failed_login(helper: PasswordHelperProtocol, seconds: float, *, tries: int) -> None:
    """Sleep until as much time has passed as the slowest configured scheme takes, whatever was verified.

    Otherwise the time tells who has an account with a hash of another scheme (OWASP ASVS 5.0, 6.3.8). It costs no
    work: verifying with every scheme would hand an attacker twice the load for each guess.
    """
    remaining = tries * await _floor_of(helper) - seconds
    if remaining > 0:
        await anyio.sleep(remaining)


_floors: dict[bytes, float] = {}
_MARGIN = 1.2
"""Above the slowest scheme, whose own durations scatter: without it, its users would be those who do not sleep."""


async def _floor_of(helper: PasswordHelperProtocol) -> float:
    """In seconds; measured once for all helpers that are made alike, and 0 for one that is not ours."""
    schemes = _schemes_of(helper)
    if schemes is None:
        return 0
    settings, hashers = schemes
    async with _in_this_loop(_learning, anyio.Lock):
        if settings not in _floors:
            with anyio.CancelScope(shield=True):  # no client can have it done again by hanging up
                await run_in_hashing_pool(_learn_floor, settings, hashers, is_patient=True)
    return _floors[settings]


def _learn_floor(settings: bytes, hashers: Iterable[Callable[[str], Any]]) -> None:
    _floors[settings] = slowest(hashers) * _MARGIN


def slowest(hashers: Iterable[Callable[[str], Any]], clock: Callable[[], float] = time.perf_counter) -> float:
    """Of a hash by each, the better one of two tries: the first one may load a library."""
    durations = [min(_duration(hasher, clock), _duration(hasher, clock)) for hasher in hashers]
    return max(durations, default=0)


def _duration(hasher: Callable[[str], Any], clock: Callable[[], float]) -> float:
    started = clock()
    with suppress(Exception):  # its library is missing, or it wants a user name: nobody can have such a hash
        hasher("a password")
    return clock() - started


def _schemes_of(helper: PasswordHelperProtocol) -> tuple[bytes, list[Callable[[str], Any]]] | None:
    """The hashers, and what two helpers that are made alike have in common.

    ``None`` for helpers of applications, and for ours when one of its methods is patched, as tests do.
    """
    if not isinstance(helper, PasswordHelper):
        return None
    methods = [getattr(method, "__func__", None) for method in (helper.hash, helper.verify_and_update)]
    if methods != _OWN_METHODS:
        return None
    password_hash: Any = helper.password_hash
    if _is_a(password_hash, "passlib.context", "CryptContext"):
        handlers = [password_hash.handler(scheme) for scheme in password_hash.schemes()]
        return password_hash.to_string().encode(), [handler.hash for handler in handlers]
    if _is_a(password_hash, "pwdlib", "PasswordHash"):
        return _settings(password_hash), [hasher.hash for hasher in password_hash.hashers]
    return None


def _is_a(value: object, module: str, name: str) -> bool:
    """Without importing the library: if it is not loaded yet, nothing is."""
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def _settings(password_hash: Any) -> bytes:
    """Equal for two that are made alike: some applications make one for each request."""
    import pickle  # noqa: PLC0415 -- three modules, for hashers of pwdlib only

    try:
        return pickle.dumps(password_hash)
    except Exception:  # noqa: BLE001 -- every class has reasons of its own for not being told
        return repr([type(hasher) for hasher in password_hash.hashers]).encode()


_OWN_METHODS = [PasswordHelper.hash, PasswordHelper.verify_and_update]
_OWN_FINGERPRINT = PasswordHelper.fingerprint

_learning: RunVar[anyio.Lock] = RunVar("fastapi_users.password.learning")


async def run_in_hashing_pool(function: Callable[..., R], *args: Any, is_patient: bool = False) -> R:
    """Call a slow hash function in one of a few threads while the event loop goes on: see ``HashingPool``.

    :param is_patient: of work that nobody is told of when it is left out.
    :raises HashingQueueFull:
    """
    return await hashing_pool.run(function, *args, is_patient=is_patient)


def _in_this_loop(variable: RunVar[R], make: Callable[[], R]) -> R:
    try:
        return variable.get()
    except LookupError:
        value = make()
        variable.set(value)
        return value


def __getattr__(name: str) -> Any:
    # Applications import these from here, or patch them (CONTRACT 18.1). We do not use them: nobody else pays their import.
    if name not in {"Argon2Hasher", "BcryptHasher", "PasswordHash"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pwdlib import PasswordHash  # noqa: PLC0415 -- see above
    from pwdlib.hashers.argon2 import Argon2Hasher  # noqa: PLC0415 -- the same
    from pwdlib.hashers.bcrypt import BcryptHasher  # noqa: PLC0415 -- the same

    return {"Argon2Hasher": Argon2Hasher, "BcryptHasher": BcryptHasher, "PasswordHash": PasswordHash}[name]
