import inspect
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.security.base import SecurityBase
from httpx import ASGITransport, AsyncClient

from fastapi_users import BaseUserManager
from fastapi_users.authentication import (
    AuthenticationBackend,
    Authenticator,
    BearerTransport,
    CookieTransport,
    Strategy,
    Transport,
)
from fastapi_users.authentication.authenticator import DuplicateBackendNamesError
from fastapi_users.router import get_auth_router
from fastapi_users.testing import InMemoryUserDatabase, User
from tests.test_manager import UserManager

USERS = {
    "plain": User("plain@example.org", "h"),
    "verified": User("verified@example.org", "h", is_verified=True),
    "root": User("root@example.org", "h", is_verified=True, is_superuser=True),
    "unverified root": User("root2@example.org", "h", is_superuser=True),
    "inactive": User("inactive@example.org", "h", is_active=False, is_verified=True, is_superuser=True),
    "inactive unverified": User("inactive2@example.org", "h", is_active=False),
}
manager = UserManager(InMemoryUserDatabase(User))


class Header(Transport):
    """A header of its own, read synchronously."""

    def __init__(self, name: str) -> None:
        class Scheme(SecurityBase):
            scheme_name = name
            model: Any = None

            def __call__(self, request: Request) -> str | None:
                return request.headers.get(name)

        self.scheme = Scheme()


class ByName(Strategy[User, uuid.UUID]):
    """The token is a key of ``USERS``."""

    async def read_token(self, token: str | None, user_manager: BaseUserManager[User, uuid.UUID]) -> User | None:
        assert user_manager is manager
        return USERS.get(token or "")


Backend = AuthenticationBackend[User, uuid.UUID]


def by_name() -> ByName:
    return ByName()  # type: ignore[abstract]  # nothing is abstract at run time


def header(name: str) -> Header:
    return Header(name)  # type: ignore[abstract]  # the same


one = Backend("one", header("one"), by_name)
two = Backend("two", header("two"), by_name)


def authenticator(*backends: Backend) -> Authenticator[User, uuid.UUID]:
    return Authenticator(backends, lambda: manager)


async def ask(dependency: Any, headers: dict[str, str]) -> tuple[int, Any]:
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def answer(found: Any = Depends(dependency)) -> Any:
        if isinstance(found, tuple):
            user, token = found
            return [user and user.email, token]
        return found and found.email

    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        response = await client.get("/", headers=headers)
        return response.status_code, response.json()


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        ({}, {}),
        ({"active": True}, {"inactive": 401, "inactive unverified": 401}),
        ({"verified": True}, {"plain": 403, "unverified root": 403, "inactive unverified": 403}),
        ({"superuser": True}, {"plain": 403, "verified": 403, "inactive unverified": 403}),
        (
            {"active": True, "verified": True, "superuser": True},
            {
                "plain": 403,
                "verified": 403,
                "unverified root": 403,
                "inactive": 401,
                "inactive unverified": 401,
            },
        ),
    ],
)
async def test_flags_decide_who_passes(flags: dict[str, Any], refused: dict[str, int]) -> None:
    """D19, E18: without ``active`` inactive users pass, as in version 15; the unverified get a 403."""
    required = authenticator(one).current_user(**flags)
    optional = authenticator(one).current_user(optional=True, **flags)
    for name, user in USERS.items():
        status_code = refused.get(name, 200)
        detail = {401: {"detail": "Unauthorized"}, 403: {"detail": "Forbidden"}}.get(status_code, user.email)
        assert await ask(required, {"one": name}) == (status_code, detail)
        assert await ask(optional, {"one": name}) == (200, None if name in refused else user.email)


@pytest.mark.parametrize("headers", [{}, {"one": "nobody"}])
async def test_without_a_good_token_there_is_no_user(headers: dict[str, str]) -> None:
    assert await ask(authenticator(one).current_user(), headers) == (401, {"detail": "Unauthorized"})
    assert await ask(authenticator(one).current_user(optional=True), headers) == (200, None)


async def test_the_first_backend_that_knows_its_token_decides() -> None:
    dependency = authenticator(one, two).current_user_token()

    assert await ask(dependency, {"one": "plain", "two": "root"}) == (200, ["plain@example.org", "plain"])
    assert await ask(dependency, {"one": "nobody", "two": "root"}) == (200, ["root@example.org", "root"])
    assert await ask(dependency, {"two": "root"}) == (200, ["root@example.org", "root"])


