from beanie import PydanticObjectId
from fastapi import Depends, Request

from fastapi_users import BaseUserManager, FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, CookieTransport
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.db import BeanieUserDatabase, ObjectIDIDMixin
from fastapi_users.db.beanie import BeanieAccessTokenDatabase
from fastapi_users.mail import ConsoleMailer, MailTemplates
from fastapi_users.password_policy import PasswordPolicy

from .db import AccessToken, OneTimeSecret, User, get_access_token_db, get_user_db
from .settings import FRONTEND_URL, SECRET

LIFETIME_SECONDS = 30 * 24 * 60 * 60


class UserManager(ObjectIDIDMixin, BaseUserManager[User, PydanticObjectId]):
    strict = True
    reset_password_token_secret = verification_token_secret = SECRET
    password_policy = PasswordPolicy()
    one_time_secret_model = OneTimeSecret
    email_change_requires_confirmation = True
    mask_passwords_in_hooks = True
    mailer = ConsoleMailer()  # SMTPMailer(…) in production
    mail_templates = MailTemplates(
        site_name="The example",
        verify_url=f"{FRONTEND_URL}/verify",
        reset_password_url=f"{FRONTEND_URL}/reset-password",
    )

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        if not user.is_verified:
            await self.request_verify(user, request)


def get_user_manager(user_db: BeanieUserDatabase[User] = Depends(get_user_db)) -> UserManager:
    return UserManager(user_db)


def get_strategy(
    access_tokens: BeanieAccessTokenDatabase[AccessToken] = Depends(get_access_token_db),
) -> DatabaseStrategy[User, PydanticObjectId, AccessToken]:
    return DatabaseStrategy(access_tokens, LIFETIME_SECONDS, hash_tokens=True, strict=True)


transport = CookieTransport("__Host-session", cookie_max_age=LIFETIME_SECONDS, csrf_protection=True)
backend = AuthenticationBackend[User, PydanticObjectId]("cookie", transport, get_strategy)
fastapi_users = FastAPIUsers[User, PydanticObjectId](get_user_manager, [backend])
current_user = fastapi_users.current_user(active=True, verified=True)
