import logging
import uuid
from typing import Any

from fastapi import Depends, Request

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport
from fastapi_users.breached_passwords import BreachedPasswords
from fastapi_users.cipher import TokenCipher
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.events import Event, Subscribers
from fastapi_users.features.sessions import RefreshTokenStrategy, SessionsMixin
from fastapi_users.features.throttle import Throttled, ThrottleMixin
from fastapi_users.mail import ConsoleMailer, MailTemplates, SMTPMailer
from fastapi_users.password_policy import PasswordPolicy

from . import settings
from .db import AuditEntry, OneTimeSecret, Session, User, get_user_db
from .limits import throttle

NAME = "The example"

logger = logging.getLogger("accounts")
audit_log = Subscribers()


@audit_log.in_transaction()
async def write_audit_entry(event: Event, user_manager: Any) -> None:
    """What happened and the line about it are there together, or not at all."""
    await user_manager.user_db.store(AuditEntry).create(
        {
            "name": event.name,
            "user_id": None if event.user_id is None else str(event.user_id),
            "address": None if event.request is None else event.request.address,
            "time": event.time,
        }
    )


class UserManager(
    SessionsMixin[User, uuid.UUID], ThrottleMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]
):
    strict = True
    reset_password_token_secret = verification_token_secret = settings.MAILED_TOKEN_SECRET
    password_policy = PasswordPolicy(
        words=[NAME], breached=BreachedPasswords() if settings.REFUSE_BREACHED_PASSWORDS else None
    )
    one_time_secret_model = OneTimeSecret
    email_change_requires_confirmation = True
    mask_passwords_in_hooks = True
    notify_new_login = True
    oauth_token_cipher = TokenCipher([settings.PROVIDER_TOKEN_SECRET])
    subscribers = audit_log
    trusted_proxies = settings.TRUSTED_PROXIES

    sessions_model = Session
    throttle = throttle

    mailer = (
        ConsoleMailer()
        if settings.SMTP_HOST is None
        else SMTPMailer(
            settings.SMTP_HOST,
            settings.SMTP_PORT,
            sender=settings.SMTP_SENDER,
            username=settings.SMTP_USERNAME,
            password=settings.SMTP_PASSWORD,
        )
    )
    mail_templates = MailTemplates(
        site_name=NAME,
        verify_url=f"{settings.FRONTEND_URL}/verify",
        reset_password_url=f"{settings.FRONTEND_URL}/reset-password",
    )

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        if not user.is_verified:  # who came through a provider may be
            await self.request_verify(user, request)

    async def on_after_refresh_token_theft(self, user: User, request: Request | None = None) -> None:
        logger.warning("A refresh token of %s was stolen: the session has ended.", user.id)

    async def on_throttled(self, event: Throttled, request: Request | None = None) -> None:
        logger.warning("%s refuses for %s seconds.", event.limit, event.retry_after)


def get_user_manager(user_db: SQLAlchemyUserDatabase[User, uuid.UUID] = Depends(get_user_db)) -> UserManager:
    return UserManager(user_db)


def get_strategy(user_manager: UserManager = Depends(get_user_manager)) -> RefreshTokenStrategy[User, uuid.UUID]:
    return RefreshTokenStrategy(user_manager, settings.ACCESS_TOKEN_SECRET)


browser = AuthenticationBackend[User, uuid.UUID](
    "browser",
    CookieTransport("__Host-session", csrf_protection=True, trusted_origins=[settings.FRONTEND_URL]),
    get_strategy,
)
bearer = AuthenticationBackend[User, uuid.UUID]("bearer", BearerTransport("auth/bearer/login"), get_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [browser, bearer])

FRESH_SECONDS = 10 * 60
current_user = fastapi_users.current_user(active=True, verified=True)
current_fresh_user = fastapi_users.current_user(active=True, fresh=FRESH_SECONDS)
