from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.requests import HTTPConnection

from fastapi_users import BaseUserManager
from fastapi_users.authentication.login import PASSWORD_METHOD, CredentialCheck, LoginAttempt, presentable_identifier
from fastapi_users.background import Work, do_later, do_unseen, waiting_for
from fastapi_users.events import EmailChangeRequested, Event, get_client_address, get_request_facts
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.features.throttle.device import Device, make_device_token, read_device_token
from fastapi_users.features.throttle.errors import storage_unavailable, too_many_requests
from fastapi_users.features.throttle.events import Throttled
from fastapi_users.features.throttle.keys import (
    address_key,
    identifier_key,
    lookalike_key,
    mailed_address,
    subject_key,
)
from fastapi_users.features.throttle.limiter import Limit, LimitExceeded, Reservation
from fastapi_users.features.throttle.limits import StorageUnavailable
from fastapi_users.features.throttle.settings import Throttle
from fastapi_users.insecure import warn_once
from fastapi_users.models import ID, UP, UserProtocol

_TRIES = "fastapi_users.throttle"
_DEVICE = "throttle-device"
_TRIES_OF = {PASSWORD_METHOD: "login", "refresh": "refresh"}


@dataclass(frozen=True, kw_only=True)
class _Try:
    """A check of a secret in this request. ``subject`` is whose counters it counts in: an identifier's, or a device's."""

    check: CredentialCheck
    reservation: Reservation
    subject: str | None


