"""What a protected request costs before its route runs: whom FastAPI asks, in which order and how often."""

import functools
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from inspect import signature
from typing import Any
from unittest.mock import AsyncMock

import fastapi
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Security
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from httpx import ASGITransport, AsyncClient, Response
from packaging.version import Version

from fastapi_users import FastAPIUsers, schemas
from fastapi_users.authentication import (
    AuthenticationBackend,
    Authenticator,
    BearerTransport,
    CookieTransport,
    Strategy,
    Transport,
)
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.test_manager import UserManager

Backend = AuthenticationBackend[User, uuid.UUID]
Users = FastAPIUsers[User, uuid.UUID]

ANN = {"Authorization": "Bearer ann"}


class Asked:
    """Who was asked, in order; ``ann`` is the token of a user who may do everything."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: set[int] = set()
        self.user = User("ann@example.org", "h", is_verified=True, is_superuser=True)
        self.user_db = InMemoryUserDatabase[User, uuid.UUID](User)

    async def get_user_manager(self) -> AsyncIterator[UserManager]:
        self.names.append("manager")
        yield UserManager(self.user_db)

    def get_strategy(self) -> Any:
        self.names.append("strategy")
        self.threads.add(threading.get_ident())
        asked = self

        class ByName(Strategy[User, uuid.UUID]):
            async def read_token(self, token: str | None, user_manager: Any) -> User | None:
                asked.names.append(f"read {token}")
                return asked.user if token == "ann" else None

        return ByName()  # type: ignore[abstract]  # nothing is abstract at run time


@pytest.fixture
def asked() -> Asked:
    return Asked()


def bearer_backend(asked: Asked, name: str = "bearer", **options: Any) -> Backend:
    return Backend(name, BearerTransport("login"), asked.get_strategy, **options)


def cookie_backend(asked: Asked) -> Backend:
    return Backend("cookie", CookieTransport("session"), asked.get_strategy)


def app_of(*dependencies: Any) -> FastAPI:
    """``GET /`` tells what each of them gives."""
    app = FastAPI()
    parts = [Depends(dependency) if callable(dependency) else dependency for dependency in dependencies]

    @app.get("/", dependencies=parts[:-1])
    async def read(user: Any = parts[-1]) -> Any:
        return user.email if isinstance(user, User) else user

    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        yield client


async def get(app: FastAPI, headers: dict[str, str] | None = None) -> Response:
    async with client_of(app) as client:
        return await client.get("/", headers=headers)


# Tokens first


async def test_without_a_token_nothing_is_made(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked), cookie_backend(asked)])

    answer = await get(app_of(users.current_user()))

    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert answer.headers["www-authenticate"] == "Bearer"
    assert asked.names == []


@pytest.mark.parametrize("headers", [ANN, {"Cookie": "session=ann"}])
async def test_the_token_of_any_backend_will_do(asked: Asked, headers: dict[str, str]) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked), cookie_backend(asked)])

    answer = await get(app_of(users.current_user()), headers)

    assert (answer.status_code, answer.json()) == (200, "ann@example.org")


async def test_a_bad_token_is_refused_with_the_same_answer_as_ever(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])

    answer = await get(app_of(users.current_user()), {"Authorization": "Bearer bad"})

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert asked.names == ["manager", "strategy", "read bad"]


async def test_an_optional_user_needs_no_token(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])

    answer = await get(app_of(users.current_user(optional=True)))

    assert (answer.status_code, answer.json()) == (200, None)


async def test_where_backends_are_enabled_by_a_dependency_it_has_the_last_word(asked: Asked) -> None:
    """Which of them take bearer tokens is in the refusal."""
    backend = cookie_backend(asked)
    users = Users(asked.get_user_manager, [bearer_backend(asked), backend])

    answer = await get(app_of(users.current_user(get_enabled_backends=lambda: [backend])))

    assert (answer.status_code, "www-authenticate" in answer.headers) == (401, False)
    assert "manager" in asked.names


async def test_whoever_asked_for_the_token_first_gets_it_and_leaves_the_refusal_to_the_authenticator(
    asked: Asked,
) -> None:
    backend = bearer_backend(asked)
    users = Users(asked.get_user_manager, [backend])

    for dependencies in ([backend.transport.scheme], [users.current_user(optional=True)]):
        answer = await get(app_of(*dependencies, users.current_user()))
        assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})

    assert (await get(app_of(users.current_user(), backend.transport.scheme), ANN)).json() == "ann"


async def test_a_scheme_can_be_overridden(asked: Asked) -> None:
    """And the token of the override counts where the scheme would have found none."""
    backend = bearer_backend(asked)
    users = Users(asked.get_user_manager, [cookie_backend(asked), backend])
    app = app_of(users.current_user())
    scheme: Any = backend.transport.scheme
    app.dependency_overrides[scheme] = lambda: "ann"
    assert (await get(app)).json() == "ann@example.org"

    app.dependency_overrides[scheme] = lambda: None
    assert (await get(app)).status_code == 401
    assert "manager" in asked.names


async def test_security_scopes_change_nothing(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    app = app_of(Security(users.current_user(), scopes=["a"]), Security(users.current_user(), scopes=["b"]))

    assert (await get(app, ANN)).json() == "ann@example.org"
    assert (await get(app)).status_code == 401


class OwnScheme(APIKeyHeader):
    """Asks FastAPI for something else than the request."""

    async def __call__(self, x_token: str | None = Header(None)) -> str | None:  # type: ignore[override]  # that is what is tested
        return x_token


class ConnectionScheme(APIKeyHeader):
    async def __call__(self, request: HTTPConnection) -> str | None:
        return request.headers.get("x-token")


@pytest.mark.parametrize(("scheme_class", "is_early"), [(OwnScheme, False), (ConnectionScheme, True)])
async def test_a_scheme_of_the_application_is_resolved_as_it_wants(
    asked: Asked, scheme_class: type[Any], is_early: bool
) -> None:
    class Own(Transport):
        scheme = scheme_class(name="x-token", auto_error=False)

    own = Backend("own", Own(), asked.get_strategy)  # type: ignore[abstract]  # nothing is abstract at run time
    app = app_of(Users(asked.get_user_manager, [own, cookie_backend(asked)]).current_user())

    assert (await get(app)).status_code == 401
    assert ("manager" in asked.names) is not is_early
    assert (await get(app, {"x-token": "ann"})).json() == "ann@example.org"


async def test_a_scheme_may_be_a_function(asked: Asked) -> None:
    class Own(Transport):
        @staticmethod
        def scheme(request: Request) -> str | None:  # type: ignore[override]  # any callable will do
            return request.headers.get("x-token")

    own = Backend("own", Own(), asked.get_strategy)  # type: ignore[abstract]  # nothing is abstract at run time
    app = app_of(Users(asked.get_user_manager, [own]).current_user())

    assert (await get(app)).status_code == 401
    assert (await get(app, {"x-token": "ann"})).json() == "ann@example.org"


async def test_the_document_has_the_schemes_as_before(asked: Asked) -> None:
    backends = [bearer_backend(asked), cookie_backend(asked)]
    first = app_of(Users(asked.get_user_manager, backends).current_user()).openapi()
    plain = app_of(Authenticator(backends, asked.get_user_manager).current_user()).openapi()

    assert first == plain
    assert first["paths"]["/"]["get"]["security"] == [{"OAuth2PasswordBearer": []}, {"APIKeyCookie": []}]


def test_a_scheme_shows_its_name_and_model_to_versions_of_fastapi_that_do_not_unwrap_it(asked: Asked) -> None:
    from fastapi_users.authentication.resolution import read_early

    scheme = CookieTransport("session").scheme
    [early] = read_early((scheme,), lambda: None)
    [other] = read_early((scheme,), lambda: None)

    assert (early.scheme_name, early.model) == (scheme.scheme_name, scheme.model)  # type: ignore[attr-defined]  # it has
    assert len({early, other, scheme}) == 1


def test_fastapi_meets_each_scheme_of_an_authenticator_once(asked: Asked) -> None:
    """It looks closely at each object that it has not met, which for a hundred routes was a sixth of the document."""
    users = Users(asked.get_user_manager, [bearer_backend(asked), cookie_backend(asked)])

    def schemes_of(dependency: Any) -> list[Any]:
        parameters = signature(dependency).parameters
        return [parameters[name].default.dependency for name in ("bearer", "cookie")]

    every_day, for_few = schemes_of(users.current_user()), schemes_of(users.current_user(superuser=True))
    assert all(one is other for one, other in zip(every_day, for_few, strict=True))


class RequestScheme(APIKeyCookie):
    """As all of FastAPI's were up to its version 0.118 at least."""

    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]  # less than that of today
        return request.cookies.get("session")


