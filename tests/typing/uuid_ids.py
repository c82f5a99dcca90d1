"""An application with UUIDs as ids and every router, as the documentation writes it. Only type-checked, never run."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Literal

import redis.asyncio
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from httpx_oauth.clients.google import GoogleOAuth2
from httpx_oauth.oauth2 import OAuth2
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from typing_extensions import assert_type

from fastapi_users import BaseUserManager, FastAPIUsers, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.authentication import (
    AuthenticationBackend,
    Authenticator,
    BearerTransport,
    CookieTransport,
    JWTStrategy,
    RedisStrategy,
    Strategy,
)
from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES
from fastapi_users.authentication.login import CredentialCheck, LoginAttempt, LoginInterrupted
from fastapi_users.authentication.strategy import DatabaseStrategy, Denylist, InMemoryDenylist
from fastapi_users.authentication.strategy.db import AccessTokenDatabase
from fastapi_users.db import (
    BaseUserDatabase,
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import SQLAlchemyBaseOneTimeSecretTable
from fastapi_users.events import EmailChanged, Event, LoggedIn, LoginFailed, PasswordChanged, RequestFacts, Subscribers
from fastapi_users.mail import ConsoleMailer, MailTemplates, SMTPMailer
from fastapi_users.models import OAuthAccountProtocol, OneTimeSecretProtocol, UserProtocol
from fastapi_users.password import PasswordHelper, PasswordHelperProtocol
from fastapi_users.router import get_oauth_router
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID

SECRET = "SECRET"


class Base(DeclarativeBase):
    pass


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    nickname: Mapped[str | None] = mapped_column(default=None)
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship("OAuthAccount", lazy="joined")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


class OneTimeSecret(SQLAlchemyBaseOneTimeSecretTable, Base):
    pass


class UserRead(schemas.BaseUser[uuid.UUID], schemas.BaseOAuthAccountMixin):
    nickname: str | None = None


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = None


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = None


subscribers = Subscribers()


class SecondFactor(BaseUserManager[User, uuid.UUID]):
    """A feature that an application writes for its own user class."""

    second_factor: str

    async def _seam_before_credentials(self, check: CredentialCheck) -> None:
        await super()._seam_before_credentials(check)
        assert_type(check.identifier, str | None)

    async def _seam_credentials_failed(self, check: CredentialCheck, user: User | None) -> None:
        await super()._seam_credentials_failed(check, user)

    async def _seam_before_session(self, attempt: LoginAttempt[User, uuid.UUID]) -> None:
        await super()._seam_before_session(attempt)
        assert_type(attempt.user, User)
        assert_type(attempt.methods, tuple[str, ...])
        assert_type(attempt.backend, AuthenticationBackend[User, uuid.UUID])
        if self.second_factor not in attempt.methods:
            raise LoginInterrupted([self.second_factor])

    async def _seam_after_login(self, attempt: LoginAttempt[User, uuid.UUID], response: Response) -> None:
        await super()._seam_after_login(attempt, response)

    async def _seam_factors(self, user: User) -> list[str]:
        return [*await super()._seam_factors(user), self.second_factor]

    async def _seam_credentials_changed(self, user: User, changed: set[str], request: Request | None) -> None:
        await super()._seam_credentials_changed(user, changed, request)

    async def _seam_before_delete(self, user: User, request: Request | None) -> None:
        await super()._seam_before_delete(user, request)

    async def _seam_event(self, event: Event) -> None:
        await super()._seam_event(event)


class UserManager(SecondFactor, UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SecretStr(SECRET)
    reset_password_token_lifetime_seconds = 600
    login_ticket_secret = (SecretStr(SECRET), SECRET)
    second_factor = "otp"

    subscribers = subscribers
    trusted_proxies = ("10.0.0.0/8", "fd00::/8")

    mailer = SMTPMailer("smtp.example.org", sender="Example <noreply@example.org>", password=SecretStr(SECRET))
    mail_templates = MailTemplates("mails", site_name="Example", verify_url="https://example.org/verify", phone="555")
    notify_new_login = True

    one_time_secret_model = OneTimeSecret

    async def validate_password(self, password: str, user: UserCreate | User) -> None:
        if password in user.email:
            raise InvalidPasswordException(reason="Password should not contain e-mail")

    async def create(self, user_create: schemas.UC, safe: bool = False, request: Request | None = None) -> User:
        user = await super().create(user_create, safe, request)
        assert_type(user, User)
        return user

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        assert_type(user.id, uuid.UUID)
        await self.request_verify(user, request)

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:
        assert_type(user.nickname, str | None)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        assert_type(user.email, str)

    async def on_after_verify(self, user: User, request: Request | None = None) -> None:
        assert_type(user.is_verified, bool)

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None: ...

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None: ...

    async def on_after_password_changed(self, user: User, request: Request | None = None) -> None:
        await super().on_after_password_changed(user, request)

    async def on_after_duplicate_registration(self, user: User, request: Request | None = None) -> None:
        await super().on_after_duplicate_registration(user, request)

    async def on_after_failed_login(self, email: str, user: User | None, request: Request | None = None) -> None:
        await super().on_after_failed_login(email, user, request)

    async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
        await super().on_background_error(error, request)

    async def on_after_email_changed(self, user: User, old_email: str, request: Request | None = None) -> None:
        await super().on_after_email_changed(user, old_email, request)

    async def get_locales(self, user: User, request: Request | None = None) -> list[str]:
        return ["de"] if user.nickname else await super().get_locales(user, request)

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        await super().on_after_login(user, request, response)

    async def on_before_delete(self, user: User, request: Request | None = None) -> None: ...

    async def on_after_delete(self, user: User, request: Request | None = None) -> None: ...


class UserManagerOfAnInstance(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Settings that are known at run time only."""

    def __init__(self, user_db: BaseUserDatabase[User, uuid.UUID], *, is_production: bool) -> None:
        super().__init__(user_db)
        self.mailer = SMTPMailer("localhost", sender="noreply@example.org") if is_production else ConsoleMailer()
        self.mail_templates = MailTemplates()
        self.subscribers = subscribers
        self.trusted_proxies = ["10.0.0.0/8"]
        self.one_time_secret_model = OneTimeSecret