async def test_nothing_hangs_on_how_makefun_names_what_a_function_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_users.authentication.authenticator._CALLED", "_another_name_")
    makers = authenticator(one).current_user, authenticator(one).current_user_token

    for make in makers:
        assert (await ask(make(), {"one": "verified"}))[0] == 200
        assert (await ask(make(), {"one": "nobody"}))[0] == 401


async def test_a_request_can_choose_its_backends() -> None:
    async def get_enabled_backends(request: Request) -> Sequence[Backend]:
        return [two] if "only-two" in request.headers else [two, one]

    dependency = authenticator(one, two).current_user(get_enabled_backends=get_enabled_backends)

    assert await ask(dependency, {"one": "plain", "two": "root"}) == (200, "plain@example.org")
    assert await ask(dependency, {"one": "plain", "two": "root", "only-two": "1"}) == (200, "root@example.org")
    assert await ask(dependency, {"one": "plain", "only-two": "1"}) == (401, {"detail": "Unauthorized"})


@pytest.mark.parametrize("optional", [False, True])
async def test_a_choice_of_backends_that_was_forgotten_lets_nobody_in(optional: bool) -> None:
    async def get_enabled_backends() -> None:
        """Whose return is missing."""

    forgotten: Any = get_enabled_backends
    dependency = authenticator(one).current_user(optional=optional, get_enabled_backends=forgotten)

    with pytest.raises(TypeError):
        await ask(dependency, {"one": "plain"})


async def test_a_websocket_can_ask_by_hand_for_one_of_several_backends() -> None:
    found = await authenticator(one, two)._authenticate(
        active=True, user_manager=manager, two="root", strategy_two=by_name()
    )

    assert found == (USERS["root"], "root")


def test_the_parameters_are_named_after_the_backends() -> None:
    dependency = authenticator(Backend("mock-bis", header("x"), by_name), two).current_user()

    assert inspect.iscoroutinefunction(dependency)
    assert list(inspect.signature(dependency).parameters) == [
        "user_manager",
        "mockbis",
        "strategy_mockbis",
        "two",
        "strategy_two",
    ]


@pytest.mark.parametrize("names", [["a", "a"], ["a-b", "ab"], ["user_manager"], ["strategy_x", "x"]])
def test_names_that_meet_are_refused_when_a_dependency_is_made(names: list[str]) -> None:
    """E8"""
    users = authenticator(*(Backend(name, BearerTransport("login"), by_name) for name in names))

    with pytest.raises(DuplicateBackendNamesError, match=names[0]):
        users.current_user()
    with pytest.raises(DuplicateBackendNamesError):
        users.current_user_token()


def test_the_name_of_the_enabled_backends_is_only_taken_where_they_are_used() -> None:
    users = authenticator(Backend("enabled_backends", BearerTransport("login"), by_name))

    assert callable(users.current_user())
    with pytest.raises(DuplicateBackendNamesError, match="enabled_backends"):
        users.current_user(get_enabled_backends=lambda: [one])


@pytest.mark.parametrize("name", ["--", "42", "\u0448\u043b\u044e\u0437", "class"])
def test_a_name_that_is_none_for_a_parameter_is_refused_with_a_reason(name: str) -> None:
    """E8, CONTRACT 16 row 11"""
    with pytest.raises(ValueError, match="cannot be turned into the name of a parameter"):
        authenticator(Backend(name, BearerTransport("login"), by_name)).current_user()


async def test_a_dependency_can_be_overridden() -> None:
    current_user = authenticator(one).current_user()
    assert authenticator(one).current_user() is not current_user
    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def answer(user: Any = Depends(current_user)) -> str:
        return str(user.email)

    app.dependency_overrides[current_user] = lambda: USERS["root"]
    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        assert (await client.get("/")).json() == "root@example.org"


# WebSockets and bare tokens


async def open_websocket(app: FastAPI, path: str, headers: dict[str, str], *messages: str) -> list[dict[str, Any]]:
    """What the application sends to a client that connects, says something and goes."""
    incoming: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": message} for message in messages),
        {"type": "websocket.disconnect", "code": 1000},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "wss",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "app.test", **headers}.items()],
        "client": ("192.0.2.1", 1234),
        "server": ("app.test", 443),
        "subprotocols": [],
        "extensions": {},
    }
    await app(scope, receive, send)
    return sent


