import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, status
from httpx_oauth.clients.openid import OpenID
from sqlalchemy.ext.asyncio import AsyncSession

from examples.demo.database import AccessToken, Database, OAuthAccount, User
from examples.demo.outbox import Outbox
from examples.demo.routes import get_pages_router
from examples.demo.settings import Settings
from examples.demo.users import UserCreate, UserManager, UserRead, UserUpdate
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.fresh import REAUTHENTICATION_RESPONSES
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users.events import Event, Subscribers
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase

MINUTE = 60
HOUR = 60 * MINUTE
WEEK = 7 * 24 * HOUR


def create_app(settings: Settings, provider: OpenID) -> FastAPI:
    database = Database(settings.data / "demo.db")
    outbox = Outbox()
    events: deque[Event] = deque(maxlen=100)
    subscribers = Subscribers()

    @subscribers.after_commit()
    async def keep(event: Event, _user_manager: UserManager) -> None:
        events.appendleft(event)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with database.opened():
            yield

    # FastAPI calls each of these once per request, so that users and access tokens share a session.

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with database.new_session() as session:
            yield session

    def get_user_manager(session: AsyncSession = Depends(get_session)) -> UserManager:
        user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User, OAuthAccount)
        return UserManager(user_db, settings, mailer=outbox, subscribers=subscribers)

    def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
        return JWTStrategy(settings.secrets.access_token, lifetime_seconds=HOUR)

    def get_database_strategy(
        session: AsyncSession = Depends(get_session),
    ) -> DatabaseStrategy[User, uuid.UUID, AccessToken]:
        database = SQLAlchemyAccessTokenDatabase(session, AccessToken)
        return DatabaseStrategy(database, lifetime_seconds=WEEK, hash_tokens=True)

    # For programs: a token in a header, good for an hour, unless the password or the address changes.
    bearer = AuthenticationBackend[User, uuid.UUID]("jwt", BearerTransport("auth/jwt/login"), get_jwt_strategy)

    # For browsers: a cookie that scripts cannot read, and that logging out ends on the server too.
    cookie = AuthenticationBackend[User, uuid.UUID](
        "cookie",
        # Secure is the default and belongs there, and so does a name like __Host-session, which promises it; but the demo
        # speaks plain http, over which not every browser would send it.
        CookieTransport(cookie_max_age=WEEK, cookie_secure=False, csrf_protection=True),
        get_database_strategy,
    )

    fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [bearer, cookie])
    get_visitor = fastapi_users.current_user(active=True, optional=True)
    current_fresh_user = fastapi_users.current_user(active=True, fresh=10 * MINUTE)

    app = FastAPI(title="fastapi-users demo", lifespan=lifespan)
    app.include_router(fastapi_users.get_auth_router(bearer), prefix="/auth/jwt", tags=["auth: bearer"])
    app.include_router(fastapi_users.get_auth_router(cookie), prefix="/auth/cookie", tags=["auth: cookie"])
    app.include_router(fastapi_users.get_reauthenticate_router(bearer), prefix="/auth/jwt", tags=["auth: bearer"])
    app.include_router(fastapi_users.get_reauthenticate_router(cookie), prefix="/auth/cookie", tags=["auth: cookie"])

    # With an account at the provider. A browser is redirected there and back, a program gets the address as JSON.
    for backend, prefix, tag, redirects in (
        (bearer, "/auth/jwt/provider", "auth: bearer", []),
        (cookie, "/auth/cookie/provider", "auth: cookie", ["/"]),
    ):
        oauth_router = fastapi_users.get_oauth_router(
            provider,
            backend,
            settings.secrets.oauth_state,
            redirect_url=f"{settings.base_url}{prefix}/callback",  # the Host header of a request says what its sender likes
            associate_by_email=True,  # where both sides have proven the address: strict says so
            is_verified_by_default=True,  # unless the provider says otherwise
            strict=True,
            allowed_redirects=redirects,
            csrf_token_cookie_secure=False,  # as above
        )
        app.include_router(oauth_router, prefix=prefix, tags=[tag])
    associate_router = fastapi_users.get_oauth_associate_router(
        provider,
        UserRead,
        settings.secrets.oauth_state,
        redirect_url=f"{settings.base_url}/auth/associate/provider/callback",
        strict=True,
        allowed_redirects=["/"],
        csrf_token_cookie_secure=False,
    )
    app.include_router(associate_router, prefix="/auth/associate/provider", tags=["account"])
    app.include_router(fastapi_users.get_oauth_accounts_router(fresh=10 * MINUTE), prefix="/users/me", tags=["account"])

    app.include_router(fastapi_users.get_register_router(UserRead, UserCreate), prefix="/auth", tags=["account"])
    app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth", tags=["account"])
    app.include_router(fastapi_users.get_reset_password_router(), prefix="/auth", tags=["account"])

    # Before the router of the users, to whose DELETE /{id} "me" would be an id, and for superusers only.
    @app.delete(
        "/users/me", status_code=status.HTTP_204_NO_CONTENT, responses=REAUTHENTICATION_RESPONSES, tags=["users"]
    )
    async def delete_my_account(
        request: Request,
        user: User = Depends(current_fresh_user),
        user_manager: UserManager = Depends(get_user_manager),
    ) -> None:
        """For good. Whoever finds an unlocked computer must not, hence the proof of the last ten minutes."""
        await user_manager.delete(user, request)

    users_router = fastapi_users.get_users_router(UserRead, UserUpdate, requires_current_password=True)
    app.include_router(users_router, prefix="/users", tags=["users"])
    app.include_router(get_pages_router(settings.base_url, outbox, events, get_visitor))
    return app