@subscribers.in_transaction(EmailChanged)
async def keep_the_old_address(event: EmailChanged, user_manager: UserManager) -> None:
    assert_type(event.old_email, str)
    assert_type(user_manager.user_db, BaseUserDatabase[User, uuid.UUID])


@subscribers.after_commit(LoggedIn, LoginFailed)
async def count(event: LoggedIn | LoginFailed, user_manager: UserManager) -> None:
    assert_type(event.request, RequestFacts | None)


@subscribers.after_commit()
async def log(event: Event, user_manager: UserManager) -> None:
    assert_type(event.name, str)
    assert_type(event.data, dict[str, Any])


async def subscribers_called_by_hand(manager: UserManager, changed: EmailChanged, other: PasswordChanged) -> None:
    assert_type(await keep_the_old_address(changed, user_manager=manager), None)
    await keep_the_old_address(other, manager)  # type: ignore[arg-type]  # the decorator leaves the function its type
    await log(other, manager)


engine = create_async_engine("sqlite+aiosqlite://")
session_maker = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncGenerator[AsyncSession, None]:
    async with session_maker() as session:
        yield session


async def get_user_db(
    session: AsyncSession = Depends(get_session),
) -> AsyncGenerator[SQLAlchemyUserDatabase[User, uuid.UUID], None]:
    yield SQLAlchemyUserDatabase(session, User, OAuthAccount)


async def get_user_manager(
    user_db: SQLAlchemyUserDatabase[User, uuid.UUID] = Depends(get_user_db),
) -> AsyncGenerator[UserManager, None]:
    yield UserManager(user_db)


# Backends: every strategy, its dependency in every form that FastAPI takes.

bearer_transport = BearerTransport(tokenUrl="auth/jwt/login")
cookie_transport = CookieTransport(cookie_max_age=3600, cookie_samesite="strict")


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


async def get_redis_strategy() -> RedisStrategy[User, uuid.UUID]:
    return RedisStrategy(redis.asyncio.Redis(), lifetime_seconds=3600)


async def get_access_token_db(
    session: AsyncSession = Depends(get_session),
) -> AsyncIterator[SQLAlchemyAccessTokenDatabase[AccessToken]]:
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


