"""The one door: whoever proved who it is, in whichever way, comes through here to a session."""

import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from types import MethodType
from typing import Any, Generic

import jwt
from fastapi import Request, Response, status
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from fastapi_users import events, exceptions, models
from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.strategy import Authentication, Strategy, StrategyDestroyNotSupportedError
from fastapi_users.authentication.strategy.base import (
    MAX_TIME,
    ProvenCredentials,
    current_authentication,
    proven_credentials,
)
from fastapi_users.authentication.transport.base import read_token
from fastapi_users.authentication.transport.cross_site import refuse_cross_site
from fastapi_users.background import do_unseen
from fastapi_users.db.base import BaseUserDatabase, is_adapter
from fastapi_users.jwt import decode_jwt, generate_jwt
from fastapi_users.manager import BaseUserManager
from fastapi_users.one_time import OneTimeSecrets, Purpose

LOGIN_TICKET_AUDIENCE = "fastapi-users:login-ticket"
_TICKET_FINGERPRINT = "login-ticket"

PASSWORD_METHOD = "pwd"
FEDERATED_METHOD = "fed"
"""RFC 8176 registers no value for a login at a provider; this one is Microsoft Entra's."""


class Challenge(BaseModel):
    """``expires_in`` is in seconds; ``methods`` are the ways to go on, any one of them."""

    id: str
    methods: list[str]
    expires_in: int


class ChallengeResponse(BaseModel):
    """The answer of a login that is not complete: 202, and no session yet."""

    challenge: Challenge


class ChallengeAnswer(JSONResponse):
    """202. It must not be cached, since it holds a ticket."""

    def __init__(self, challenge: Challenge) -> None:
        self.challenge = challenge
        super().__init__(
            ChallengeResponse(challenge=challenge).model_dump(),
            status_code=status.HTTP_202_ACCEPTED,
            headers={"Cache-Control": "no-store"},
        )


@dataclass(frozen=True, kw_only=True)
class CredentialCheck:
    """A secret is about to be checked: that of ``identifier``, which is what the client claims to be."""

    method: str
    identifier: str | None
    request: Request | None


@dataclass(frozen=True, kw_only=True)
class LoginAttempt(Generic[models.UP, models.ID]):
    """The user has proven who it is by ``methods`` (RFC 8176), the last of them at ``auth_time``; no session yet."""

    user: models.UP
    methods: tuple[str, ...]
    auth_time: datetime
    backend: AuthenticationBackend[models.UP, models.ID]
    request: Request | None
    requires_verification: bool = False
    is_reauthentication: bool = False


class LoginInterrupted(Exception):
    """For ``_seam_before_session`` to raise: no session before one of the ``methods`` is proven as well."""

    def __init__(self, methods: Sequence[str]) -> None:
        super().__init__(*methods)
        self.methods = tuple(methods)


@dataclass(frozen=True, kw_only=True)
class LoginTicket(Generic[models.UP, models.ID]):
    """An interrupted login that can go on: made by :func:`read_ticket`, ended by :func:`resume_login`.

    ``replaces`` is the digest of the token of a running session, which ends if it comes with the request that resumes.
    """

    user: models.UP
    proven_methods: tuple[str, ...]
    auth_time: datetime
    required_methods: tuple[str, ...]
    requires_verification: bool
    replaces: str | None
    secret: str = field(repr=False)


def seams_of(user_manager: BaseUserManager[models.UP, models.ID]) -> BaseUserManager[models.UP, models.ID]:
    """The manager itself, or what hands every call on to one; or, where tests of an application put something in its place
    that has what upstream calls only, one without features.
    """
    has_seams = issubclass(type(user_manager), BaseUserManager) or isinstance(
        getattr(user_manager, "_seam_before_session", None), MethodType
    )
    return user_manager if has_seams else _without_features()


@cache
def _without_features() -> BaseUserManager[Any, Any]:
    return BaseUserManager(BaseUserDatabase())


