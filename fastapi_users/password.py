import logging
import os
import secrets
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from pwdlib.hashers.argon2 import Argon2Hasher

    __all__ = [
        "Argon2Hasher",
        "PasswordHash",
        "PasswordHelper",
        "PasswordHelperProtocol",
        "default_password_hash",
        "run_in_hashing_pool",
    ]

logger = logging.getLogger("fastapi_users.password")

R = TypeVar("R")


class PasswordHash(Protocol):
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
def default_password_hash() -> PasswordHash:
    """argon2id with the second recommended option of RFC 9106, section 4; bcrypt is verified and upgraded."""
    from passlib.context import CryptContext  # noqa: PLC0415 -- 30 ms that only the first helper needs to pay

    context: PasswordHash = CryptContext(
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
    def __init__(self, password_hash: PasswordHash | None = None) -> None:
        self.password_hash = default_password_hash() if password_hash is None else password_hash

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        """A stored or submitted value that the hasher cannot read is a wrong password, never an exception."""
        try:
            return self.password_hash.verify_and_update(plain_password, hashed_password)
        except Exception as error:  # noqa: BLE001 -- every hasher has exceptions of its own for what it cannot read
            logger.warning("A password could not be verified: the hasher raised %s", type(error).__name__)
            return False, None

    def hash(self, password: str) -> str:
        return self.password_hash.hash(password)

    def generate(self) -> str:
        """256 bits from the system's random source, as 43 URL-safe characters."""
        return secrets.token_urlsafe()


_hashing_slots: RunVar[anyio.CapacityLimiter] = RunVar("fastapi_users.password.hashing_slots")


async def run_in_hashing_pool(function: Callable[..., R], *args: Any) -> R:
    """Call a slow hash function in a thread while the event loop goes on.

    At most as many run at once as there are cores: an argon2 hash takes a core and 64 MiB, so that more would only
    cost memory. The slots are our own, since hashes in the pool of the application's synchronous routes starve those.
    """
    try:
        slots = _hashing_slots.get()
    except LookupError:
        slots = anyio.CapacityLimiter(os.cpu_count() or 1)
        _hashing_slots.set(slots)
    return await anyio.to_thread.run_sync(function, *args, limiter=slots)


def __getattr__(name: str) -> Any:
    # Applications patch this name in their tests (CONTRACT 18.1). We do not use it, so nobody else pays its import.
    if name == "Argon2Hasher":
        from pwdlib.hashers.argon2 import Argon2Hasher  # noqa: PLC0415 -- see above

        return Argon2Hasher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