async def test_a_scheme_that_asks_for_a_request_finds_nobody_on_a_websocket(asked: Asked) -> None:
    """Which any page may open with the cookies of its visitor."""

    class Own(Transport):
        scheme = RequestScheme(name="session", auto_error=False)

    own = Backend("own", Own(), asked.get_strategy)  # type: ignore[abstract]  # nothing is abstract at run time
    app = app_of(current_user := Users(asked.get_user_manager, [own]).current_user())
    assert (await get(app, {"cookie": "session=ann"})).json() == "ann@example.org"
    asked.names.clear()

    @app.websocket("/", dependencies=[Depends(current_user)])
    async def never_reached() -> None: ...

    scope = {"type": "websocket", "path": "/", "headers": [(b"cookie", b"session=ann")], "query_string": b""}
    with pytest.raises(TypeError, match="connection"):
        await app(scope, AsyncMock(), send := AsyncMock())

    send.assert_not_called()
    assert asked.names == []


# What applications put in the place of parts


async def test_a_replaced_authenticate_is_asked_also_without_a_token(asked: Asked) -> None:
    """Tests of applications do that, to be somebody without logging in."""
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    app = app_of(users.current_user(active=True))
    given: list[list[str]] = []

    async def authenticate(**kwargs: Any) -> Any:
        given.append(sorted(kwargs))
        return asked.user, "token"

    users.authenticator._authenticate = authenticate  # type: ignore[method-assign,assignment]  # that is what is tested

    assert (await get(app)).json() == "ann@example.org"
    names = ["active", "bearer", "optional", "strategy_bearer", "superuser", "user_manager", "verified"]
    assert given == [names]


