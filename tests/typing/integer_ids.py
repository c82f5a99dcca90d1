"""An application with integers as ids. Only type-checked, never run."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response
from httpx_oauth.clients.github import GitHubOAuth2
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship
from typing_extensions import assert_type

from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.models import UserProtocol
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseOAuthAccountTable, SQLAlchemyBaseUserTable, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTable

SECRET = "SECRET"


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTable[int], Base):
    # mypy takes the bare Mapped[int] for the int of the base class, since it looks through descriptors. pyright wants
    # to see the int itself.
    if TYPE_CHECKING:
        id: int
    else:
        id: Mapped[int] = mapped_column(primary_key=True)

    oauth_accounts: Mapped[list["OAuthAccount"]] = relationship("OAuthAccount", lazy="joined")


class OAuthAccount(SQLAlchemyBaseOAuthAccountTable[int], Base):
    if TYPE_CHECKING:
        id: int
    else:
        id: Mapped[int] = mapped_column(primary_key=True)

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="cascade"))


class AccessToken(SQLAlchemyBaseAccessTokenTable[int], Base):
    if TYPE_CHECKING:
        user_id: int
    else:

        @declared_attr
        def user_id(cls) -> Mapped[int]:
            return mapped_column(ForeignKey("user.id", ondelete="cascade"))


class UserRead(schemas.BaseUser[int]):
    pass


class UserManager(IntegerIDMixin, BaseUserManager[User, int]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def validate_password(self, password: str, user: schemas.BaseUserCreate | User) -> None: ...

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        assert_type(user.id, int)

    async def on_after_update(
        self, user: User, update_dict: dict[str, Any], request: Request | None = None
    ) -> None: ...

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None: ...

    async def on_after_verify(self, user: User, request: Request | None = None) -> None: ...

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None: ...

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None: ...

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None: ...

    async def on_before_delete(self, user: User, request: Request | None = None) -> None: ...

    async def on_after_delete(self, user: User, request: Request | None = None) -> None: ...


session_maker = async_sessionmaker(create_async_engine("sqlite+aiosqlite://"), expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with session_maker() as session:
        yield session


async def get_user_manager(session: AsyncSession = Depends(get_session)) -> UserManager:
    return UserManager(SQLAlchemyUserDatabase(session, User, OAuthAccount))


def get_jwt_strategy() -> JWTStrategy[User, int]:
    return JWTStrategy(SECRET, lifetime_seconds=None)


def get_database_strategy(session: AsyncSession = Depends(get_session)) -> DatabaseStrategy[User, int, AccessToken]:
    return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, AccessToken))


jwt_backend = AuthenticationBackend("jwt", BearerTransport("auth/login"), get_jwt_strategy)
database_backend = AuthenticationBackend("database", CookieTransport(), get_database_strategy)
assert_type(jwt_backend, AuthenticationBackend[User, int])
assert_type(database_backend, AuthenticationBackend[User, int])

fastapi_users = FastAPIUsers[User, int](get_user_manager, [jwt_backend, database_backend])
github = GitHubOAuth2("ID", "SECRET")

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(jwt_backend))
app.include_router(fastapi_users.get_register_router(UserRead, schemas.BaseUserCreate))
app.include_router(fastapi_users.get_reset_password_router())
app.include_router(fastapi_users.get_verify_router(UserRead))
app.include_router(fastapi_users.get_users_router(UserRead, schemas.BaseUserUpdate))
app.include_router(fastapi_users.get_oauth_router(github, jwt_backend, SECRET))
app.include_router(fastapi_users.get_oauth_associate_router(github, UserRead, SECRET, requires_verification=True))


@app.get("/protected")
async def protected(user: User = Depends(fastapi_users.current_user(active=True))) -> int:
    return user.id


async def called_by_hand(session: AsyncSession) -> None:
    manager = await get_user_manager(session)
    assert_type(manager.parse_id("1"), int)
    user = await manager.get(1)
    assert_type(user, User)
    assert_type(user.id, int)
    assert_type(user.oauth_accounts[0].user_id, int)
    assert_type(await fastapi_users.current_user()(), User)
    assert_type(await fastapi_users.current_user(optional=True)(), User | None)
    assert_type(UserRead.model_validate(user).id, int)
    a_user: UserProtocol[int] = user
    assert_type(a_user.id, int)
