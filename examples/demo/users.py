import uuid
from typing import Any

from fastapi import Request

from examples.demo.database import User
from examples.demo.outbox import Mail, Outbox
from examples.demo.settings import Settings
from fastapi_users import BaseUserManager, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.db import BaseUserDatabase


class UserRead(schemas.BaseUser[uuid.UUID]): ...


class UserCreate(schemas.BaseUserCreate): ...


class UserUpdate(schemas.BaseUserUpdate): ...


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What the library does not decide for you: which passwords are good, and what is mailed when."""

    def __init__(self, user_db: BaseUserDatabase[User, uuid.UUID], settings: Settings, outbox: Outbox) -> None:
        super().__init__(user_db)
        self.reset_password_token_secret = settings.secrets.reset_password_token
        self.verification_token_secret = settings.secrets.verification_token
        # Not from the request: its Host header says what the sender likes, and the link would carry the token there.
        self.base_url = settings.base_url
        self.outbox = outbox

    async def validate_password(self, password: str, user: schemas.BaseUserCreate | User) -> None:
        if len(password) < 8:  # noqa: PLR2004 -- the rule is the number
            raise InvalidPasswordException("The password needs at least 8 characters.")
        local_part = user.email.rpartition("@")[0]
        if len(local_part) > 2 and local_part.lower() in password.lower():  # noqa: PLR2004 -- "al" is in many a word
            raise InvalidPasswordException("The password must not contain your e-mail address.")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        await self.request_verify(user, request)

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:
        if "email" in update_dict and user.is_active and not user.is_verified:
            await self.request_verify(user, request)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        self.outbox.send(
            Mail(
                to=user.email,
                subject="Is this your e-mail address?",
                text="Open this page within an hour to confirm it:",
                link=f"{self.base_url}/verify?token={token}",
                token=token,
            )
        )

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        self.outbox.send(
            Mail(
                to=user.email,
                subject="A new password",
                text="Open this page within an hour to choose one. If you did not ask for it, do nothing:",
                link=f"{self.base_url}/reset-password?token={token}",
                token=token,
            )
        )