CLOSED = [{"type": "websocket.close", "code": 1008, "reason": ""}]
cookie = Backend("cookie", CookieTransport(cookie_name="session"), by_name)
bearer = Backend("bearer", BearerTransport("login"), by_name)


def socket_app(**options: Any) -> FastAPI:
    app = FastAPI()
    current_user = authenticator(cookie, bearer).current_websocket_user(**options)

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Any = Depends(current_user)) -> None:
        await websocket.accept()
        await websocket.send_text("nobody" if user is None else user.email)
        await websocket.close()

    return app


async def greeted(app: FastAPI, headers: dict[str, str]) -> Any:
    sent = await open_websocket(app, "/live", headers)
    if sent == CLOSED:
        return "refused"
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    return sent[1]["text"]


@pytest.mark.parametrize(
    ("headers", "flags", "answer"),
    [
        ({"cookie": "session=plain"}, {}, "plain@example.org"),
        ({"authorization": "Bearer plain"}, {}, "plain@example.org"),
        ({}, {}, "refused"),
        ({"cookie": "session=unknown"}, {}, "refused"),
        ({"authorization": "Basic plain"}, {}, "refused"),
        ({"cookie": "session=unknown"}, {"optional": True}, "nobody"),
        ({"cookie": "session=inactive"}, {}, "inactive@example.org"),
        ({"cookie": "session=inactive"}, {"active": True}, "refused"),
        ({"cookie": "session=plain"}, {"verified": True}, "refused"),
        ({"cookie": "session=verified"}, {"superuser": True}, "refused"),
        ({"cookie": "session=root"}, {"active": True, "verified": True, "superuser": True}, "root@example.org"),
        ({"cookie": "session=plain", "origin": "https://app.test"}, {}, "plain@example.org"),
        ({"cookie": "session=plain", "origin": "https://evil.test"}, {}, "refused"),
        ({"cookie": "session=plain", "origin": "null"}, {}, "refused"),
        ({"cookie": "session=plain", "origin": "https://[evil"}, {}, "refused"),
        ({"cookie": "session=plain", "origin": "https://app.test:444"}, {}, "refused"),
        ({"cookie": "session=plain", "origin": "http://app.test"}, {}, "refused"),  # the socket is one of https
        (
            {"cookie": "session=plain", "origin": "https://ui.test"},
            {"allowed_origins": ["https://ui.test"]},
            "plain@example.org",
        ),
        ({"authorization": "Bearer plain", "origin": "https://evil.test"}, {}, "plain@example.org"),
    ],
)
async def test_a_websocket_has_a_user_as_a_request_has(
    headers: dict[str, str], flags: dict[str, Any], answer: str
) -> None:
    assert await greeted(socket_app(**flags), headers) == answer


async def test_a_token_of_any_other_scheme_may_be_sent_by_the_browser_itself() -> None:
    """Of a scheme of the application it is not known whether it reads a cookie."""
    app = FastAPI()
    current_user = authenticator(one).current_websocket_user()

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Any = Depends(current_user)) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)
        await websocket.close()

    assert await greeted(app, {"one": "plain"}) == "plain@example.org"
    assert await greeted(app, {"one": "plain", "origin": "https://evil.test"}) == "refused"


def test_the_allowed_origins_are_a_list() -> None:
    with pytest.raises(TypeError, match="is a list"):
        authenticator(cookie).current_websocket_user(allowed_origins="https://app.example.com")


async def test_the_enabled_backends_of_a_websocket_are_asked_for() -> None:
    async def only_bearer() -> list[Backend]:
        return [bearer]

    app = socket_app(get_enabled_backends=only_bearer)

    assert await greeted(app, {"cookie": "session=plain"}) == "refused"
    assert await greeted(app, {"authorization": "Bearer plain"}) == "plain@example.org"


@pytest.mark.parametrize(
    ("token", "flags", "answer"),
    [
        ("plain", {}, "plain@example.org"),
        ("unknown", {}, None),
        ("inactive", {"active": True}, None),
        ("plain", {"verified": True}, None),
        ("verified", {"superuser": True}, None),
        ("root", {"active": True, "verified": True, "superuser": True}, "root@example.org"),
    ],
)
async def test_a_bare_token_is_read_with_the_same_checks(token: str, flags: dict[str, Any], answer: str | None) -> None:
    app = FastAPI()
    token_reader = authenticator(one, two).token_reader(**flags)

    @app.websocket("/live")
    async def live(websocket: WebSocket, read_token: Any = Depends(token_reader)) -> None:
        await websocket.accept()
        user = await read_token(await websocket.receive_text())
        await websocket.send_json(user and user.email)

    sent = await open_websocket(app, "/live", {}, token)

    assert json.loads(sent[1]["text"]) == answer