async def test_an_authenticator_with_a_signature_of_its_own_keeps_it(asked: Asked) -> None:
    class Own(Authenticator[User, uuid.UUID]):
        reads_tokens_first = True

        def _get_dependency_signature(self, get_enabled_backends: Any = None) -> Any:
            return super()._get_dependency_signature(get_enabled_backends)

    app = app_of(Own([bearer_backend(asked)], asked.get_user_manager).current_user())

    assert (await get(app)).status_code == 401
    assert asked.names == ["manager", "strategy"]


async def test_without_backends_nobody_is_known(asked: Asked) -> None:
    assert (await get(app_of(Users(asked.get_user_manager, []).current_user()))).status_code == 401


async def test_a_dependency_called_by_hand_takes_the_parts_by_name(asked: Asked) -> None:
    current_user: Callable[..., Any] = Users(asked.get_user_manager, [bearer_backend(asked)]).current_user()

    found = await current_user(
        user_manager=UserManager(asked.user_db), bearer="ann", strategy_bearer=asked.get_strategy()
    )

    assert found is asked.user


# Strategies


async def test_a_plain_function_runs_on_the_event_loop(asked: Asked) -> None:
    await get(app_of(Users(asked.get_user_manager, [bearer_backend(asked)]).current_user()), ANN)
    assert asked.threads == {threading.get_ident()}


async def test_one_that_is_said_to_block_runs_in_a_thread(asked: Asked) -> None:
    backend = bearer_backend(asked, get_strategy_blocks=True)
    assert (await get(app_of(Users(asked.get_user_manager, [backend]).current_user()), ANN)).status_code == 200
    assert threading.get_ident() not in asked.threads


async def test_a_strategy_can_be_overridden(asked: Asked) -> None:
    backend = bearer_backend(asked)
    app = app_of(Users(asked.get_user_manager, [backend]).current_user())
    other = Asked()
    other.user.email = "other@example.org"
    app.dependency_overrides[backend.get_strategy] = other.get_strategy

    assert (await get(app, ANN)).json() == "other@example.org"
    assert "strategy" not in asked.names


async def test_a_strategy_is_made_once_for_all_who_ask(asked: Asked) -> None:
    backend = bearer_backend(asked)
    users = Users(asked.get_user_manager, [backend])

    await get(app_of(users.current_user(), backend.get_strategy, users.current_user(active=True)), ANN)

    assert asked.names.count("strategy") == 1


async def test_a_function_with_parameters_gets_them(asked: Asked) -> None:
    def get_strategy(request: Request, x_name: "str" = Header()) -> Any:
        assert (request.url.path, x_name) == ("/", "value")
        return asked.get_strategy()

    users = Users(asked.get_user_manager, [Backend("bearer", BearerTransport("login"), get_strategy)])

    assert (await get(app_of(users.current_user()), {**ANN, "x-name": "value"})).status_code == 200


async def test_whatever_else_gives_a_strategy_is_left_to_fastapi(asked: Asked) -> None:
    async def coroutine() -> Any:
        return asked.get_strategy()

    def generator() -> Iterator[Any]:
        yield asked.get_strategy()

    async def async_generator() -> AsyncIterator[Any]:
        yield asked.get_strategy()

    @functools.wraps(coroutine)
    async def wrapped() -> Any:
        return await coroutine()

    class Made:
        def __call__(self) -> Any:
            return asked.get_strategy()

    every: list[Any] = [coroutine, generator, async_generator, wrapped, Made(), functools.partial(asked.get_strategy)]
    every += [functools.partial(coroutine)] if Version(fastapi.__version__) >= Version("0.123.5") else []
    for get_strategy in every:
        backend = Backend("bearer", BearerTransport("login"), get_strategy)
        app = app_of(Users(asked.get_user_manager, [backend]).current_user())
        assert (await get(app, ANN)).json() == "ann@example.org"


