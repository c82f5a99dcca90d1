"""The application that the tests talk to: every router, a real database, hooks that write down how they are called."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from httpx import ASGITransport, AsyncClient
from httpx_oauth.oauth2 import OAuth2, OAuth2Token
from pydantic import Field
from sqlalchemy import URL, AsyncAdaptedQueuePool, String, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from fastapi_users import BaseUserManager, FastAPIUsers, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users.db.sqlalchemy import (
    SQLAlchemyBaseOneTimeSecretTable,
    SQLAlchemyUniqueEmailMixin,
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyWideOAuthAccountMixin,
    TIMESTAMPAware,
)
from fastapi_users.mail import Message
from fastapi_users.testing import Outbox, weak_password_helper
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID

SECRET = "a secret of the tests, longer than 32 bytes"
PASSWORD = "correct horse battery staple"


class Base(DeclarativeBase):
    pass


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    nickname: Mapped[str | None] = mapped_column(String(100), default=None)
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship("OAuthAccount", lazy="joined")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


class OneTimeSecret(SQLAlchemyBaseOneTimeSecretTable, Base):
    pass


class Note(Base):
    """A row as a feature has them."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    number: Mapped[int]
    moment: Mapped[datetime | None] = mapped_column(TIMESTAMPAware(timezone=True))


class RecommendedBase(DeclarativeBase):
    """The tables as new applications should have them."""


class RecommendedOAuthAccount(
    SQLAlchemyUniqueOAuthAccountMixin,
    SQLAlchemyWideOAuthAccountMixin,
    SQLAlchemyBaseOAuthAccountTableUUID,
    RecommendedBase,
):
    pass


class RecommendedUser(SQLAlchemyUniqueEmailMixin, SQLAlchemyBaseUserTableUUID, RecommendedBase):
    nickname: Mapped[str | None] = mapped_column(String(100), default=None)
    oauth_accounts: Mapped[list[RecommendedOAuthAccount]] = relationship(lazy="joined")


class RecommendedAccessToken(SQLAlchemyBaseAccessTokenTableUUID, RecommendedBase):
    pass


LEGACY: dict[str, Any] = {
    "user_table": User,
    "oauth_account_table": OAuthAccount,
    "access_token_table": AccessToken,
}
RECOMMENDED: dict[str, Any] = {
    "user_table": RecommendedUser,
    "oauth_account_table": RecommendedOAuthAccount,
    "access_token_table": RecommendedAccessToken,
}


class UserRead(schemas.BaseUser[uuid.UUID]):
    nickname: str | None = None


class UserCreate(schemas.BaseUserCreate):
    nickname: str | None = Field(None, max_length=100)


class UserUpdate(schemas.BaseUserUpdate):
    nickname: str | None = Field(None, max_length=100)


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def __init__(self, user_db: SQLAlchemyUserDatabase[User, uuid.UUID], world: "World") -> None:
        super().__init__(user_db, weak_password_helper())
        self.world = world

    def note(self, hook: str, user: User, *details: Any) -> None:
        self.world.hooks.append((hook, user.email, *details))

    async def validate_password(self, password: str, user: schemas.UC | User) -> None:
        if len(password) < 8:
            raise InvalidPasswordException(reason="Too short")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        self.note("registered", user)

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:
        self.note("updated", user, update_dict)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        await self.world.outbox.send(Message(to=user.email, subject="Verify", text=f"Your token: {token}"))

    async def on_after_verify(self, user: User, request: Request | None = None) -> None:
        self.note("verified", user)

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        await self.world.outbox.send(Message(to=user.email, subject="Reset", text=f"Your token: {token}"))

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:
        self.note("reset", user)

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        assert response is not None
        response.headers["x-logged-in"] = user.email
        self.note("logged in", user)

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:
        self.note("about to be deleted", user)

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:
        self.note("deleted", user)


class Provider(OAuth2):
    """An OAuth provider that answers without a network: what leaves the process is all that is mocked."""

    def __init__(self) -> None:
        super().__init__(
            "ID", "SECRET", "https://provider.test/authorize", "https://provider.test/token", name="provider"
        )
        self.account: tuple[str, str | None] = ("account-1", "ann@example.org")
        self.token: dict[str, Any] = {
            "access_token": "PROVIDER-TOKEN",
            "refresh_token": "REFRESH",
            "expires_at": 2_000_000_000,
        }
        self.refusal: Exception | None = None
        self.redirects: list[str] = []

    async def get_access_token(self, code: str, redirect_uri: str, code_verifier: str | None = None) -> OAuth2Token:
        self.redirects.append(redirect_uri)
        if self.refusal is not None:
            raise self.refusal
        return OAuth2Token(dict(self.token))

    async def get_id_email(self, token: str) -> tuple[str, str | None]:
        return self.account