class ThrottleMixin(BaseUserManager[UP, ID]):
    """Slows down who guesses, whatever the way in: see :class:`Throttle` for the numbers.

    Operations without a request are a script's or the application's own, and are not counted.
    """

    _required_settings: ClassVar[tuple[str, ...]] = ("throttle",)

    throttle: Throttle

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        is_incomplete = bool(getattr(cls, "__parameters__", ())) or "_required_settings" in vars(cls)
        is_decided = any("trusted_proxies" in vars(base) for base in cls.__mro__ if base is not BaseUserManager)
        if not is_incomplete and not is_decided:
            warn_once(
                f"{cls.__name__} is throttled by the address of the connection. Behind a proxy that is the proxy's, for "
                "everybody alike: set trusted_proxies to the networks of yours, or to () where there is none.",
            )

    async def on_throttled(self, event: Throttled, request: Request | None = None) -> None:
        """After the answer, when a limit refuses for the first time until it lets pass again."""

    async def throttle_request(
        self, limits: Iterable[Limit], request: HTTPConnection | None, *, identifier: str | None = None
    ) -> dict[Limit, int]:
        """Count a request, and say how many are left of each limit.

        :param identifier: for the event.
        :raises HTTPException: 429, one of them is exceeded; 503, the storage does not answer and has to.
        """
        remaining: dict[Limit, int] = {}
        if self.throttle.is_enabled:
            async with self._throttle_guard(request, identifier):
                for limit in limits:
                    remaining[limit] = await self.throttle.limiter.count(limit)
                    self.throttle.measure(limit.name, is_allowed=True)
        return remaining

    async def throttle_client(self, name: str, request: HTTPConnection) -> None:
        """Count a request against a limit of the settings that is one per client.

        :raises HTTPException: see ``throttle_request``.
        """
        address = self.throttle_address(request)
        if address is not None:
            await self.throttle_request(self.throttle.limits(name, address), request)

    async def throttle_email(
        self, name: str, email: str, request: HTTPConnection | None, *, purpose: str | None = None
    ) -> None:
        """Count a request against a limit of the settings that is one per address mailed, known or not.

        :param email: as it was sent: its spellings, with a name for example, count as one.
        :param purpose: what is limited by itself: who asks for one kind of mail uses no other up.
        :raises HTTPException: see ``throttle_request``.
        """
        prefix = "" if purpose is None else f"{purpose}:"
        email = mailed_address(email)
        limits = self.throttle.limits(name, f"{prefix}{identifier_key(email)}")
        lookalike = lookalike_key(email)
        if lookalike is not None:  # apart: what nobody is mailed for uses up no mails of the plain spelling
            limits += self.throttle.limits(name, f"{prefix}lookalike:{lookalike}")
        await self.throttle_request(limits, request, identifier=email)

    async def throttle_unlock(self, identifier: str, address: str | None = None) -> None:
        """Forget the failures of an identifier, and its delay at an address: what a reset of the password does.

        A storage that does not answer is logged: the delays end by themselves.
        """
        subject = identifier_key(identifier)
        limits = self._throttle_failures(subject, address)
        await self._throttle_forget(limit for limit in limits if limit.name != "failures-per-address")

    def throttle_address(self, request: HTTPConnection) -> str | None:
        """The client, as it is counted: ``None`` where no address is known, of which the log tells."""
        address = get_client_address(request, self.trusted_proxies)
        if address is None:
            self.throttle.complain(
                "address",
                "A request without the address of its client is not counted per address, since all of these would share "
                "one limit. Does the server listen on a Unix socket? Let it take the address from the proxy.",
            )
            return None
        return address_key(address)

    async def _seam_before_credentials(self, check: CredentialCheck) -> None:
        await super()._seam_before_credentials(check)
        request = check.request
        if not isinstance(request, HTTPConnection) or not self.throttle.is_enabled:
            return
        await self.throttle_client(_TRIES_OF.get(check.method, "codes"), request)
        async with self._throttle_guard(request, check.identifier):
            subject = None if check.identifier is None else await self._throttle_subject(check.identifier, request)
            limits = self._throttle_failures(subject, self.throttle_address(request))
            if check.identifier is not None and subject == identifier_key(check.identifier):  # and no known device
                lookalike = lookalike_key(check.identifier)
                limits += [] if lookalike is None else self._throttle_failures_of_all_clients(lookalike)
            reservation = await self.throttle.limiter.reserve(limits)
            for limit in limits:
                self.throttle.measure(limit.name, is_allowed=True)
            _tries(request).append(_Try(check=check, reservation=reservation, subject=subject))
            if waiting_for(request) is None:  # at the door it is known, or counts as a failure
                self.throttle.limiter.leave(reservation)
            else:
                release = Work(
                    do=partial(self._throttle_release, request), failure="A throttled try was not taken back"
                )
                await do_later(release, request=request, needs_dependencies=False)

    async def _seam_credentials_failed(self, check: CredentialCheck, user: UP | None) -> None:
        await super()._seam_credentials_failed(check, user)
        if isinstance(check.request, HTTPConnection):
            tries = _tries(check.request)
            for this_try in [each for each in tries if each.check is check]:
                tries.remove(this_try)  # a login that the request comes to after all says nothing of this one
                async with self._throttle_guard(check.request, check.identifier):
                    await self.throttle.limiter.fail(this_try.reservation)

    async def _seam_before_session(self, attempt: LoginAttempt[UP, ID]) -> None:
        await super()._seam_before_session(attempt)
        request = attempt.request
        if not isinstance(request, HTTPConnection):
            return
        if _tries(request):
            await self._throttle_release(request)
        else:  # no secret of ours was checked: a provider's login
            await self.throttle_client("login", request)

    async def _seam_after_login(self, attempt: LoginAttempt[UP, ID], response: Response) -> None:
        await super()._seam_after_login(attempt, response)
        request = attempt.request
        if not isinstance(request, HTTPConnection) or not self.throttle.is_enabled:
            return
        await self._restore(attempt.user)  # which the commit of the session may have expired
        address = self.throttle_address(request)
        # By a name that is no address, or by a device of the user's, it counted as that.
        counted = [each.subject for each in _tries(request) if each.subject is not None]
        names = [identifier_key(name) for name in _names(request)]
        for subject in dict.fromkeys([identifier_key(attempt.user.email), *names, *counted]):
            await self._throttle_forget(self._throttle_ended_by_login(subject, address))
        self._throttle_remember(attempt.user, request, response)

    async def _seam_credentials_changed(self, user: UP, changed: set[str], request: Request | None) -> None:
        await super()._seam_credentials_changed(user, changed, request)
        if "password" in changed and self.throttle.is_enabled:
            address = self.throttle_address(request) if isinstance(request, HTTPConnection) else None
            await self._after_commit(partial(self.throttle_unlock, user.email, address))

    async def _seam_event(self, event: Event) -> None:
        await super()._seam_event(event)
        # In the transaction of the request for the new address, which comes to nothing, and before the mail to it.
        if isinstance(event, EmailChangeRequested) and event.request is not None:
            await self.throttle_email("mails", event.new_email, None, purpose="email-change")

    @asynccontextmanager
    async def _throttle_guard(self, request: HTTPConnection | None, identifier: str | None) -> AsyncIterator[None]:
        """The answers of what the limiter raises."""
        try:
            yield
        except StorageUnavailable as error:
            self._throttle_complain(error)
            if not self.throttle.fails_open:
                raise storage_unavailable() from error
        except LimitExceeded as exceeded:
            self.throttle.measure(exceeded.limit.name, is_allowed=False)
            await self._throttle_tell(exceeded, request, identifier)
            raise too_many_requests(exceeded.limit.name, exceeded.rate, exceeded.seconds_left) from exceeded

    def _throttle_complain(self, error: StorageUnavailable) -> None:
        consequence = "are not counted" if self.throttle.fails_open else "are refused"
        message = f"The storage of the throttle does not answer: requests {consequence}."
        self.throttle.complain("storage", message, error=error)

    async def _throttle_tell(
        self, exceeded: LimitExceeded, request: HTTPConnection | None, identifier: str | None
    ) -> None:
        """Once, or whoever is refused would still have the application write and mail with each request."""
        try:
            times = await self.throttle.limiter.counters.add(f"told:{exceeded.limit.key}", exceeded.seconds_left)
        except StorageUnavailable:
            return
        if times > 1:
            return
        event = Throttled(
            user_id=None,
            request=get_request_facts(request, self.trusted_proxies),
            limit=exceeded.limit.name,
            retry_after=exceeded.seconds_left,
            identifier=presentable_identifier(identifier),
        )
        await self._seam_event(event)
        asker = request if isinstance(request, Request) else None
        tell = partial(self.on_throttled, event, asker)
        await do_unseen("on_throttled", tell, user_manager=self, request=asker)

    def _throttle_failures(self, subject: str | None, address: str | None) -> list[Limit]:
        """What a failure counts in: the client, the subject at this client, the subject.

        A known device is a subject of its own, wherever it is: neither can strangers use its tries up, nor it theirs.
        """
        limits = [] if address is None else self.throttle.limits("failures_per_address", address)
        if subject is not None:
            place = subject if _is_device(subject) else f"{subject}:{address}"
            limits += self.throttle.limits("failures_per_identifier_and_address", place)
            limits += self._throttle_failures_of_all_clients(subject)
        return limits

    def _throttle_failures_of_all_clients(self, subject: str) -> list[Limit]:
        ceiling = self.throttle.limits("failures_per_identifier", subject)
        return [*ceiling, *self.throttle.limits("failures_in_a_row", subject)]

    def _throttle_ended_by_login(self, subject: str, address: str | None) -> list[Limit]:
        """Not what guesses from everywhere have come to in this hour, or each login would allow more of them."""
        kept = {"failures-per-address", "failures-per-identifier"}
        return [limit for limit in self._throttle_failures(subject, address) if limit.name not in kept]

    async def _throttle_release(self, request: HTTPConnection) -> None:
        """Whatever of this request has not failed."""
        async with self._throttle_guard(request, None):
            for each in _tries(request):
                await self.throttle.limiter.release(each.reservation)

    async def _throttle_forget(self, limits: Iterable[Limit]) -> None:
        try:
            for limit in limits:
                await self.throttle.limiter.forget(limit)
        except StorageUnavailable as error:
            self._throttle_complain(error)

    async def _throttle_subject(self, identifier: str, request: HTTPConnection) -> str:
        device = await self._throttle_device(identifier, request)
        return identifier_key(identifier) if device is None else f"{_DEVICE}:{device.id}"

    async def _throttle_device(self, identifier: str, request: HTTPConnection) -> Device | None:
        """The one that the request comes from, if the user with this identifier has logged in with it.

        The look-up tells, by its time, nothing but to whom has such a cookie.
        """
        token = request.cookies.get(self.throttle.device_cookie_name)
        device = None if token is None else read_device_token(token, self._derived_keys(_DEVICE))
        if device is None:
            return None
        try:
            user = await self.get(self.parse_id(device.user_id))
        except (InvalidID, UserNotExists):
            return None
        is_named = (
            identifier_key(identifier) == identifier_key(user.email) or subject_key(identifier) in device.identifiers
        )
        return device if is_named and self._fits_fingerprint(device.fingerprint, _marked(user), _DEVICE) else None

    def _throttle_remember(self, user: UP, request: HTTPConnection, response: Response) -> None:
        lifetime = self.throttle.device_cookie_lifetime_seconds
        if lifetime is None:
            return
        device = Device(
            user_id=str(user.id),
            identifiers=tuple(subject_key(name) for name in _names(request)),
            fingerprint=self._fingerprint(_marked(user), _DEVICE),
        )
        response.set_cookie(
            self.throttle.device_cookie_name,
            make_device_token(device, self._derived_keys(_DEVICE), lifetime),
            max_age=lifetime,
            path=self.throttle.device_cookie_path,
            domain=self.throttle.device_cookie_domain,
            secure=self.throttle.device_cookie_secure,
            httponly=True,
            samesite=self.throttle.device_cookie_samesite,
        )


def _is_device(subject: str) -> bool:
    return subject.startswith(_DEVICE)


def _marked(user: UserProtocol[Any]) -> str:
    """What a device is known by. With the address, since that may be somebody else's afterwards."""
    return f"{identifier_key(user.email)}:{user.hashed_password}"


def _names(request: HTTPConnection) -> list[str]:
    """What the user called itself."""
    return [each.check.identifier for each in _tries(request) if each.check.identifier is not None]


def _tries(request: HTTPConnection) -> list[_Try]:
    tries: list[_Try] = request.scope.setdefault(_TRIES, [])
    return tries