async def test_a_strategy_that_refuses_is_heard(asked: Asked) -> None:
    def get_strategy() -> Any:
        raise HTTPException(503)

    backend = Backend("bearer", BearerTransport("login"), get_strategy)

    assert (await get(app_of(Users(asked.get_user_manager, [backend]).current_user()), ANN)).status_code == 503


# One look per request


async def test_dependencies_with_other_flags_share_the_user(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    every = [
        users.current_user(),
        users.authenticator.current_user_token(active=True),
        users.current_user(optional=True, verified=True),
        users.current_user(superuser=True),
    ]
    app = app_of(*every)

    for _ in range(2):  # and nothing is left of one request in the next
        asked.names.clear()
        assert (await get(app, ANN)).json() == "ann@example.org"
        assert asked.names == ["manager", "strategy", "read ann"]


async def test_each_asks_for_its_own_flags(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    app = app_of(users.current_user(), users.current_user(superuser=True))
    asked.user.is_superuser = False
    assert (await get(app, ANN)).status_code == 403


async def test_a_user_who_changes_within_the_request_is_seen_as_changed(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])

    async def deactivate(user: User = Depends(users.current_user(active=True))) -> None:
        user.is_active = False

    app = app_of(deactivate, users.current_user(active=True, verified=True))
    assert (await get(app, ANN)).status_code == 401


async def test_another_manager_another_token_and_another_order_are_asked_anew(asked: Asked) -> None:
    other = Asked()
    bearer, cookie = bearer_backend(asked), cookie_backend(asked)
    users, others = Users(asked.get_user_manager, [bearer, cookie]), Users(other.get_user_manager, [bearer])
    headers = {**ANN, "Cookie": "session=bad"}

    await get(app_of(users.current_user(), users.authenticator.current_user_token(preferred=cookie)), headers)
    assert [name for name in asked.names if name.startswith("read")] == ["read ann", "read bad", "read ann"]

    asked.names.clear()
    await get(app_of(users.current_user(), others.current_user()), headers)
    assert asked.names.count("read ann") == 2


async def test_a_user_that_the_adapter_does_not_vouch_for_is_read_again(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    asked.user_db.is_at_hand = lambda user: False  # type: ignore[method-assign]  # that is what is tested

    await get(app_of(users.current_user(), users.current_user(active=True)), ANN)

    assert asked.names.count("read ann") == 2


async def test_an_adapter_that_knows_nothing_of_it_is_trusted(asked: Asked) -> None:
    class Foreign:
        user_db = None

    users = Users(Foreign, [bearer_backend(asked)])  # type: ignore[arg-type]  # less than a manager

    await get(app_of(users.current_user(), users.current_user(active=True)), ANN)

    assert asked.names.count("read ann") == 1


async def test_what_was_refused_is_not_remembered(asked: Asked) -> None:
    users = Users(asked.get_user_manager, [bearer_backend(asked)])
    app = app_of(users.current_user(optional=True), users.current_user())
    assert (await get(app, {"Authorization": "Bearer bad"})).status_code == 401
    assert asked.names.count("read bad") == 2


async def test_a_token_may_be_an_object_that_the_strategy_of_the_application_reads(asked: Asked) -> None:
    """As FastAPI's HTTPBearer gives one, which cannot be hashed."""

    class OfCredentials(Strategy[User, uuid.UUID]):
        async def read_token(self, token: Any, user_manager: Any) -> User | None:
            asked.names.append(token.credentials)
            return asked.user

    transport: Any = BearerTransport("login")
    transport.scheme = HTTPBearer(auto_error=False)
    strategy: Any = OfCredentials()  # type: ignore[abstract]  # nothing is abstract at run time
    users = Users(asked.get_user_manager, [Backend("http", transport, lambda: strategy)])
    app = FastAPI()
    app.include_router(users.get_users_router(schemas.BaseUser, schemas.BaseUserUpdate))
    asked.user = await asked.user_db.create({"email": "ann@example.org", "hashed_password": "h"})

    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test", headers=ANN) as client:
        shown = await client.get("/me")
        changed = await client.patch("/me", json={"password": "a new password"})

    assert (shown.status_code, changed.status_code) == (200, 200)
    assert asked.names == ["manager", "ann"] * 2
