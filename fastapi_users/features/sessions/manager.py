import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Generic, Literal
from uuid import UUID, uuid4

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from fastapi_users.authentication.login import LoginAttempt, refuse_unfit
from fastapi_users.authentication.strategy.base import current_authentication, refuse_if_changed
from fastapi_users.db.base import is_adapter
from fastapi_users.db.store import Store, at_most, greater_than, none_of
from fastapi_users.events import Event
from fastapi_users.exceptions import BadCredentials, CredentialsChanged, UserNotExists
from fastapi_users.features.sessions.delivery import add_refresh_token, issued_tokens, refresh_path
from fastapi_users.features.sessions.errors import InvalidRefreshToken, RefreshTokenReused, SessionNotExists
from fastapi_users.features.sessions.models import SessionProtocol
from fastapi_users.features.sessions.rotation import (
    SECRET_BYTES,
    RefreshToken,
    Verdict,
    child_of,
    credentials_digest,
    idle_end,
    judge,
    repeated_child,
    seal,
    unseal,
)
from fastapi_users.jwt import SecretsType, get_secret_values
from fastapi_users.manager import BaseUserManager, is_ending_sessions
from fastapi_users.models import ID, UP

REFRESH_METHOD = "refresh"
"""Of the ``CredentialCheck`` that goes through the seams. It is no proof of who the user is, hence no ``amr`` value."""

EndedBy = Literal["user", "superuser", "logout", "limit"]
"""By the user from the list of sessions, by a superuser, by logging out, by the limit on parallel sessions."""

logger = logging.getLogger("fastapi_users.sessions")

_ATTEMPTS = 5
_DAY = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class SessionEnded(Event):
    """Before its time: see ``EndedBy``. Where the credentials change or the user goes, the event of that tells enough."""

    name = "session_ended"

    session_id: UUID
    by: EndedBy


@dataclass(frozen=True, kw_only=True)
class AllSessionsEnded(Event):
    """Log out everywhere; ``but_one`` where the session that asked for it goes on."""

    name = "all_sessions_ended"

    by: EndedBy
    but_one: bool


@dataclass(frozen=True, kw_only=True)
class RefreshTokenTheft(Event):
    """A refresh token came that had been replaced long ago: somebody has a copy of it. The session has ended."""

    name = "refresh_token_theft"

    session_id: UUID


@dataclass(frozen=True, kw_only=True)
class StartedSession:
    session: SessionProtocol[Any]
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RefreshedSession(StartedSession, Generic[UP]):
    user: UP


login_attempt: ContextVar[LoginAttempt[Any, Any] | None] = ContextVar("login_attempt", default=None)
"""The login that is under way: a strategy is asked for a token with nothing but the user."""


