import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import inspect

from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
from fastapi_users.authentication.direct import direct_user
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.db import SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests.db.test_sqlalchemy_statements import FORM, recorded
from tests.world import RECOMMENDED, SECRET, RecommendedAccessToken, RecommendedOAuthAccount, RecommendedUser, World

Backend = AuthenticationBackend[Any, uuid.UUID]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **RECOMMENDED) as world:
        await world.insert_user()
        yield world


def direct(world: World, backend: Backend, **options: Any) -> Any:
    def make_user_manager(session: Any) -> Any:
        return world.make_manager(session)

    return direct_user(backend, world.session_maker, make_user_manager=make_user_manager, **options)


def database_strategy(session: Any) -> Any:
    return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, RecommendedAccessToken), 3600)


def app_of(dependency: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def read(user: Any = Depends(dependency)) -> Any:
        return user and [user.email, inspect(user).detached]

    @app.post("/")
    async def write(user: Any = Depends(dependency)) -> Any:
        return user and user.email

    return app


async def ask(app: FastAPI, headers: Any = None, *, method: str = "GET") -> Response:
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        return await client.request(method, "/", headers=headers)


async def test_a_jwt_costs_one_statement_and_its_user_is_of_a_session_that_is_closed(world: World) -> None:
    headers = await world.log_in()
    app = app_of(direct(world, world.bearer, active=True))
    with recorded(world) as traffic:
        answer = await ask(app, headers)

    assert (answer.status_code, answer.json()) == (200, ["ann@example.org", True])
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)


async def test_a_token_in_the_database_costs_one_statement(world: World) -> None:
    answer = await world.client.post("/auth/cookie/login", data=FORM)
    headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    app = app_of(direct(world, world.cookie, make_strategy=database_strategy))
    with recorded(world) as traffic:
        assert (await ask(app, headers)).json()[0] == "ann@example.org"
    assert traffic.statements == ["SELECT"]


async def test_without_a_token_no_session_is_opened(world: World) -> None:
    never: Any = None  # cannot be called

    def made(**flags: Any) -> Any:
        return direct_user(world.bearer, never, make_user_manager=never, **flags)

    answer = await ask(app_of(made()))
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (await ask(app_of(made(optional=True)))).json() is None


async def test_it_answers_as_current_user_does(world: World) -> None:
    await world.insert_user("root@example.org", is_superuser=True, is_verified=True)
    await world.insert_user("gone@example.org", is_active=False)
    tokens = [await world.log_in(), await world.log_in("root@example.org"), {"Authorization": "Bearer bad"}]
    async with world.session_maker() as session:
        gone = await world.make_manager(session).get_by_email("gone@example.org")
    tokens.append({"Authorization": f"Bearer {await JWTStrategy[Any, uuid.UUID](SECRET, 60).write_token(gone)}"})
    every: list[dict[str, Any]] = [
        {},
        {"active": True},
        {"verified": True},
        {"superuser": True},
        {"optional": True, "active": True},
        {"fresh": 60},
    ]
    for flags in every:
        expected, found = (
            app_of(dependency)
            for dependency in (
                world.fastapi_users.current_user(**flags),
                direct(world, world.bearer, **flags),
            )
        )
        for headers in tokens:
            answers = [await ask(app, headers, method="POST") for app in (expected, found)]
            assert answers[0].status_code == answers[1].status_code
            assert answers[0].json() == answers[1].json()
            assert answers[0].headers.get("www-authenticate") == answers[1].headers.get("www-authenticate")


async def test_a_cookie_that_another_site_had_sent_is_refused(world: World) -> None:
    backend = Backend("cookie", CookieTransport("session", csrf_protection=True), lambda: JWTStrategy(SECRET, 60))
    headers = {"Cookie": "session=x", "Sec-Fetch-Site": "cross-site"}

    answer = await ask(app_of(direct(world, backend)), headers, method="POST")

    assert (answer.status_code, answer.json()) == (403, {"detail": "CROSS_SITE_REQUEST"})


async def test_the_document_tells_of_its_scheme(world: World) -> None:
    document = app_of(direct(world, world.bearer)).openapi()

    assert document["paths"]["/"]["get"]["security"] == [{"OAuth2PasswordBearer": []}]
    assert document["paths"]["/"]["get"].get("parameters") is None


async def test_tests_of_applications_override_the_result_itself(world: World) -> None:
    dependency = direct(world, world.bearer)
    app = app_of(dependency)
    app.dependency_overrides[dependency] = lambda: None

    assert (await ask(app)).json() is None


def test_a_strategy_with_parameters_has_to_be_given() -> None:
    def get_strategy(session: Any = Depends(list)) -> Any: ...

    backend = Backend("db", BearerTransport("login"), get_strategy)
    with pytest.raises(TypeError, match="'db' has parameters"):
        direct_user(backend, list, make_user_manager=list)  # type: ignore[arg-type]  # refused before it is used


async def coroutine() -> Any: ...


GENERATORS: dict[str, Any] = {}
# Coverage would miss their ends, since nobody calls them.
exec("def generator(): yield\nasync def async_generator(): yield", GENERATORS)  # noqa: S102 -- ours


class AsyncCallable:
    async def __call__(self) -> Any: ...


@pytest.mark.parametrize(
    "get_strategy", [coroutine, GENERATORS["generator"], GENERATORS["async_generator"], AsyncCallable()]
)
def test_what_only_fastapi_makes_a_strategy_of_has_to_be_given(get_strategy: Any) -> None:
    backend = Backend("db", BearerTransport("login"), get_strategy)
    with pytest.raises(TypeError, match=r"'db' is a coroutine function or a generator.*make_strategy"):
        direct_user(backend, list, make_user_manager=list)  # type: ignore[arg-type]  # refused before it is used


async def test_the_adapter_may_be_one_with_accounts(world: World) -> None:
    """Whose user is loaded with a join, of several rows."""
    async with world.session_maker() as session:
        user_db = SQLAlchemyUserDatabase[Any, uuid.UUID](session, RecommendedUser, RecommendedOAuthAccount)
        user = await user_db.get_by_email("ann@example.org")
        for name in ("one", "two"):
            account = {"oauth_name": name, "access_token": "T", "account_id": name, "account_email": "a@example.org"}
            user = await user_db.add_oauth_account(user, account)
        token = await database_strategy(session).write_token(user)

    async with world.session_maker() as session:
        manager = world.make_manager(session)
        with recorded(world) as traffic:
            found = await database_strategy(session).read_token(token, manager)
    assert sorted(account.oauth_name for account in found.oauth_accounts) == ["one", "two"]
    assert traffic.statements == ["SELECT"]


async def test_a_websocket_gets_nothing_since_any_page_opens_one_with_the_cookies_of_its_visitor(world: World) -> None:
    app = FastAPI()

    @app.websocket("/", dependencies=[Depends(direct(world, world.bearer, optional=True))])
    async def live() -> None: ...

    send = AsyncMock()
    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
    with pytest.raises(TypeError, match="request"):
        await app(scope, AsyncMock(), send)
    send.assert_not_called()
