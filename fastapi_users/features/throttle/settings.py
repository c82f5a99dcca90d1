"""Every number of the feature, in one place."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from fastapi_users.authentication.transport.cookie import refuse_broken_prefix
from fastapi_users.features.throttle.limiter import Limit, Limiter
from fastapi_users.features.throttle.limits import (
    Counters,
    CounterStorage,
    Rate,
    close_storage,
    open_storage,
    parse_rates,
)

logger = logging.getLogger("fastapi_users.throttle")

Metrics = Callable[[str, bool], None]
"""Called with the name of a limit, and whether it let the request pass."""

_SECONDS_BETWEEN_LOGS = 60
_GROWING = "failures_per_identifier_and_address"


@dataclass
class Throttle:
    """Where it is counted, and how much is too much. One for the application, not one for each request.

    Limits are written as ``10/minute`` or ``5 per 2 hours``, several with a semicolon between; ``None`` is none. Where
    it does not say otherwise they count per client: an IPv4 address, or the /64 of an IPv6 one.

    :param storage: ``memory://`` for a single process, ``redis://…`` for several, or a Redis storage of the library ``limits``.
    :param login: tries, right or wrong, by password or provider. ``refresh`` and ``codes`` (every other secret) alike.
    :param failures_per_address: wrong ones, whatever the way in. So are the other ``failures_…``.
    :param failures_per_identifier_and_address: of one client with one identifier. Each time they are used up, the next
        ones last twice as long, up to ``longest_delay_seconds``.
    :param failures_per_identifier: from all clients together, but for the devices that the user has logged in with.
    :param failures_in_a_row: the same, until somebody logs in (NIST SP 800-63B-4, section 3.2.2: at most a hundred).
    :param mails: to one address, by one route.
    :param mail_requests: of one client, to whomever.
    :param registrations_per_email: tries to register with one address, which may be somebody else's.
    :param tokens: tries of mailed tokens.
    :param device_cookie_lifetime_seconds: how long a browser is known after a login; ``None`` knows none.
    :param fails_open: whether requests pass while the storage does not answer. Otherwise they are a 503.
    :param storage_timeout_seconds: how long it has for each answer.
    :param patience_seconds: how long a try waits for others that are being checked, before it counts them as wrong.
    :param key_prefix: of all that is kept in the storage.
    :param is_enabled: ``False`` counts nothing. See also :meth:`paused`.
    :raises ValueError: a limit cannot be read, or allows nothing; or browsers would not take the cookie.
    """

    storage: str | CounterStorage = field(repr=False)
    _: KW_ONLY
    login: str | None = "30/minute"
    refresh: str | None = "150/5 minutes"
    codes: str | None = "30/minute"
    failures_per_address: str | None = "10/minute"
    failures_per_identifier_and_address: str | None = "5/5 minutes"
    longest_delay_seconds: int = 3600
    failures_per_identifier: str | None = "50/hour"
    failures_in_a_row: str | None = "100/day"
    mails: str | None = "1/minute; 5/hour"
    mail_requests: str | None = "20/minute"
    register: str | None = "20/minute"
    registrations_per_email: str | None = "10/hour"
    tokens: str | None = "20/minute"
    device_cookie_lifetime_seconds: int | None = 90 * 24 * 3600
    device_cookie_name: str = "fastapiusersdevice"
    device_cookie_path: str = "/"
    device_cookie_domain: str | None = None
    device_cookie_secure: bool = True
    device_cookie_samesite: Literal["lax", "strict", "none"] = "lax"
    fails_open: bool = True
    storage_timeout_seconds: float = 1.0
    patience_seconds: float = 2.0
    key_prefix: str = "fastapi-users"
    is_enabled: bool = True
    metrics: Metrics | None = None
    limiter: Limiter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        refuse_broken_prefix(
            self.device_cookie_name,
            secure=self.device_cookie_secure,
            path=self.device_cookie_path,
            domain=self.device_cookie_domain,
        )
        for name in _LIMITS:
            refuse_nothing(self.rates(name), f"Throttle.{name}")
        if len(self.rates(_GROWING)) > 1:
            raise ValueError(f"Throttle.{_GROWING} grows by itself: give it one limit.")
        storage = open_storage(self.storage) if isinstance(self.storage, str) else self.storage
        counters = Counters(storage, prefix=self.key_prefix, timeout_seconds=self.storage_timeout_seconds)
        self.limiter = Limiter(
            counters, patience_seconds=self.patience_seconds, longest_delay_seconds=self.longest_delay_seconds
        )
        self._last_said: dict[str, float] = {}

    def rates(self, name: str) -> tuple[Rate, ...]:
        text = getattr(self, name)
        return () if text is None else parse_rates(text)

    def limits(self, name: str, subject: str) -> list[Limit]:
        """Those of a setting, each with the counter of this subject."""
        return [
            Limit(
                name=name.replace("_", "-"),
                key=f"{name}:{rate.seconds}:{subject}",
                rate=rate,
                grows=name == _GROWING,
            )
            for rate in self.rates(name)
        ]

    async def aclose(self) -> None:
        """End its connections to Redis, when the application ends. One that counts once more opens them again.

        A storage that was handed over is closed by who made it.
        """
        if isinstance(self.storage, str):
            await close_storage(self.limiter.counters.storage)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is counted inside: for the tests of an application."""
        was_enabled, self.is_enabled = self.is_enabled, False
        try:
            yield
        finally:
            self.is_enabled = was_enabled

    def measure(self, name: str, *, is_allowed: bool) -> None:
        if self.metrics is not None:
            self.metrics(name, is_allowed)

    def complain(self, topic: str, message: str, *, error: Exception | None = None) -> None:
        """Once a minute for each topic: who can cause it shall not fill the disk."""
        now = time.monotonic()
        if now - self._last_said.get(topic, -_SECONDS_BETWEEN_LOGS) >= _SECONDS_BETWEEN_LOGS:
            self._last_said[topic] = now
            logger.error(message, exc_info=error)


_LIMITS = (
    "login",
    "refresh",
    "codes",
    "failures_per_address",
    "failures_per_identifier_and_address",
    "failures_per_identifier",
    "failures_in_a_row",
    "mails",
    "mail_requests",
    "register",
    "registrations_per_email",
    "tokens",
)


def refuse_nothing(rates: tuple[Rate, ...], place: str) -> None:
    """:raises ValueError: one of them allows nothing, for which there are better ways."""
    if any(rate.amount < 1 for rate in rates):
        raise ValueError(f"{place} allows nothing. To leave a route out, do not mount it.")
