import uuid

from fastapi import Request

from examples.demo.database import User
from examples.demo.settings import Settings
from fastapi_users import BaseUserManager, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.db import BaseUserDatabase
from fastapi_users.events import Subscribers
from fastapi_users.mail import Mailer


class UserRead(schemas.BaseUser[uuid.UUID]): ...


class UserCreate(schemas.BaseUserCreate): ...


class UserUpdate(schemas.BaseUserUpdate): ...


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What the library does not decide for you: which passwords are good, and when an address has to be confirmed."""

    notify_new_login = True
    mask_passwords_in_hooks = True

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

    async def validate_password(self, password: str, user: schemas.BaseUserCreate | User) -> None:
        if len(password) < 8:  # noqa: PLR2004 -- the rule is the number
            raise InvalidPasswordException("The password needs at least 8 characters.")
        local_part = user.email.rpartition("@")[0]
        if len(local_part) > 2 and local_part.lower() in password.lower():  # noqa: PLR2004 -- "al" is in many a word
            raise InvalidPasswordException("The password must not contain your e-mail address.")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        if not user.is_verified:  # who came through a provider may be
            await self.request_verify(user, request)

    async def on_after_email_changed(self, user: User, old_email: str, request: Request | None = None) -> None:
        await super().on_after_email_changed(user, old_email, request)  # it warns the old address
        if user.is_active and not user.is_verified:  # a superuser may have said otherwise
            await self.request_verify(user, request)