async def check_credentials(
    user_manager: BaseUserManager[models.UP, models.ID],
    credentials: OAuth2PasswordRequestForm,
    *,
    request: Request | None,
) -> models.UP:
    """The active user with this password.

    :raises BadCredentials: there is none.
    """
    check = CredentialCheck(method=PASSWORD_METHOD, identifier=credentials.username, request=request)
    await seams_of(user_manager)._seam_before_credentials(check)
    async with reporting_errors(user_manager, check):
        user = await user_manager.authenticate(credentials)
    if user is None or not user.is_active:
        await report_failure(user_manager, check, user=user)
        raise exceptions.BadCredentials
    return user


@asynccontextmanager
async def reporting_errors(
    user_manager: BaseUserManager[models.UP, models.ID], check: CredentialCheck, *, user: models.UP | None = None
) -> AsyncIterator[None]:
    """Around the check itself, which applications override: what it raises in order to refuse is a failure as well, or
    nobody would count the guesses of one that says so with an ``HTTPException``. An error of the server is none, since
    whoever is right would be locked out by it.
    """
    try:
        yield
    except Exception as error:
        if _is_refusal(error, check.request):
            await seams_of(user_manager)._recover(error)
            await report_failure(user_manager, check, user=user)
        raise


def _is_refusal(error: Exception, request: Request | None) -> bool:
    """Whether the application answers with it: by a handler for it, where it is none that is answered anyway."""
    if isinstance(error, HTTPException):
        return error.status_code < status.HTTP_500_INTERNAL_SERVER_ERROR
    handlers: Any = getattr(request and request.scope.get("app"), "exception_handlers", ())
    is_handled = any(kind in handlers for kind in type(error).__mro__ if kind is not Exception)
    return is_handled or isinstance(error, exceptions.FastAPIUsersException)


async def report_failure(
    user_manager: BaseUserManager[models.UP, models.ID],
    check: CredentialCheck,
    *,
    user: models.UP | None,
) -> None:
    """To be called by whoever has called ``_seam_before_credentials``, when the secret was wrong.

    :param user: whom it was meant for, where that is known. For a password the address is looked up, whoever it was, if
        anybody wants to know.
    """
    is_password, identifier, seams = check.method == PASSWORD_METHOD, check.identifier or "", seams_of(user_manager)
    if is_password and _is_listened_to(seams):
        found = await _or_none(user_manager.get_by_email(identifier))
        user = found if user is None else user
    # Before a subscriber commits, after which some sessions know no attribute of the user any more.
    user_id = None if user is None else user.id
    await seams._seam_credentials_failed(check, user)
    await seams._seam_event(
        events.LoginFailed(
            user_id=user_id,
            request=await seams._facts(check.request),
            identifier=presentable_identifier(identifier),
            method=check.method,
        )
    )
    if is_password and _is_overridden(seams, "on_after_failed_login"):

        async def tell() -> None:
            known = user_manager.get_by_email(identifier) if user_id is None else user_manager.get(user_id)
            await user_manager.on_after_failed_login(
                identifier[:MAX_EMAIL_LENGTH], await _or_none(known), check.request
            )

        await do_unseen("on_after_failed_login", tell, user_manager=user_manager, request=check.request)


def _is_listened_to(user_manager: BaseUserManager[Any, Any]) -> bool:
    """Whether anything in the request asks whose password was wrong: for everybody alike, it costs a query."""
    return isinstance(user_manager.subscribers, events.Subscribers) or _is_overridden(
        user_manager, "_seam_credentials_failed", "_seam_event"
    )


def _is_overridden(user_manager: BaseUserManager[Any, Any], *names: str) -> bool:
    """By its class, or by a test on the very object."""
    return any(
        getattr(getattr(user_manager, name), "__func__", None) is not getattr(BaseUserManager, name) for name in names
    )


async def _or_none(look_up: Awaitable[models.UP]) -> models.UP | None:
    try:
        return await look_up
    except exceptions.UserNotExists:
        return None


MAX_EMAIL_LENGTH = 320
"""Of what comes from outside, before anybody looks at its form: that takes seconds for a text of megabytes."""