class SessionsMixin(BaseUserManager[UP, ID]):
    """Sessions that their users see and end, kept alive by refresh tokens that change at each use.

    :cvar sessions_model: the table or document of the sessions, or a store that takes its place (``RedisSessionStore``).
    :cvar sessions_secret: seals refresh tokens. ``None`` derives a key from ``login_ticket_secret``, or
        ``reset_password_token_secret``. May be several, the newest first.
    :cvar sessions_idle_seconds: a session ends if it is not refreshed for so long, and ``sessions_absolute_seconds`` after
        the login in any case.
    :cvar sessions_brief_idle_seconds: the same for users who do not want to be remembered, whose cookie ends with the
        browser: see ``sessions_remember_by_default``.
    :cvar sessions_remember_by_default: what counts for a login without the field ``remember_me``.
    :cvar sessions_grace_seconds: for so long after a refresh everybody gets the same token: who has the one that was
        replaced, since an answer got lost or another tab was faster, and who has the new one already. 0 replaces at each
        use, and takes each repetition for theft.
    :cvar sessions_limit: of parallel sessions of a user; the oldest ends. ``None`` is no limit (OWASP ASVS 5.0, 7.1.2).
    :cvar sessions_last_seen_seconds: ``last_seen_at`` is written once in so many seconds at most.
    :cvar sessions_keep_origin: keep address and user agent of a session.
    :cvar sessions_refresh_path: of the refresh route, as browsers see it, for the cookie. ``None`` asks the router.
    """

    _required_settings: ClassVar[tuple[str, ...]] = ("sessions_model",)
    _optional_secrets: ClassVar[tuple[str, ...]] = ("sessions_secret",)

    sessions_model: Any
    sessions_secret: Any = None
    sessions_idle_seconds: int = 30 * _DAY
    sessions_absolute_seconds: int = 90 * _DAY
    sessions_brief_idle_seconds: int = _DAY // 2
    sessions_brief_absolute_seconds: int = _DAY
    sessions_remember_by_default: bool = True
    sessions_grace_seconds: float = 10
    sessions_limit: int | None = None
    sessions_last_seen_seconds: int = 60
    sessions_keep_origin: bool = True
    sessions_refresh_path: str | None = None

    async def start_session(self, user: UP, *, replaced_id: UUID | None = None) -> StartedSession:
        """For the strategy, in the door: what the login tells of itself (request, methods, ``remember_me``) is kept.

        :param replaced_id: of the session that the client had, which ends (OWASP ASVS 5.0, 7.2.4).
        :raises CredentialsChanged: what the login proved counts no more: see ``proven_credentials``.
        """
        attempt, authentication, now = login_attempt.get(), current_authentication.get(), _now()
        if attempt is not None and attempt.user is not user:
            attempt = None
        replaced = None if replaced_id is None else await self._live_session(replaced_id)
        is_remembered = await self._wants_to_be_remembered(attempt, replaced)
        token = RefreshToken(session_id=uuid4(), generation=0, secret=secrets.token_bytes(SECRET_BYTES))
        idle_seconds, absolute_seconds = self._session_lifetimes(is_remembered=is_remembered)
        ends_at = now + timedelta(seconds=absolute_seconds)
        rows, user_id = self._session_rows(), user.id
        session = await rows.create(
            {
                "id": token.session_id,
                "user_id": user_id,
                "digest": token.digest,
                "previous_digest": None,
                "credentials_digest": self._session_credentials(user)[0],
                "generation": token.generation,
                "rotated_at": now,
                "is_remembered": is_remembered,
                "auth_time": None if authentication is None else authentication.time,
                "amr": "" if authentication is None else " ".join(authentication.methods),
                "created_at": now,
                "last_seen_at": now,
                "expires_at": idle_end(now, idle_seconds=idle_seconds, ends_at=ends_at),
                "ends_at": ends_at,
                **await self._session_origin(None if attempt is None else attempt.request),
            }
        )
        try:
            await refuse_if_changed()
        except CredentialsChanged:
            await self._delete_sessions({"id": token.session_id})
            raise
        if replaced_id is not None:
            await self._delete_sessions({"id": replaced_id})
        await self._end_sessions_beyond_limit(user_id)
        await self._restore(user)  # which a commit may have expired
        return StartedSession(session=session, refresh_token=seal(token, self._session_keys()[0]))

    async def refresh_session(
        self, refresh_token: str, *, request: Request | None = None, requires_verification: bool = False
    ) -> RefreshedSession[UP]:
        """The session goes on, with a new refresh token in place of this one; or with the same new one as before, for a
        client that comes again since it lost the answer; or with this very one, which was new just now: for
        ``sessions_grace_seconds`` everybody who asks gets the same.

        :raises RefreshTokenReused: it was replaced longer ago; the session has ended by this.
        :raises InvalidRefreshToken: it does not count; or password or address are others since, whoever changed them, by
            which the session ends unless ``sessions_end_with_credentials`` is off.
        :raises UserNotVerified: and ``requires_verification`` is set. The token still counts.
        """
        now, keys = _now(), self._session_keys()
        token = unseal(refresh_token, keys)
        found = None if token is None else await self._session_with_user(token.session_id)
        if token is None or found is None:
            raise InvalidRefreshToken
        session, user = found
        try:
            refuse_unfit(user, requires_verification=requires_verification)
        except BadCredentials as error:
            raise InvalidRefreshToken from error
        if not self._is_of_these_credentials(session, user):
            # Of what was read only: a change that spares it is just writing the new ones.
            where = {"id": session.id, "credentials_digest": session.credentials_digest}
            await self._delete_sessions(where)
            raise InvalidRefreshToken
        verdict, child = self._judge(session, token, now), child_of(token, keys[0])
        is_rotated = False
        if verdict in (Verdict.DUE, Verdict.STOLEN):
            is_rotated = await self._rotate(session, user, token, child, now, request)
            # Where this one did not rotate, somebody was faster, or it comes late: the row, read again, says which.
            current = await self._live_session(token.session_id)
            await self._restore(user)
            if current is None:  # ended at this very moment
                raise InvalidRefreshToken
            session, verdict = current, self._judge(current, token, now)
        if not is_rotated and verdict is Verdict.STOLEN:
            await self._end_stolen_session(user, token.session_id, request)
            raise RefreshTokenReused
        given = child if is_rotated else self._given_before(session, token, verdict)
        if given is None:
            raise InvalidRefreshToken
        return RefreshedSession(session=session, refresh_token=seal(given, keys[0]), user=user)

    async def find_session(self, session_id: UUID) -> tuple[SessionProtocol[ID], UP] | None:
        """A session that has not ended, with its user, for a request of its client: that it was seen is noted, once a
        minute at most (``sessions_last_seen_seconds``), so that requests that read do not all write. Within a transaction
        of the application it is left to a later request.
        """
        found = await self._session_with_user(session_id)
        if found is None:
            return None
        session, user = found
        now = _now()
        due = now - timedelta(seconds=self.sessions_last_seen_seconds)
        if session.last_seen_at <= due and self._may_commit():
            try:
                where = {"id": session_id, "last_seen_at": at_most(due)}
                await self._session_rows().update_where(where, {"last_seen_at": now})
            except Exception as error:  # noqa: BLE001 -- of any database; a note, for the lack of which no request fails
                logger.warning("When a session was seen was not written (%s)", type(error).__name__)
                await self._recover(error)
            await self._restore(user)
        return found

    async def list_sessions(self, user: UP) -> list[SessionProtocol[ID]]:
        """Those that have not ended, the one that was used last first."""
        where = {"user_id": user.id, "expires_at": greater_than(_now())}
        return await self._session_rows().list(where, order_by="-last_seen_at")

    async def end_session(
        self,
        user: UP,
        session_id: UUID,
        *,
        request: Request | None = None,
        by: EndedBy = "user",
    ) -> None:
        """:raises SessionNotExists: the user has none with this id."""
        user_id, facts = user.id, await self._facts(request)
        if not await self._delete_sessions({"id": session_id, "user_id": user_id}):
            raise SessionNotExists
        await self._restore(user)
        await self._seam_event(SessionEnded(user_id=user_id, request=facts, session_id=session_id, by=by))

    async def end_session_of(self, refresh_token: str, *, request: Request | None = None) -> None:
        """Log out with a refresh token, however old: whoever has one may end its session, and nothing else."""
        token = unseal(refresh_token, self._session_keys())
        session = None if token is None else await self._live_session(token.session_id)
        if session is None:
            return
        session_id, user_id, facts = session.id, self.parse_id(session.user_id), await self._facts(request)
        if await self._delete_sessions({"id": session_id}):
            await self._seam_event(SessionEnded(user_id=user_id, request=facts, session_id=session_id, by="logout"))

    def has_issued(self, refresh_token: str) -> bool:
        """Whether it is one of ours, be it dead by now: who comes with such a token guesses nothing."""
        return unseal(refresh_token, self._session_keys()) is not None

    async def end_all_sessions(self, user: UP, *, except_ids: list[UUID] | None = None) -> int:
        """All but these, and tell how many those were."""
        exempt = {"id": none_of(except_ids)} if except_ids else {}
        ended = await self._delete_sessions({"user_id": user.id, **exempt})
        for session_id in except_ids or []:
            await self._keep_session(user, session_id)
        await self._restore(user)
        return ended

    async def cleanup_sessions(self) -> int:
        """Delete those that have ended, and tell how many those were: ``fastapi-users cleanup`` does it."""
        return await self._delete_sessions({"expires_at": at_most(_now())})

    async def on_after_refresh_token_theft(self, user: UP, request: Request | None = None) -> None:
        """A stolen refresh token was used, or its owner came after the thief: the session has ended. Tell the user."""

    async def _seam_before_session(self, attempt: LoginAttempt[UP, ID]) -> None:
        await super()._seam_before_session(attempt)
        login_attempt.set(attempt)
        issued_tokens.set(None)

    async def _seam_after_login(self, attempt: LoginAttempt[UP, ID], response: Response) -> None:
        await super()._seam_after_login(attempt, response)
        issued = issued_tokens.get()
        if issued is not None:
            path = refresh_path(self.sessions_refresh_path, attempt.request, attempt.backend)
            add_refresh_token(response, issued, attempt.backend, path=path)
        login_attempt.set(None)
        issued_tokens.set(None)

    async def _seam_credentials_changed(self, user: UP, changed: set[str], request: Request | None) -> None:
        await super()._seam_credentials_changed(user, changed, request)
        # A route ends them through the strategy, which spares the session that made the change. A new factor ends none.
        is_concerned = not changed.isdisjoint(("password", "email", "is_active"))
        if is_concerned and self.sessions_end_with_credentials and not is_ending_sessions():
            await self._session_rows().delete_where({"user_id": user.id})

    async def _seam_before_delete(self, user: UP, request: Request | None) -> None:
        await super()._seam_before_delete(user, request)
        await self._session_rows().delete_where({"user_id": user.id})

    async def _cleanup_sessions(self) -> int:
        return await self.cleanup_sessions()

    async def _keep_session(self, user: UP, session_id: UUID) -> None:
        """It belongs to the credentials that its user has now."""
        where, digest = {"id": session_id, "user_id": user.id}, self._session_credentials(user)[0]
        await self._update_sessions(where, {"credentials_digest": digest})
        await self._restore(user)

    def _is_of_these_credentials(self, session: SessionProtocol[ID], user: UP) -> bool:
        known = session.credentials_digest
        current = [hmac.compare_digest(known, digest) for digest in self._session_credentials(user)]
        return any(current) or not self.sessions_end_with_credentials

    def _session_credentials(self, user: UP) -> list[str]:
        """Digests by each key, the newest first."""
        return [credentials_digest(user.hashed_password, user.email, key) for key in self._session_keys()]

    async def _rotate(
        self,
        session: SessionProtocol[ID],
        user: UP,
        token: RefreshToken,
        child: RefreshToken,
        now: datetime,
        request: Request | None,
    ) -> bool:
        """One step of the database, so that of twenty who come at once one rotates; and none a token that is young."""
        old_enough = at_most(now - timedelta(seconds=self.sessions_grace_seconds))
        idle_seconds, _ = self._session_lifetimes(is_remembered=session.is_remembered)
        known, digests = session.credentials_digest, self._session_credentials(user)
        # Under another key, which may be forgotten soon. Otherwise it stays: a change may just have written another one.
        renewed = {"credentials_digest": digests[0]} if known in digests[1:] else {}
        rotated = await self._update_sessions(
            {
                "id": token.session_id,
                "digest": token.digest,
                "expires_at": greater_than(now),
                **({"rotated_at": old_enough} if token.generation > 0 else {}),
            },
            {
                "digest": child.digest,
                "previous_digest": token.digest,
                "generation": child.generation,
                "rotated_at": now,
                "last_seen_at": now,
                **renewed,
                "expires_at": idle_end(now, idle_seconds=idle_seconds, ends_at=session.ends_at),
                **await self._session_origin(request),
            },
        )
        return rotated > 0

    def _judge(self, session: SessionProtocol[ID], token: RefreshToken, now: datetime) -> Verdict:
        return judge(
            token,
            current=session.digest,
            previous=session.previous_digest,
            rotated_at=session.rotated_at,
            now=now,
            grace_seconds=self.sessions_grace_seconds,
        )

    def _given_before(self, session: SessionProtocol[ID], token: RefreshToken, verdict: Verdict) -> RefreshToken | None:
        """The current token: it came itself, or its parent did. ``None`` where the key that made it is forgotten."""
        if verdict is not Verdict.REPEATED:
            return token
        return repeated_child(token, current=session.digest, keys=self._session_keys())

    async def _end_stolen_session(self, user: UP, session_id: UUID, request: Request | None) -> None:
        user_id, facts = user.id, await self._facts(request)
        if not await self._end_at_once(session_id):
            return  # by another one who came with it at the same moment
        # Not in one transaction: a subscriber that fails must not give the session back.
        await self._seam_event(RefreshTokenTheft(user_id=user_id, request=facts, session_id=session_id))
        await self._restore(user)
        await self.on_after_refresh_token_theft(user, request)

    async def _end_sessions_beyond_limit(self, user_id: ID) -> None:
        """In an order of all, so that two logins at once end the same ones and not each other."""
        if self.sessions_limit is None:
            return
        where = {"user_id": user_id, "expires_at": greater_than(_now())}
        ages = [(session.created_at, session.id) for session in await self._session_rows().list(where)]
        for _, session_id in sorted(ages, reverse=True)[max(1, self.sessions_limit) :]:
            if await self._end_at_once(session_id):
                await self._seam_event(SessionEnded(user_id=user_id, session_id=session_id, by="limit"))

    async def _end_at_once(self, session_id: UUID) -> bool:
        """Whether it was this one that ended it, of several who may come. The row goes with ``cleanup_sessions``."""
        now = _now()
        where = {"id": session_id, "expires_at": greater_than(now)}
        return await self._update_sessions(where, {"expires_at": now}) > 0

    async def _update_sessions(self, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        return await self._insist(lambda: self._session_rows().update_where(where, values))

    async def _delete_sessions(self, where: Mapping[str, Any]) -> int:
        return await self._insist(lambda: self._session_rows().delete_where(where))

    async def _insist(self, change: Callable[[], Awaitable[int]]) -> int:
        """Of many who change or delete the same rows at once, MariaDB lets some run into a deadlock: those try again.
        Not where something of the application would be lost by that: it has to know.
        """
        users: Any = self.user_db
        for _ in range(_ATTEMPTS - 1 if self._may_commit() else 0):
            try:
                return await change()
            except Exception as error:  # noqa: PERF203 -- of an attempt, and there are few
                if not is_adapter(users) or not users.is_worth_another_try(error):
                    raise
                await self._recover(error)
        return await change()

    def _may_commit(self) -> bool:
        return not isinstance(self.sessions_model, type) or self.user_db.may_commit()

    async def _wants_to_be_remembered(
        self, attempt: LoginAttempt[UP, ID] | None, replaced: SessionProtocol[ID] | None
    ) -> bool:
        request = None if attempt is None else attempt.request
        wish = None if request is None else (await _submitted(request)).get("remember_me")
        try:
            return _AS_BOOL.validate_python(wish)
        except ValidationError:  # there is no wish, or none that can be understood
            is_going_on = attempt is not None and attempt.is_reauthentication and replaced is not None
            return replaced.is_remembered if is_going_on and replaced else self.sessions_remember_by_default

    def _session_lifetimes(self, *, is_remembered: bool) -> tuple[int, int]:
        if is_remembered:
            return self.sessions_idle_seconds, self.sessions_absolute_seconds
        return self.sessions_brief_idle_seconds, self.sessions_brief_absolute_seconds

    async def _session_origin(self, request: Request | None) -> dict[str, str | None]:
        facts = await self._facts(request) if self.sessions_keep_origin else None
        if facts is None:
            return {"address": None, "agent": None}
        # Without the zone of an IPv6 address (RFC 4007), which is as long as its sender likes.
        address = None if facts.address is None else facts.address.partition("%")[0]
        return {"address": address, "agent": facts.agent}

    async def _live_session(self, session_id: UUID) -> SessionProtocol[ID] | None:
        return await self._session_rows().get({"id": session_id, "expires_at": greater_than(_now())})

    async def _session_with_user(self, session_id: UUID) -> tuple[SessionProtocol[ID], UP] | None:
        """In one statement, where the database can: each protected request asks for it."""
        model = self.sessions_model
        where = {"id": session_id, "expires_at": greater_than(_now())}
        is_table = isinstance(model, type)
        session: Any = await (self.user_db.get_with_user(model, where) if is_table else model.get(where))
        try:
            return None if session is None else (session, await self.get(self.parse_id(session.user_id)))
        except UserNotExists:
            return None

    def _session_rows(self) -> Store[SessionProtocol[ID]]:
        model = self.sessions_model
        rows: Store[SessionProtocol[ID]] = self.user_db.store(model) if isinstance(model, type) else model
        return rows

    def _session_keys(self) -> list[str]:
        secret: SecretsType | None = self.sessions_secret
        return self._derived_keys("sessions") if secret is None else get_secret_values(secret)


_AS_BOOL = TypeAdapter(bool)


async def _submitted(request: Request) -> Mapping[str, Any]:
    """The fields of the form or of the JSON object, which FastAPI has read already."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        return await request.form()
    try:
        body = await request.json() if await request.body() else None
    except (ValueError, RecursionError):  # of a route that does not look at its body
        body = None
    return body if isinstance(body, dict) else {}


def _now() -> datetime:
    return datetime.now(timezone.utc)