async def get_database_strategy(
    access_token_db: AccessTokenDatabase[AccessToken] = Depends(get_access_token_db),
) -> AsyncIterator[DatabaseStrategy[User, uuid.UUID, AccessToken]]:
    yield DatabaseStrategy(access_token_db, lifetime_seconds=3600)


jwt_backend = AuthenticationBackend(name="jwt", transport=bearer_transport, get_strategy=get_jwt_strategy)
rotated_strategy = JWTStrategy[User, uuid.UUID](
    [SECRET, SecretStr(SECRET)], 3600, revoke=InMemoryDenylist(), strict=True
)
assert_type(rotated_strategy.revoke, Denylist | None)
lambda_backend = AuthenticationBackend[User, uuid.UUID](
    name="lambda", transport=bearer_transport, get_strategy=lambda: JWTStrategy(SecretStr(SECRET), None)
)
redis_backend = AuthenticationBackend(name="redis", transport=cookie_transport, get_strategy=get_redis_strategy)
database_backend = AuthenticationBackend(name="db", transport=cookie_transport, get_strategy=get_database_strategy)
assert_type(jwt_backend, AuthenticationBackend[User, uuid.UUID])
assert_type(database_backend, AuthenticationBackend[User, uuid.UUID])

fastapi_users = FastAPIUsers[User, uuid.UUID](
    get_user_manager, [jwt_backend, lambda_backend, redis_backend, database_backend]
)
assert_type(fastapi_users.authenticator, Authenticator[User, uuid.UUID])


# Routers

google = GoogleOAuth2("ID", "SECRET")
other_provider = OAuth2("ID", "SECRET", "https://example.org/authorize", "https://example.org/token")

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(jwt_backend), prefix="/auth/jwt", tags=["auth"])
app.include_router(fastapi_users.get_auth_router(database_backend, requires_verification=True), prefix="/auth/db")
app.include_router(fastapi_users.get_reauthenticate_router(jwt_backend), prefix="/auth/jwt")
app.include_router(fastapi_users.get_reauthenticate_router(backend=database_backend), prefix="/auth/db")
app.include_router(fastapi_users.get_register_router(UserRead, UserCreate), prefix="/auth")
app.include_router(fastapi_users.get_reset_password_router(), prefix="/auth")
app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth")
app.include_router(fastapi_users.get_users_router(UserRead, UserUpdate, requires_verification=True), prefix="/users")
app.include_router(
    fastapi_users.get_oauth_router(
        google, jwt_backend, SECRET, associate_by_email=True, csrf_token_cookie_samesite="none"
    ),
    prefix="/auth/google",
)
app.include_router(
    fastapi_users.get_oauth_associate_router(google, UserRead, SecretStr(SECRET), "https://example.org/callback"),
    prefix="/auth/associate/google",
)
app.include_router(
    get_oauth_router(other_provider, redis_backend, get_user_manager, SECRET), prefix="/auth/other-provider"
)


# Dependencies


def get_enabled_backends(request: Request) -> Sequence[AuthenticationBackend[User, uuid.UUID]]:
    return [jwt_backend] if request.url.path == "/protected" else [database_backend]


current_user = fastapi_users.current_user(active=True, get_enabled_backends=get_enabled_backends)
current_superuser = fastapi_users.current_user(active=True, verified=True, superuser=True)
maybe_current_user = fastapi_users.current_user(optional=True)
fresh_user = fastapi_users.current_user(active=True, fresh=600)
maybe_fresh_user = fastapi_users.current_user(optional=True, fresh=0.5)
current_user_token = fastapi_users.authenticator.current_user_token(active=True)
maybe_current_user_token = fastapi_users.authenticator.current_user_token(optional=True)
fresh_user_token = fastapi_users.authenticator.current_user_token(fresh=600)
websocket_user = fastapi_users.authenticator.current_websocket_user(
    active=True, get_enabled_backends=get_enabled_backends, allowed_origins=["https://example.org"]
)
maybe_websocket_user = fastapi_users.authenticator.current_websocket_user(optional=True)
get_token_reader = fastapi_users.authenticator.token_reader(active=True, get_enabled_backends=get_enabled_backends)

TokenReader = Callable[[str], Coroutine[Any, Any, User | None]]


