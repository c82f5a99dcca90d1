"""An application with sessions, on every store that they can have: two transports, and a backend of version 15 beside."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from beanie import Document, PydanticObjectId, init_beanie
from fastapi import Depends, FastAPI, Request
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy.orm import Session as PlainSession

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.db import BeanieBaseUser, BeanieUserDatabase, ObjectIDIDMixin, SQLAlchemyUserDatabase
from fastapi_users.events import Event, Subscribers
from fastapi_users.features.sessions import (
    AllSessionsEnded,
    RefreshTokenStrategy,
    Session,
    SessionEnded,
    SessionsMixin,
    get_sessions_admin_router,
    get_sessions_router,
)
from fastapi_users.features.sessions.beanie import BeanieBaseSession
from fastapi_users.features.sessions.redis import RedisSessionStore
from fastapi_users.features.sessions.sqlalchemy import SQLAlchemyBaseSessionTableUUID
from fastapi_users.testing import InMemoryUserDatabase, Outbox, weak_password_helper
from fastapi_users.testing import User as MemoryUser
from tests.mongo_server import mongo_server
from tests.services import MONGO_URL, connect_mongo, connect_redis, database
from tests.world import PASSWORD, SECRET, Base, OAuthAccount, User, World

STORES = [
    "memory",
    "redis",
    "mongodb",
    "sqlite",
    "sqlite, plain session",
    "postgresql, asyncpg",
    "mariadb, aiomysql",
]
EMAIL = "ann@example.org"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0"


class SessionRow(SQLAlchemyBaseSessionTableUUID, Base):
    pass


class MongoUser(BeanieBaseUser, Document):
    pass


class MongoSession(BeanieBaseSession, Document):
    pass


class Application:
    """``settings`` are those of the manager, ``options`` those of the routers."""

    engine: Any

    def __init__(
        self,
        get_user_db: Callable[..., Any],
        sessions_model: Any,
        *,
        id_mixin: type[Any] = UUIDIDMixin,
        id_type: Any = uuid.UUID,
        settings: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        strategy_options: dict[str, Any] | None = None,
        cookie_options: dict[str, Any] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.thefts: list[str] = []
        self.outbox = Outbox()
        subscribers = Subscribers()

        @subscribers.after_commit()
        async def keep(event: Event, _user_manager: Any) -> None:
            self.events.append(event)

        async def tell_of_theft(_manager: Any, user: Any, request: Request | None = None) -> None:
            self.thefts.append(user.email)

        own = {
            "reset_password_token_secret": SECRET,
            "verification_token_secret": SECRET,
            "sessions_model": sessions_model,
            "subscribers": subscribers,
            "mailer": self.outbox,
            "on_after_refresh_token_theft": tell_of_theft,
        }
        bases: Any = (SessionsMixin, id_mixin, BaseUserManager)
        self.manager_class: Any = type("Manager", bases, {**own, **(settings or {})})
        self.get_user_db = get_user_db

        def get_user_manager(user_db: Any = Depends(get_user_db)) -> Any:
            return self.manager_class(user_db, weak_password_helper())

        def get_strategy(user_manager: Any = Depends(get_user_manager)) -> Any:
            return RefreshTokenStrategy(user_manager, SECRET, **(strategy_options or {}))

        self.bearer = AuthenticationBackend[Any, Any]("bearer", BearerTransport("bearer/login"), get_strategy)
        self.cookie = AuthenticationBackend[Any, Any](
            "cookie", CookieTransport("__Host-session", **(cookie_options or {})), get_strategy
        )
        self.jwt = AuthenticationBackend[Any, Any](
            "jwt", BearerTransport("jwt/login"), lambda: JWTStrategy(SECRET, 3600)
        )
        backends = [self.bearer, self.cookie, self.jwt]
        users = self.fastapi_users = FastAPIUsers[Any, Any](get_user_manager, backends)
        self.app = FastAPI()
        for backend in backends:
            prefix = f"/{backend.name}"
            self.app.include_router(users.get_auth_router(backend), prefix=prefix)
            self.app.include_router(users.get_reauthenticate_router(backend), prefix=prefix)
            if backend is not self.jwt:
                self.app.include_router(get_sessions_router(users, backend, **(options or {})), prefix=prefix)
        self.app.include_router(users.get_reset_password_router())
        self.app.include_router(get_sessions_admin_router(users), prefix="/users")
        user_schema: Any = schemas.BaseUser[id_type]
        self.app.include_router(users.get_users_router(user_schema, schemas.BaseUserUpdate), prefix="/users")

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[Any]:
        """As a script has one."""
        user_dbs = self.get_user_db()
        if not hasattr(user_dbs, "__anext__"):
            yield self.manager_class(user_dbs, weak_password_helper())
            return
        async with asynccontextmanager(self.get_user_db)() as user_db:
            yield self.manager_class(user_db, weak_password_helper())

    async def register(self, email: str = EMAIL, **flags: bool) -> Any:
        async with self.manager() as manager:
            fields: dict[str, Any] = {"email": email, "password": PASSWORD, **flags}
            return await manager.create(schemas.BaseUserCreate(**fields))

    def new_client(self, **headers: str) -> AsyncClient:
        return AsyncClient(transport=ASGITransport(self.app), base_url="https://app.test", headers=headers)

    async def log_in(
        self, backend: str = "bearer", email: str = EMAIL, *, agent: str = FIREFOX, **fields: str
    ) -> "Client":
        client = Client(self.new_client(**{"user-agent": agent}), backend)
        await client.log_in(email=email, **fields)
        return client

    @property
    def event_names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def ends(self) -> list[tuple[Any, ...]]:
        """What the events tell of sessions that ended before their time."""
        ends = [event for event in self.events if isinstance(event, SessionEnded | AllSessionsEnded)]
        return [(event.by, event.but_one) if isinstance(event, AllSessionsEnded) else (event.by,) for event in ends]


class Client:
    """A browser or an app, which keeps what it is given as such a one does."""

    def __init__(self, http: AsyncClient, backend: str) -> None:
        self.http = http
        self.backend = backend
        self.refresh_token = ""

    @property
    def is_browser(self) -> bool:
        return self.backend == "cookie"

    async def log_in(self, email: str = EMAIL, password: str = PASSWORD, **fields: str) -> Response:
        form = {"username": email, "password": password, **fields}
        answer = self.keep(await self.http.post(f"/{self.backend}/login", data=form))
        assert answer.is_success, answer.text
        return answer

    def keep(self, answer: Response) -> Response:
        """A browser does it by itself, but its refresh token is wanted by tests."""
        if self.is_browser:
            self.refresh_token = self.http.cookies.get(COOKIE, default="") or ""
        elif answer.status_code == 200:
            tokens = answer.json()
            self.http.headers["authorization"] = f"Bearer {tokens['access_token']}"
            self.refresh_token = tokens["refresh_token"]
        return answer

    async def refresh(self, token: str | None = None) -> Response:
        """With another token than the own one, too."""
        if self.is_browser and token is None:
            return self.keep(await self.http.post("/cookie/refresh"))
        token = self.refresh_token if token is None else token
        return self.keep(await self.present(token))

    async def present(self, token: str, path: str = "refresh") -> Response:
        """As somebody else has it, to whom cookies are no obstacle."""
        if self.is_browser:
            async with self.stranger() as stranger:
                return await stranger.post(f"/cookie/{path}", headers={"cookie": f"{COOKIE}={token}"})
        return await self.http.post(f"/{self.backend}/{path}", json={"refresh_token": token})

    def stranger(self) -> AsyncClient:
        return AsyncClient(transport=self.http._transport, base_url="https://app.test")

    async def me(self) -> int:
        return (await self.http.get("/users/me")).status_code

    async def sessions(self) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/{self.backend}/sessions")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    async def own_id(self) -> str:
        (own,) = [session["id"] for session in await self.sessions() if session["is_current"]]
        return str(own)


COOKIE = "__Secure-session_refresh"


@asynccontextmanager
async def application_on(store: str, folder: Path, **options: Any) -> AsyncIterator[Application]:
    async with AsyncExitStack() as stack:
        yield await _MAKERS.get(store, _on_sql)(stack, store, folder, options)


async def _in_memory(stack: AsyncExitStack, store: str, folder: Path, options: dict[str, Any]) -> Application:
    user_db = InMemoryUserDatabase[MemoryUser, uuid.UUID](MemoryUser)
    return Application(lambda: user_db, Session, **options)


async def _in_redis(stack: AsyncExitStack, store: str, folder: Path, options: dict[str, Any]) -> Application:
    client = await connect_redis(decode_responses=False)
    stack.push_async_callback(client.aclose)
    await client.flushdb()
    user_db = InMemoryUserDatabase[MemoryUser, uuid.UUID](MemoryUser)
    return Application(lambda: user_db, RedisSessionStore(client), **options)


async def _in_mongodb(stack: AsyncExitStack, store: str, folder: Path, options: dict[str, Any]) -> Application:
    server = await stack.enter_async_context(mongo_server())
    client = await connect_mongo(MONGO_URL or server)
    stack.push_async_callback(client.close)
    name = f"sessions_{uuid.uuid4().hex[:12]}"
    stack.push_async_callback(client.drop_database, name)
    await init_beanie(client[name], document_models=[MongoUser, MongoSession])
    ids: dict[str, Any] = {"id_mixin": ObjectIDIDMixin, "id_type": PydanticObjectId}
    return Application(lambda: BeanieUserDatabase(MongoUser), MongoSession, **ids, **options)


async def _on_sql(stack: AsyncExitStack, store: str, folder: Path, options: dict[str, Any]) -> Application:
    url = await stack.enter_async_context(database(store, folder))
    world = await stack.enter_async_context(World.on(url, plain="plain" in store))

    async def get_user_db() -> AsyncIterator[Any]:
        if world.plain_engine is None:
            async with world.session_maker() as session:
                yield SQLAlchemyUserDatabase(session, User, OAuthAccount)
        else:
            with PlainSession(world.plain_engine, expire_on_commit=False) as plain_session:
                yield SQLAlchemyUserDatabase(plain_session, User, OAuthAccount)

    application = Application(get_user_db, SessionRow, **options)
    application.engine = world.engine
    return application


_MAKERS = {"memory": _in_memory, "redis": _in_redis, "mongodb": _in_mongodb}
