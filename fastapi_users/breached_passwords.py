"""Whether a password is known from a breach, asked of "Have I Been Pwned" or a mirror of it.

A range query (k-anonymity): five of the forty digits of the SHA-1 hash are sent, some hundred hashes come back, and which
of them is meant stays here. What is sent is a hundred-thousandth of what identifies a password; note that httpx logs the
addresses that it asks, these five digits among them, with the level INFO.
"""

import hashlib
import logging
import ssl
from functools import cached_property

import anyio

from fastapi_users._lazy import needs_extra

with needs_extra("breached"):
    import httpx

logger = logging.getLogger("fastapi_users.password")

_PREFIX_LENGTH = 5
_MAX_BYTES = 1_000_000  # twenty times what the service answers


class BreachedPasswords:
    """For ``PasswordPolicy(breached=BreachedPasswords())``; one for the whole application.

    A service that is slow, broken or out of reach refuses nobody: that is logged, and the password counts as unknown.

    :param base_url: of the range queries, up to the five digits.
    :param min_count: in how many breaches a password has to stand to be refused.
    :param timeout: in seconds, for the whole query.
    :raises ValueError: a ``min_count`` below 1, which would refuse every password.
    """

    def __init__(
        self, base_url: str = "https://api.pwnedpasswords.com/range/", *, min_count: int = 1, timeout: float = 1
    ) -> None:
        if min_count < 1:
            raise ValueError("min_count is at least 1: below it, every password would be refused.")
        self.base_url = base_url.rstrip("/") + "/"
        self.min_count = min_count
        self.timeout = timeout

    async def __call__(self, password: str) -> bool:
        return await self.count(password) >= self.min_count

    async def count(self, password: str) -> int:
        """In how many breaches it stands, as far as the service tells: 0 also when it does not answer."""
        digest = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest().upper()
        prefix, suffix = digest[:_PREFIX_LENGTH], digest[_PREFIX_LENGTH:]
        try:
            with anyio.fail_after(self.timeout):
                return _count_of(suffix, await self._query(prefix))
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            ImportError,
            OSError,
            ValueError,
        ) as error:  # of a proxy's settings too
            logger.warning("Breached passwords could not be looked up, so none is refused: %r", type(error).__name__)
            return 0

    async def _query(self, prefix: str) -> str:
        # Padding hides from an observer of the encrypted connection how long the answer is, hence which one.
        headers = {"Add-Padding": "true", "User-Agent": "fastapi-users"}
        body = b""
        async with (
            httpx.AsyncClient(verify=self._tls_context, timeout=None, headers=headers) as client,  # noqa: S113 -- see count
            client.stream("GET", f"{self.base_url}{prefix}") as answer,
        ):
            answer.raise_for_status()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MAX_BYTES:
                    raise ValueError("The answer does not end.")
        return body.decode("ascii")

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        """Made once: it reads all authorities there are. A client is made each time, since it belongs to a loop."""
        return httpx.create_ssl_context()


def _count_of(suffix: str, answer: str) -> int:
    """The lines are ``suffix:count``; those of the padding have the count 0.

    :raises ValueError: they are not.
    """
    pairs = (line.partition(":") for line in answer.splitlines())
    return {found.upper(): int(count) for found, _, count in pairs}.get(suffix, 0)
