"""A feature as they are built, for tests only: a PIN as second factor, which uses every seam there is."""

import uuid
from enum import Enum
from typing import Any, ClassVar

from fastapi import APIRouter, Body, Depends, HTTPException, Request, Response, status
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fastapi_users import BaseUserManager, FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.authentication.login import (
    CredentialCheck,
    LoginAttempt,
    LoginInterrupted,
    document_challenges,
    login_openapi_extra,
    read_ticket,
    report_failure,
    resume_login,
)
from fastapi_users.events import Event
from fastapi_users.exceptions import BadCredentials, InvalidLoginTicket, TooManyTries
from fastapi_users.models import ID, UP
from fastapi_users.router.common import Refusals, SafeRoute
from tests.world import Base, OneTimeSecret, User, UserManager, World

PIN_METHOD = "pin"


class ToyPIN(Base):
    __tablename__ = "toy_pin"

    user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    pin: Mapped[str] = mapped_column(String(10))


class ToyMixin(BaseUserManager[UP, ID]):
    """Writes down which seams were called, in ``toy_log``."""

    _required_settings: ClassVar[tuple[str, ...]] = ("toy_model", "one_time_secret_model")

    toy_model: type[Any]
    toy_log: list[tuple[Any, ...]]

    async def set_toy_pin(self, user: UP, pin: str, request: Request | None = None) -> None:
        async with self.user_db.transaction():
            await self.user_db.store(self.toy_model).create({"user_id": user.id, "pin": pin})
            await self._seam_credentials_changed(user, {PIN_METHOD}, request)

    async def toy_pin(self, user: UP) -> str | None:
        row = await self.user_db.store(self.toy_model).get({"user_id": user.id})
        return None if row is None else row.pin

    async def _seam_before_credentials(self, check: CredentialCheck) -> None:
        await super()._seam_before_credentials(check)
        self.toy_log.append(("before credentials", check.method, check.identifier))
        if check.identifier == "blocked@example.org":
            raise HTTPException(status.HTTP_429_TOO_MANY_REQUESTS, "TOY_BLOCKED")

    async def _seam_credentials_failed(self, check: CredentialCheck, user: UP | None) -> None:
        await super()._seam_credentials_failed(check, user)
        self.toy_log.append(("credentials failed", check.method, None if user is None else user.email))

    async def _seam_before_session(self, attempt: LoginAttempt[UP, ID]) -> None:
        await super()._seam_before_session(attempt)
        self.toy_log.append(("before session", attempt.methods))
        if PIN_METHOD not in attempt.methods and await self.toy_pin(attempt.user) is not None:
            raise LoginInterrupted([PIN_METHOD])

    async def _seam_after_login(self, attempt: LoginAttempt[UP, ID], response: Response) -> None:
        await super()._seam_after_login(attempt, response)
        self.toy_log.append(("after login", attempt.methods))

    async def _seam_factors(self, user: UP) -> list[str]:
        factors = await super()._seam_factors(user)
        return [*factors, PIN_METHOD] if await self.toy_pin(user) is not None else factors

    async def _seam_credentials_changed(self, user: UP, changed: set[str], request: Request | None) -> None:
        await super()._seam_credentials_changed(user, changed, request)
        self.toy_log.append(("credentials changed", *sorted(changed)))

    async def _seam_before_delete(self, user: UP, request: Request | None) -> None:
        await super()._seam_before_delete(user, request)
        await self.user_db.store(self.toy_model).delete_where({"user_id": user.id})
        self.toy_log.append(("before delete", user.email))

    async def _seam_event(self, event: Event) -> None:
        await super()._seam_event(event)
        self.toy_log.append(("event", event.name))


class ToyManager(ToyMixin[User, uuid.UUID], UserManager):
    """The manager of the World, with the feature."""

    toy_model = ToyPIN
    one_time_secret_model = OneTimeSecret

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.toy_log = []


class SecondToyMixin(BaseUserManager[UP, ID]):
    """Another feature on the same seams, so that their order can be changed."""

    async def _seam_before_session(self, attempt: LoginAttempt[UP, ID]) -> None:
        await super()._seam_before_session(attempt)
        if attempt.user.email == "banned@example.org":
            raise HTTPException(status.HTTP_403_FORBIDDEN, "TOY_BANNED")


class ToyErrorCode(str, Enum):
    TOY_BAD_PIN = "TOY_BAD_PIN"
    TOY_BAD_TICKET = "TOY_BAD_TICKET"
    TOY_TOO_MANY_TRIES = "TOY_TOO_MANY_TRIES"


TOY = Refusals(
    {
        BadCredentials: (ToyErrorCode.TOY_BAD_PIN, "Not the PIN of this user."),
        InvalidLoginTicket: (ToyErrorCode.TOY_BAD_TICKET, "Start again."),
        TooManyTries: (ToyErrorCode.TOY_TOO_MANY_TRIES, "Start again, later."),
    }
)


def get_toy_router(fastapi_users: FastAPIUsers[Any, Any], backend: AuthenticationBackend[Any, Any]) -> APIRouter:
    """Go on with a login that waits for the PIN."""
    router = APIRouter(route_class=SafeRoute)
    document_challenges(fastapi_users.authenticator.backends)

    responses = {**TOY.responses, **backend.transport.get_openapi_login_responses_success()}

    @router.post(
        "/toy", name=f"toy:{backend.name}.login", responses=responses, openapi_extra=login_openapi_extra(backend)
    )
    async def log_in_with_pin(
        request: Request,
        ticket: str = Body(...),
        pin: str = Body(...),
        user_manager: Any = Depends(fastapi_users.get_user_manager),
        strategy: Strategy[Any, Any] = Depends(backend.get_strategy),
    ) -> Response:
        with TOY:
            opened = await read_ticket(backend, ticket, user_manager=user_manager, request=request)
            check = CredentialCheck(method=PIN_METHOD, identifier=opened.user.email, request=request)
            await user_manager._seam_before_credentials(check)
            if pin != await user_manager.toy_pin(opened.user):
                await report_failure(user_manager, check, user=opened.user)
                raise BadCredentials
            return await resume_login(
                backend, strategy, ticket=opened, method=PIN_METHOD, user_manager=user_manager, request=request
            )

    return router