def presentable_identifier(identifier: str | None) -> str | None:
    """For events: what a client claimed to be, if it can be an address. Else it may be a password in the wrong field."""
    if identifier is None or len(identifier) > MAX_EMAIL_LENGTH:
        return None
    return identifier if re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}", identifier) else None


def refuse_unfit(user: models.UserProtocol[Any], *, requires_verification: bool) -> None:
    """What every way in asks of a user who has proven to be one.

    :raises BadCredentials: the user is inactive.
    :raises UserNotVerified:
    """
    if not user.is_active:
        raise exceptions.BadCredentials
    if requires_verification and not user.is_verified:
        raise exceptions.UserNotVerified


async def complete_login(
    backend: AuthenticationBackend[models.UP, models.ID],
    strategy: Strategy[models.UP, models.ID],
    *,
    user: models.UP,
    user_manager: BaseUserManager[models.UP, models.ID],
    methods: Iterable[str],
    request: Request | None,
    requires_verification: bool = False,
    replaced_token: str | None = None,
) -> Response:
    """A session for a user who has just proven who it is, by ``methods`` (RFC 8176 ``amr`` values).

    A seam may refuse, with an exception of its own, or interrupt: then the answer is 202 with a :class:`Challenge`.
    No other code may call ``backend.login``: what guards the door guards every way in, also those of tomorrow.

    :param replaced_token: of a running session whose user proves again who it is. It ends when the new one exists;
        event and hook are others than those of a login.
    :raises BadCredentials: the user is inactive.
    :raises UserNotVerified: and ``requires_verification`` is set.
    :raises CredentialsChanged: since the user was loaded, the password, say; strategies that store tokens notice.
    :raises CrossSiteRequest: a page of another site had the request sent, and the transport is protected.
    """
    if request is not None:
        refuse_cross_site(backend.transport, request)
    refuse_unfit(user, requires_verification=requires_verification)
    seams, credentials = seams_of(user_manager), _credentials_of(user, user_manager)
    attempt = LoginAttempt(
        user=user,
        methods=tuple(dict.fromkeys(methods)),
        auth_time=datetime.now(timezone.utc),
        backend=backend,
        request=request,
        requires_verification=requires_verification,
        is_reauthentication=replaced_token is not None,
    )
    try:
        await seams._seam_before_session(attempt)
    except LoginInterrupted as interruption:
        return await _challenge(user_manager, attempt, interruption.methods, replaced_token=replaced_token)

    # Before the strategy commits, after which some sessions know no attribute of the user any more.
    kind = events.Reauthenticated if attempt.is_reauthentication else events.LoggedIn
    facts = await seams._facts(request)
    event = kind(user_id=user.id, request=facts, methods=attempt.methods, backend=backend.name)

    authentication = current_authentication.set(Authentication(methods=attempt.methods, time=attempt.auth_time))
    proven = proven_credentials.set(credentials)
    try:
        response = await backend.login(strategy, user)
    finally:
        proven_credentials.reset(proven)
        current_authentication.reset(authentication)
    if replaced_token is not None:
        with suppress(StrategyDestroyNotSupportedError):
            await strategy.destroy_token(replaced_token, user)
    await seams._seam_event(event)
    await seams._seam_after_login(attempt, response)
    hook = user_manager.on_after_reauthenticate if attempt.is_reauthentication else user_manager.on_after_login
    await hook(user, request, response)
    return response


def _credentials_of(user: Any, user_manager: BaseUserManager[Any, Any]) -> ProvenCredentials | None:
    user_db = getattr(user_manager, "user_db", None)
    if not is_adapter(user_db) or not all(hasattr(user, name) for name in _CREDENTIALS):
        return None  # the tests of applications log in whatever they like
    return ProvenCredentials(
        user_db=user_db, user_id=user.id, fields={name: getattr(user, name) for name in _CREDENTIALS}
    )


_CREDENTIALS = ("hashed_password", "email", "is_active")