async def test_a_replaced_authenticate_gets_what_it_got_before() -> None:
    """Applications put a function of their own in its place: what is not set is not passed."""
    authenticating, given = authenticator(one), []

    async def authenticate(**kwargs: Any) -> Any:
        given.append(sorted(kwargs))
        return USERS["plain"], "token"

    authenticating._authenticate = authenticate  # type: ignore[method-assign,assignment]  # that is what is tested
    await ask(authenticating.current_user(), {})
    await ask(authenticating.current_user(fresh=60), {})

    before = ["active", "one", "optional", "strategy_one", "superuser", "user_manager", "verified"]
    assert given == [before, sorted([*before, "fresh"])]


async def test_all_sessions_of_a_user_end_in_every_backend_that_can_end_them() -> None:
    """Of strategies that cannot, such as JWTs, they go on."""
    ended: list[str] = []

    class Stored(ByName):
        async def destroy_all_tokens(self, user: User) -> int:
            ended.append(user.email)
            return 1

    def stored() -> Stored:
        return Stored()  # type: ignore[abstract]  # nothing is abstract at run time

    three, four = Backend("three", header("three"), stored), Backend("four", header("four"), stored)
    app = FastAPI(openapi_url=None)
    session_ender = authenticator(one, three, four).session_ender()

    @app.post("/")
    async def end(end_sessions: Any = Depends(session_ender)) -> None:
        await end_sessions(USERS["plain"])

    async with AsyncClient(transport=ASGITransport(app), base_url="https://app.test") as client:
        assert (await client.post("/")).status_code == 200

    assert ended == ["plain@example.org"] * 2


async def test_every_backend_of_one_kind_stands_in_the_document() -> None:
    """E9: of two cookies, or two bearer tokens, the last one took the place of the first."""

    def cookie(name: str) -> CookieTransport:
        return CookieTransport(cookie_name=name)

    class Function(Transport):
        @staticmethod
        def scheme() -> None: ...  # type: ignore[override]  # any callable will do

    bearer = BearerTransport("login")
    backends = [
        Backend("function", Function(), by_name),  # type: ignore[abstract]  # nothing is abstract at run time
        Backend("one", cookie("one"), by_name),
        Backend("two", cookie("two"), by_name),
        Backend("three", bearer, by_name),
        Backend("same", bearer, by_name),
    ]
    app = FastAPI()
    for _ in range(2):
        current_user = authenticator(*backends).current_user()

    @app.get("/")
    async def read(user: Any = Depends(current_user)) -> None: ...

    document = app.openapi()
    assert {name: scheme.get("name") for name, scheme in document["components"]["securitySchemes"].items()} == {
        "APIKeyCookie_one": "one",
        "APIKeyCookie": "two",
        "OAuth2PasswordBearer": None,
    }
    assert document["paths"]["/"]["get"]["security"] == [
        {"APIKeyCookie_one": []},
        {"APIKeyCookie": []},
        {"OAuth2PasswordBearer": []},
    ]


def test_a_backend_may_have_any_name_beside_an_answer() -> None:
    named = Backend("response", header("response"), by_name)

    parameters = inspect.signature(authenticator(named).session_ender(keeps_own=True)).parameters

    assert {"user_manager", "response", "strategy_response"} <= {*parameters}


def test_an_authenticator_of_the_application_is_asked_as_version_15_asks_it() -> None:
    asked: list[dict[str, Any]] = []

    class Own(Authenticator[User, uuid.UUID]):
        def current_user_token(  # type: ignore[override]  # upstream's signature
            self, optional: bool = False, active: bool = False, verified: bool = False, superuser: bool = False
        ) -> Any:
            asked.append({"active": active, "verified": verified})
            return super().current_user_token(optional, active, verified, superuser)

    bearer = Backend("bearer", BearerTransport("login"), by_name)
    get_auth_router(bearer, lambda: manager, Own([bearer], lambda: manager), requires_verification=True)

    assert asked == [{"active": True, "verified": True}]
