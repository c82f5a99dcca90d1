"""What happens to an account, as records that an application, an audit log or a webhook can subscribe to."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from fastapi.requests import HTTPConnection

logger = logging.getLogger(__name__)

_MAX_AGENT_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class RequestFacts:
    """Where a request came from: ``address`` in its one spelling, ``None`` where none is known."""

    address: str | None
    agent: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to an account. It never holds a password, a token or a hash.

    ``user_id`` is ``None`` where it is not known, ``request`` where none started the operation.
    """

    name: ClassVar[str]

    user_id: Any
    request: RequestFacts | None = None
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def data(self) -> dict[str, Any]:
        """What this kind of event tells beyond the common facts."""
        common = {common.name for common in fields(Event)}
        return {own.name: getattr(self, own.name) for own in fields(self) if own.name not in common}


@dataclass(frozen=True, kw_only=True)
class Registered(Event):
    """``oauth_name`` is the provider through whose login the user was made."""

    name = "registered"

    email: str
    oauth_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class VerificationRequested(Event):
    name = "verification_requested"


@dataclass(frozen=True, kw_only=True)
class Verified(Event):
    name = "verified"

    email: str


@dataclass(frozen=True, kw_only=True)
class LoginFailed(Event):
    """``identifier`` is what was claimed, if it can be an e-mail address: others may be passwords in the wrong field."""

    name = "login_failed"

    identifier: str | None
    method: str


@dataclass(frozen=True, kw_only=True)
class LoginChallenged(Event):
    """The ``methods`` are proven (RFC 8176), and one of ``required`` is still missing."""

    name = "login_challenged"

    methods: tuple[str, ...]
    required: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoggedIn(Event):
    name = "logged_in"

    methods: tuple[str, ...]
    backend: str


@dataclass(frozen=True, kw_only=True)
class Reauthenticated(Event):
    """The user of a running session has proven again who it is."""

    name = "reauthenticated"

    methods: tuple[str, ...]
    backend: str


@dataclass(frozen=True, kw_only=True)
class LoggedOut(Event):
    name = "logged_out"

    backend: str


@dataclass(frozen=True, kw_only=True)
class PasswordResetRequested(Event):
    name = "password_reset_requested"


@dataclass(frozen=True, kw_only=True)
class PasswordChanged(Event):
    """``is_reset``: with a mailed token instead of a session."""

    name = "password_changed"

    is_reset: bool


@dataclass(frozen=True, kw_only=True)
class EmailChanged(Event):
    name = "email_changed"

    old_email: str
    new_email: str


@dataclass(frozen=True, kw_only=True)
class EmailChangeRequested(Event):
    """The address stays as it is until the new one is confirmed: ``EmailChanged`` tells of that."""

    name = "email_change_requested"

    new_email: str


@dataclass(frozen=True, kw_only=True)
class Updated(Event):
    """The names of the ``fields`` that were submitted, and the ``flags`` (activity and privileges) that changed."""

    name = "updated"

    fields: tuple[str, ...]
    flags: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True)
class OAuthAccountLinked(Event):
    name = "oauth_account_linked"

    oauth_name: str
    account_id: str


@dataclass(frozen=True, kw_only=True)
class OAuthAccountUnlinked(Event):
    """By its owner, or because an unverified user was taken over by the owner of the address."""

    name = "oauth_account_unlinked"

    oauth_name: str
    account_id: str


@dataclass(frozen=True, kw_only=True)
class Deleted(Event):
    name = "deleted"

    email: str


E = TypeVar("E", bound=Event)

Subscriber = Callable[[E, Any], Awaitable[None]]
"""Called with the event and the manager of the request."""

F = TypeVar("F", bound=Callable[..., Awaitable[None]])


class Subscribers:
    """Who wants to know. Set it as ``subscribers`` of your manager.

    Both decorators take the kinds of events to listen to; without any it is all of them: ``@subscribers.after_commit()``.
    Subscribers are called in the order in which they came.
    """

    def __init__(self) -> None:
        self._in_transaction: list[tuple[tuple[type[Event], ...], Subscriber[Any]]] = []
        self._after_commit: list[tuple[tuple[type[Event], ...], Subscriber[Any]]] = []

    def in_transaction(self, *kinds: type[Event]) -> Callable[[F], F]:
        """Before the commit: what the subscriber writes with ``user_db`` of the manager counts together with the change.

        What it raises undoes the change (where the adapter has transactions) and propagates.
        """
        return _decorator(self._in_transaction, kinds)

    def after_commit(self, *kinds: type[Event]) -> Callable[[F], F]:
        """After the change counts, before the answer is sent. What the subscriber raises is logged, and nothing else."""
        return _decorator(self._after_commit, kinds)

    async def tell_in_transaction(self, event: Event, user_manager: Any) -> None:
        for kinds, subscriber in self._in_transaction:
            if isinstance(event, kinds):
                await subscriber(event, user_manager)

    async def tell_after_commit(
        self, event: Event, user_manager: Any, *, recover: Callable[[Exception], Awaitable[None]]
    ) -> None:
        """:param recover: called when a subscriber failed, since its error may be one of the session of the request."""
        for kinds, subscriber in self._after_commit:
            if isinstance(event, kinds):
                try:
                    await subscriber(event, user_manager)
                except Exception as error:
                    logger.exception("A subscriber of %r failed after the commit.", event.name)
                    await recover(error)


def _decorator(
    subscribers: list[tuple[tuple[type[Event], ...], Subscriber[Any]]], kinds: tuple[type[Event], ...]
) -> Callable[[F], F]:
    for kind in kinds:  # a function, where the parentheses were forgotten
        if not isinstance(kind, type):
            raise TypeError(f"{kind!r} is no kind of event. Write @subscribers.after_commit() for all of them.")

    def subscribe(subscriber: F) -> F:
        subscribers.append((kinds or (Event,), subscriber))
        return subscriber

    return subscribe


def get_request_facts(connection: HTTPConnection | None, trusted_proxies: Sequence[str] = ()) -> RequestFacts | None:
    """
    :param trusted_proxies: networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` is believed. Without them the header is
        the sender's own word, and it does not count.
    """
    if not isinstance(connection, HTTPConnection):
        return None  # the tests of applications hand over anything
    agent = connection.headers.get("user-agent")
    if agent is not None:
        agent = "".join(char if char.isprintable() else " " for char in agent[:_MAX_AGENT_LENGTH])
    return RequestFacts(address=get_client_address(connection, trusted_proxies), agent=agent)


def get_client_address(connection: HTTPConnection, trusted_proxies: Sequence[str] = ()) -> str | None:
    """The nearest address that is not a proxy of ours, read from the right of ``X-Forwarded-For``.

    IPv4 addresses that are mapped into IPv6 are folded, and what is no address is none (a Unix socket, a test client).

    :raises ValueError: one of the networks is none.
    """
    networks = parse_networks(tuple(trusted_proxies))
    address = _address(connection.client.host) if connection.client is not None else None
    hops = [hop for header in connection.headers.getlist("x-forwarded-for") for hop in header.split(",")]
    while hops and address is not None and any(address in network for network in networks):
        previous = _address(hops.pop())
        if previous is None:
            break  # what the proxy passed on is no address: it is the nearest that is known
        address = previous
    return None if address is None else str(address)


@lru_cache
def parse_networks(networks: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """:raises ValueError: one of them is none, or has bits beyond its mask."""
    return [ipaddress.ip_network(network) for network in networks]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Some proxies write the port as well: ``192.0.2.1:1234``, ``[2001:db8::1]:1234``."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