async def _challenge(
    user_manager: BaseUserManager[models.UP, models.ID],
    attempt: LoginAttempt[models.UP, models.ID],
    methods: tuple[str, ...],
    *,
    replaced_token: str | None,
) -> Response:
    lifetime = user_manager.login_ticket_lifetime_seconds
    user = await user_manager.get(attempt.user.id)  # as it is stored: the login may just have upgraded its hash
    secret = await _ticket_secrets(user_manager).issue_token(str(user.id))
    claims = {
        "sub": str(user.id),
        "aud": LOGIN_TICKET_AUDIENCE,
        "jti": secret,
        "amr": attempt.methods,
        "auth_time": int(attempt.auth_time.timestamp()),
        "methods": methods,
        "backend": attempt.backend.name,
        "verified": attempt.requires_verification,
        "fgpt": user_manager._fingerprint(user.hashed_password, _TICKET_FINGERPRINT),
    }
    if replaced_token is not None:
        claims["replaces"] = _digest(replaced_token)
    transport: Any = attempt.backend.transport
    cookie: str | None = None
    if hasattr(transport, "set_challenge_cookie"):
        # The one of a tab beside this one stays, or its ticket would be lost.
        cookie = _known_cookie(transport, attempt.request) or secrets.token_urlsafe()
        claims["browser"] = _digest(cookie)
    ticket = generate_jwt(claims, user_manager._login_ticket_secret(), lifetime)
    response = ChallengeAnswer(Challenge(id=ticket, methods=list(methods), expires_in=lifetime))
    if cookie is not None:
        transport.set_challenge_cookie(response, cookie, lifetime)
    facts = await user_manager._facts(attempt.request)
    await user_manager._seam_event(
        events.LoginChallenged(user_id=user.id, request=facts, methods=attempt.methods, required=methods)
    )
    return response


async def read_ticket(
    backend: AuthenticationBackend[models.UP, models.ID],
    ticket: str,
    *,
    user_manager: BaseUserManager[models.UP, models.ID],
    request: Request,
    count_try: bool = True,
) -> LoginTicket[models.UP, models.ID]:
    """Open the ticket of a challenge, and count a try against it: the caller is about to check a factor of its user.

    Without ``count_try`` for a step that checks none, such as sending a code; limit that one in another way.

    Of a cookie transport, the ticket counts only together with the cookie that came with it. It dies when the password
    changes.

    :raises InvalidLoginTicket: forged, expired, used, or of another browser or backend; or the user is gone or inactive.
    :raises TooManyTries: for this ticket, or for this user in the last hour.
    """
    try:
        claims = decode_jwt(ticket, user_manager._login_ticket_secret(), [LOGIN_TICKET_AUDIENCE])
        if not all(isinstance(claims.get(name), kind) for name, kind in _TICKET_CLAIMS.items()):
            raise exceptions.InvalidLoginTicket
        if not 0 <= claims["auth_time"] < MAX_TIME:
            raise exceptions.InvalidLoginTicket
        if claims["backend"] != backend.name or not _is_same_browser(backend, request, claims.get("browser")):
            raise exceptions.InvalidLoginTicket
        if count_try:
            await _ticket_secrets(user_manager).take_try(claims["jti"])
        user = await user_manager.get(user_manager.parse_id(claims["sub"]))
        refuse_unfit(user, requires_verification=claims["verified"])
    except (jwt.PyJWTError, *_UNUSABLE) as error:
        raise exceptions.InvalidLoginTicket from error
    if not user_manager._fits_fingerprint(claims["fgpt"], user.hashed_password, _TICKET_FINGERPRINT):
        raise exceptions.InvalidLoginTicket
    return LoginTicket(
        user=user,
        proven_methods=tuple(claims["amr"]),
        auth_time=datetime.fromtimestamp(claims["auth_time"], timezone.utc),
        required_methods=tuple(claims["methods"]),
        requires_verification=claims["verified"],
        replaces=claims.get("replaces"),
        secret=claims["jti"],
    )