class World:
    """``hooks`` and ``outbox`` hold what the application did; ``client`` talks to it over HTTP."""

    client: AsyncClient

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        manager_class: type[Any] = UserManager,
        user_table: Any = User,
        oauth_account_table: Any = OAuthAccount,
        access_token_table: Any = AccessToken,
        plain_engine: Any = None,
        requires_verification: bool = False,
        requires_current_password: bool = False,
        user_schemas: tuple[Any, Any, Any] = (UserRead, UserCreate, UserUpdate),
        cookie_options: dict[str, Any] | None = None,
        provider: "Provider | None" = None,
        oauth_requires_verification: bool = False,
        **oauth_options: Any,
    ) -> None:
        self.engine = engine
        self.plain_engine = plain_engine
        self.user_table = user_table
        self.session_maker = async_sessionmaker(engine, expire_on_commit=False)
        self.outbox = Outbox()
        self.hooks: list[tuple[Any, ...]] = []
        self.provider = provider or Provider()

        async def get_async_session() -> AsyncIterator[AsyncSession]:
            async with self.session_maker() as session:
                yield session

        def get_plain_session() -> Iterator[Session]:
            with Session(plain_engine, expire_on_commit=False) as session:
                yield session

        get_session: Any = get_async_session if plain_engine is None else get_plain_session

        def get_user_manager(session: AsyncSession = Depends(get_session)) -> Any:
            return manager_class(SQLAlchemyUserDatabase(session, user_table, oauth_account_table), self)

        self.make_manager: Callable[[AsyncSession], Any] = get_user_manager

        def get_database_strategy(
            session: AsyncSession = Depends(get_session),
        ) -> DatabaseStrategy[User, uuid.UUID, AccessToken]:
            return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, access_token_table), 3600)

        def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
            return JWTStrategy(SECRET, 3600)

        self.bearer = AuthenticationBackend[User, uuid.UUID](
            "jwt", BearerTransport(tokenUrl="auth/jwt/login"), get_jwt_strategy
        )
        self.cookie = AuthenticationBackend[User, uuid.UUID](
            "cookie", CookieTransport(cookie_max_age=3600, **(cookie_options or {})), get_database_strategy
        )
        self.fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [self.bearer, self.cookie])

        users = self.fastapi_users
        self.app = FastAPI()
        for backend in (self.bearer, self.cookie):
            self.app.include_router(
                users.get_auth_router(backend, requires_verification), prefix=f"/auth/{backend.name}"
            )
            self.app.include_router(users.get_reauthenticate_router(backend), prefix=f"/auth/{backend.name}")
        read_schema, create_schema, update_schema = user_schemas
        self.app.include_router(users.get_register_router(read_schema, create_schema), prefix="/auth")
        self.app.include_router(users.get_reset_password_router(), prefix="/auth")
        self.app.include_router(users.get_verify_router(UserRead), prefix="/auth")
        self.app.include_router(
            users.get_users_router(
                read_schema,
                update_schema,
                requires_verification,
                requires_current_password=requires_current_password,
            ),
            prefix="/users",
        )
        self.app.include_router(
            users.get_oauth_router(
                self.provider,
                self.cookie,
                SECRET,
                requires_verification=oauth_requires_verification,
                **oauth_options,
            ),
            prefix="/oauth",
        )
        self.app.include_router(
            users.get_oauth_associate_router(
                self.provider,
                UserRead,
                SECRET,
                requires_verification=requires_verification,
                **{
                    name: oauth_options[name]
                    for name in ("strict", "allowed_scopes", "allowed_redirects")
                    if name in oauth_options
                },
            ),
            prefix="/associate",
        )
        self.app.include_router(users.get_oauth_accounts_router(requires_verification), prefix="/account")

    @classmethod
    @asynccontextmanager
    async def on(
        cls, url: str | URL, *, plain: bool = False, pool_options: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator["World"]:
        """``plain``: the application uses sessions that are not async."""
        url, pool_options = make_url(url), pool_options or {}
        # A slow machine lets the writers of a SQLite file wait longer than the usual five seconds.
        patience: dict[str, Any] = {"timeout": 300} if url.get_backend_name() == "sqlite" else {}
        plain_engine = create_engine(url, connect_args=patience, **pool_options) if plain else None
        if url.drivername == "sqlite+pysqlite":
            url = url.set(drivername="sqlite+aiosqlite")
        # The pool is the one that SQLAlchemy takes by itself, for a SQLite file since 2.0.38.
        engine = create_async_engine(url, connect_args=patience, poolclass=AsyncAdaptedQueuePool, **pool_options)
        world = cls(engine, plain_engine=plain_engine, **options)
        metadata = options.get("user_table", User).metadata
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        async with world.new_client() as world.client:
            yield world
        await engine.dispose()
        if plain_engine is not None:
            plain_engine.dispose()

    def new_client(self) -> AsyncClient:
        """Another browser: cookies of its own. Unlike a server it lets exceptions of the application through."""
        return AsyncClient(transport=ASGITransport(self.app), base_url="https://app.test")

    async def insert_user(self, email: str = "ann@example.org", password: str = PASSWORD, **fields: Any) -> User:
        async with self.session_maker() as session:
            hashed_password = weak_password_helper().hash(password)
            user: User = self.user_table(email=email, hashed_password=hashed_password, **fields)
            session.add(user)
            await session.commit()
            await session.refresh(user)
            return user

    async def reload(self, user: User) -> User | None:
        async with self.session_maker() as session:
            found: User | None = await session.get(self.user_table, user.id)
            return found

    async def log_in(self, email: str = "ann@example.org", password: str = PASSWORD) -> dict[str, str]:
        """The header that authenticates this user."""
        answer = await self.client.post("/auth/jwt/login", data={"username": email, "password": password})
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}
