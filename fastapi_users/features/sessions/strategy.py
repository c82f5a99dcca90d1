from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Generic
from uuid import UUID

from fastapi import Request, Response

from fastapi_users.authentication.backend import AuthenticationBackend
from fastapi_users.authentication.strategy.jwt import JWTStrategy
from fastapi_users.authentication.transport import CookieTransport
from fastapi_users.authentication.transport.base import read_token
from fastapi_users.features.sessions.delivery import (
    IssuedTokens,
    cookie_seconds,
    forget_refresh_token,
    issued_tokens,
    refresh_path,
)
from fastapi_users.features.sessions.errors import SessionNotExists
from fastapi_users.features.sessions.manager import SessionsMixin, StartedSession, login_attempt
from fastapi_users.features.sessions.models import SessionProtocol
from fastapi_users.jwt import SecretsType
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP


class RefreshTokenStrategy(JWTStrategy[UP, ID], Generic[UP, ID]):
    """Access tokens of a few minutes, which name a session that refresh tokens keep alive.

    They are JWTs with the claim ``sid`` (OpenID Connect Front-Channel Logout), for an audience of their own, so that a
    :class:`JWTStrategy` with the same secret does not take them for its own, which would outlive their session.

    :param user_manager: that of the request, with :class:`SessionsMixin`. Its settings say how long sessions last.
    :param lifetime_seconds: of an access token.
    :param stateless: the session is not looked at, so that an access token counts until it expires, whatever becomes of
        its session.
    :raises TypeError: the manager is without the mixin.
    :raises ValueError: the lifetime is not more than 0, or a secret is weak.
    """

    def __init__(
        self,
        user_manager: BaseUserManager[UP, ID],
        secret: SecretsType,
        *,
        lifetime_seconds: int = 900,
        token_audience: Sequence[str] = ("fastapi-users:session",),
        algorithm: str = "HS256",
        public_key: SecretsType | None = None,
        stateless: bool = False,
    ) -> None:
        super().__init__(secret, lifetime_seconds, list(token_audience), algorithm, public_key, strict=True)
        self.user_manager = _with_sessions(user_manager)
        self.access_lifetime_seconds = lifetime_seconds
        self.stateless = stateless

    async def read_token(self, token: str | None, user_manager: BaseUserManager[UP, ID]) -> UP | None:
        claims, key = ({}, None) if token is None else self._verify(token)
        session_id = _session_id(claims)
        if session_id is None:
            return None
        if self.stateless:
            return await super().read_token(token, user_manager)
        found = await _with_sessions(user_manager).find_session(session_id)
        if found is None:
            return None
        _, user = found
        is_whose = str(user.id) == claims.get("sub") and self._fits_credentials(claims, key, user, user_manager)
        return user if is_whose else None

    async def write_token(self, user: UP) -> str:
        started = await self.user_manager.start_session(user, replaced_id=await self._replaced_id(user))
        access_token, issued = await self.issue(user, started)
        issued_tokens.set(issued)
        return access_token

    async def issue(self, user: UP, session: StartedSession) -> tuple[str, IssuedTokens]:
        """An access token for a session, and what goes to the client beside it."""
        row, now = session.session, datetime.now(timezone.utc)
        seconds = self._seconds_left(row, now)
        issued = IssuedTokens(
            refresh_token=session.refresh_token,
            expires_in=seconds,
            cookie_seconds=cookie_seconds(is_remembered=row.is_remembered, expires_at=row.expires_at, now=now),
        )
        return await self._access_token(user, row, seconds), issued

    async def reissue_token(self, token: str, user: UP) -> str | None:
        """Another access token for the same session, whose user has other credentials now."""
        claims, _ = self._verify(token)
        session_id = _session_id(claims)
        found = None if session_id is None else await self.user_manager.find_session(session_id)
        if found is None or claims.get("sub") != str(user.id):
            return None
        row, _ = found
        await self.user_manager._keep_session(user, row.id)  # noqa: SLF001 -- the same feature, and none for applications
        return await self._access_token(user, row, self._seconds_left(row, datetime.now(timezone.utc)))

    async def destroy_token(self, token: str, user: UP) -> None:
        session_id = self.read_session_id(token)
        if session_id is not None:
            with suppress(SessionNotExists):
                await self.user_manager.end_session(user, session_id, by="logout")

    async def forget_client(
        self, response: Response, backend: AuthenticationBackend[UP, ID], *, request: Request
    ) -> None:
        """The route that logs out asks what else the client holds: a browser the cookie with the refresh token."""
        path = refresh_path(self.user_manager.sessions_refresh_path, request, backend)
        forget_refresh_token(response, backend, path=path)

    async def destroy_all_tokens(self, user: UP, *, except_tokens: Sequence[str] = ()) -> int:
        """End every session of a user but those of these tokens, and tell how many those were."""
        session_ids = [self.read_session_id(token) for token in except_tokens]
        return await self.user_manager.end_all_sessions(user, except_ids=[id for id in session_ids if id is not None])

    def read_session_id(self, token: str) -> UUID | None:
        """Of a token of ours that has not expired; whether the session goes on is not asked."""
        claims, _ = self._verify(token)
        return _session_id(claims)

    async def _replaced_id(self, user: UP) -> UUID | None:
        """The session that comes with the login, if that takes its place in the client."""
        attempt = login_attempt.get()
        if attempt is None or attempt.user is not user or attempt.request is None:
            return None
        transport = attempt.backend.transport
        token = await read_token(transport, attempt.request)
        claims, _ = ({}, None) if token is None else self._verify(token)
        # A browser has one cookie; other clients may hold the sessions of several users.
        is_its_place = isinstance(transport, CookieTransport) or claims.get("sub") == str(user.id)
        return _session_id(claims) if is_its_place else None

    async def _access_token(self, user: UP, session: SessionProtocol[Any], seconds: int) -> str:
        claims: dict[str, Any] = {"sub": str(user.id), "aud": self.token_audience, "sid": str(session.id)}
        if session.auth_time is not None:
            claims["auth_time"] = int(session.auth_time.timestamp())
            claims["amr"] = session.amr.split()
        return self._sign({**claims, **await self._claims_of_session(user)}, seconds)

    def _seconds_left(self, session: SessionProtocol[Any], now: datetime) -> int:
        """A second at least: a lifetime of 0 would be none."""
        return max(1, min(self.access_lifetime_seconds, int((session.expires_at - now).total_seconds())))


def _session_id(claims: Mapping[str, Any]) -> UUID | None:
    sid = claims.get("sid")
    try:
        return UUID(sid) if isinstance(sid, str) else None
    except ValueError:  # somebody shares the secret
        return None


def _with_sessions(user_manager: BaseUserManager[UP, ID]) -> SessionsMixin[UP, ID]:
    if not isinstance(user_manager, SessionsMixin):
        raise TypeError(f"{type(user_manager).__name__} has no sessions: list SessionsMixin among its bases.")
    return user_manager
