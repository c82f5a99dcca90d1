import uuid

from fastapi import Request

from examples.demo.database import User
from examples.demo.settings import Settings
from fastapi_users import BaseUserManager, UUIDIDMixin, schemas
from fastapi_users.db import BaseUserDatabase
from fastapi_users.events import Subscribers
from fastapi_users.mail import Mailer
from fastapi_users.password_policy import PasswordPolicy


class UserRead(schemas.BaseUser[uuid.UUID]): ...


class UserCreate(schemas.BaseUserCreate): ...


class UserUpdate(schemas.BaseUserUpdate): ...


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What the library does not decide for you: which passwords are good, and when an address has to be confirmed."""

    notify_new_login = True
    mask_passwords_in_hooks = True
    # With the extra "breached", also those known from a breach: breached=BreachedPasswords(). The demo asks nobody.
    password_policy = PasswordPolicy(words=["fastapi-users demo"])

    def __init__(
        self,
        user_db: BaseUserDatabase[User, uuid.UUID],
        settings: Settings,
        *,
        mailer: Mailer,
        subscribers: Subscribers | None = None,
    ) -> None:
        super().__init__(user_db)
        self.reset_password_token_secret = settings.secrets.reset_password_token
        self.verification_token_secret = settings.secrets.verification_token
        self.mailer = mailer
        self.mail_templates = settings.mail_templates
        self.subscribers = subscribers

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        if not user.is_verified:  # who came through a provider may be
            await self.request_verify(user, request)

    async def on_after_email_changed(self, user: User, old_email: str, request: Request | None = None) -> None:
        await super().on_after_email_changed(user, old_email, request)  # it warns the old address
        if user.is_active and not user.is_verified:  # a superuser may have said otherwise
            await self.request_verify(user, request)