@app.get("/protected")
async def protected(user: User = Depends(current_user)) -> str:
    return user.email


@app.get("/greeting")
async def greeting(user: User | None = Depends(maybe_current_user)) -> str:
    return "Hello, stranger" if user is None else f"Hello, {user.nickname or user.email}"


@app.get("/token")
async def token(user_token: tuple[User, str] = Depends(current_user_token)) -> str:
    return user_token[1]


@app.delete("/account", responses=REAUTHENTICATION_RESPONSES)
async def dangerous(user: User = Depends(fresh_user)) -> str:
    return user.email


@app.websocket("/messages")
async def messages(websocket: WebSocket, user: User = Depends(websocket_user)) -> None:
    await websocket.send_text(user.email)


@app.websocket("/first-message")
async def first_message(websocket: WebSocket, read_token: TokenReader = Depends(get_token_reader)) -> None:
    await websocket.accept()
    user = await read_token(await websocket.receive_text())
    assert_type(user, User | None)


async def dependencies_called_by_hand(*, flag: bool, literal: Literal[True]) -> None:
    assert_type(await current_user(), User)
    assert_type(await current_superuser(), User)
    assert_type(await maybe_current_user(), User | None)
    assert_type(await fastapi_users.current_user(optional=literal)(), User | None)
    assert_type(await fastapi_users.current_user(optional=flag)(), User | None)
    assert_type(await fastapi_users.current_user(False)(), User)
    assert_type(await current_user_token(), tuple[User, str])
    assert_type(await maybe_current_user_token(), tuple[User | None, str | None])
    assert_type(await fresh_user(), User)
    assert_type(await maybe_fresh_user(), User | None)
    assert_type(await fresh_user_token(), tuple[User, str])
    assert_type(await get_token_reader(), TokenReader)


async def use_cases_called_by_hand(session: AsyncSession, some_id: uuid.UUID) -> None:
    user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    manager = UserManager(user_db)

    assert_type(manager.parse_id("a6a6b6b6"), uuid.UUID)
    user = await manager.get(manager.parse_id("a6a6b6b6"))
    assert_type(user, User)
    assert_type(await manager.get_by_email("ann@example.org"), User)
    assert_type(await manager.get_by_oauth_account("google", "1"), User)
    assert_type(await manager.create(UserCreate(email="ann@example.org", password="secret"), safe=True), User)
    assert_type(await manager.update(UserUpdate(nickname="Ann"), user), User)
    assert_type(await manager.verify("TOKEN"), User)
    assert_type(await manager.reset_password("TOKEN", "secret"), User)
    assert_type(
        await manager.oauth_callback("google", "TOKEN", "1", "ann@example.org", is_verified_by_default=True), User
    )
    await manager.delete(user)

    assert_type(manager.user_db, BaseUserDatabase[User, uuid.UUID])
    assert_type(await user_db.get(some_id), User | None)
    assert_type(await user_db.create({"email": "ann@example.org"}), User)
    assert_type(manager.password_helper, PasswordHelperProtocol)
    assert_type(UserManager(user_db, PasswordHelper()).password_helper.hash("secret"), str)

    assert_type(user.oauth_accounts, list[OAuthAccount])
    assert_type(user.oauth_accounts[0].expires_at, int | None)
    assert_type(UserRead.model_validate(user).id, uuid.UUID)


async def strategies_called_by_hand(
    strategy: Strategy[User, uuid.UUID],
    access_tokens: SQLAlchemyAccessTokenDatabase[AccessToken],
    user: User,
    manager: UserManager,
) -> None:
    assert_type(await strategy.read_token("TOKEN", manager), User | None)
    assert_type(await strategy.write_token(user), str)
    assert_type(await access_tokens.get_by_token("TOKEN"), AccessToken | None)
    assert_type(await jwt_backend.login(strategy, user), Response)


def a_table_is_what_the_library_asks_for(user: User, account: OAuthAccount, one_time_secret: OneTimeSecret) -> None:
    a_user: UserProtocol[uuid.UUID] = user
    an_account: OAuthAccountProtocol[uuid.UUID] = account
    a_secret: OneTimeSecretProtocol = one_time_secret
    assert_type(a_secret.subject, str)
    assert_type(a_user.id, uuid.UUID)
    assert_type(an_account.account_id, str)