_TICKET_CLAIMS: dict[str, Any] = {
    **dict.fromkeys(("sub", "jti", "backend", "fgpt"), str),
    **dict.fromkeys(("amr", "methods"), list),
    **dict.fromkeys(("browser", "replaces"), str | None),
    "auth_time": int,
    "verified": bool,
}
"""Whoever shares the secret could sign others."""

_UNUSABLE = (
    exceptions.InvalidOneTimeSecret,
    exceptions.InvalidID,
    exceptions.UserNotExists,
    exceptions.BadCredentials,
    exceptions.UserNotVerified,
)


async def resume_login(
    backend: AuthenticationBackend[models.UP, models.ID],
    strategy: Strategy[models.UP, models.ID],
    *,
    ticket: LoginTicket[models.UP, models.ID],
    method: str,
    user_manager: BaseUserManager[models.UP, models.ID],
    request: Request,
) -> Response:
    """Go on with an interrupted login, for whose user ``method`` has just been proven. It may be interrupted again.

    :raises InvalidLoginTicket: another request was faster: a ticket is used once.
    """
    ticket_secrets, user_id = _ticket_secrets(user_manager), str(ticket.user.id)
    try:
        await ticket_secrets.consume_token(ticket.secret)
    except exceptions.InvalidOneTimeSecret as error:
        raise exceptions.InvalidLoginTicket from error
    token = None if ticket.replaces is None else await read_token(backend.transport, request)
    response = await complete_login(
        backend,
        strategy,
        user=ticket.user,
        user_manager=user_manager,
        methods=[*ticket.proven_methods, method],
        request=request,
        requires_verification=ticket.requires_verification,
        replaced_token=token if token is not None and _digest(token) == ticket.replaces else None,
    )
    if not isinstance(response, ChallengeAnswer):  # another factor is not yet proven, and must not be guessed for ever
        await ticket_secrets.clear_tries(user_id)
    return response


def login_openapi_extra(backend: AuthenticationBackend[Any, Any], *, of_form: bool = False) -> dict[str, Any] | None:
    """Of a backend that is just an object with two methods, nothing."""
    name = "login_form_openapi_extra" if of_form else "login_openapi_extra"
    extra: dict[str, Any] | None = getattr(backend, name, None)
    return extra


def document_challenges(backends: Iterable[AuthenticationBackend[Any, Any]]) -> None:
    """Put the answer 202 into the OpenAPI document of every route that logs in through these backends.

    To be called by the router of a feature that can interrupt: applications without one see no change.
    """
    schema = ChallengeResponse.model_json_schema()
    challenge = schema.pop("$defs")["Challenge"]
    schema["properties"]["challenge"] = challenge
    responses = {
        str(int(status.HTTP_202_ACCEPTED)): {
            "description": "A further factor is asked for: no session yet.",
            "content": {"application/json": {"schema": schema}},
        }
    }
    for backend in backends:
        extra = login_openapi_extra(backend)
        if extra is not None:
            extra.setdefault("responses", {}).update(responses)


def _ticket_secrets(user_manager: BaseUserManager[Any, Any]) -> OneTimeSecrets:
    purpose = Purpose(name="login-ticket", lifetime_seconds=user_manager.login_ticket_lifetime_seconds)
    return user_manager._one_time_secrets(purpose)


def _known_cookie(transport: Any, request: Request | None) -> str | None:
    cookie = None if request is None else transport.get_challenge_cookie(request)
    return cookie if cookie is not None and re.fullmatch(r"[\w-]{43}", cookie, re.ASCII) else None


def _is_same_browser(backend: AuthenticationBackend[Any, Any], request: Request, expected: str | None) -> bool:
    transport: Any = backend.transport
    if not hasattr(transport, "get_challenge_cookie"):
        return expected is None  # a bearer token: who holds the ticket is the client, as with the token itself
    cookie = transport.get_challenge_cookie(request)
    if cookie is None or expected is None:
        return False
    return hmac.compare_digest(_digest(cookie).encode(), expected.encode("utf-8", "surrogatepass"))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
