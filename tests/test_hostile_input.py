"""Whatever a request brings, in whichever part of it, the answer is a plain refusal and repeats no secret.

Requirements 75, 83 and 84 (OWASP ASVS 5.0: 2.2.1, 16.2.5, 16.5.1). The requests go to the application as a server would
hand them over, since clients refuse to send most of what stands here. An exception of the application is an error page, and
fails the test.
"""

import base64
import json
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import anyio
import bcrypt
import jwt
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import Body, Depends, Request, Response, WebSocket
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTable, SQLAlchemyUserDatabase
from fastapi_users.mail import Message
from fastapi_users.password import PasswordHelper
from fastapi_users.testing import Outbox
from tests import services
from tests.test_one_door import CREDENTIALS, EMAIL, WALK, Ann, Walked, mount_toy, walking
from tests.toy import ToyPIN
from tests.world import PASSWORD, SECRET, Base, OneTimeSecret, User, World

Headers = list[tuple[bytes, bytes]]

JSON = [(b"content-type", b"application/json")]
FORM = [(b"content-type", b"application/x-www-form-urlencoded")]
REFUSED = [{"type": "websocket.close", "code": 1008, "reason": ""}]
HIDDEN = "the-secret-that-no-answer-repeats"


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def refuses(self, *statuses: int) -> bool:
        """Plainly: as JSON with a ``detail``, in which nothing that was secret comes back."""
        assert self.status in (statuses or range(400, 500)), (self.status, self.body)
        assert "detail" in json.loads(self.body), self.body
        return self.repeats_nothing()

    def repeats_nothing(self) -> bool:
        assert self.status < 500, self.body
        assert HIDDEN.encode() not in self.body
        return True


class Server:
    """Ann's application behind a server that lets everything through."""

    def __init__(self, portal: BlockingPortal, ann: Ann, superusers: dict[str, Headers], reports: list[str]) -> None:
        self.portal = portal
        self.ann = ann
        self.superusers = superusers
        self.reports = reports

    def as_ann(self) -> Headers:
        """Her header, after what the request before changed of her is undone."""
        self.portal.call(self._renew)
        return encoded(self.ann.bearer)

    async def _renew(self) -> None:
        async with self.ann.world.session_maker() as session:
            user = await session.get_one(User, self.ann.user.id)
            user.email, user.hashed_password, user.is_active = EMAIL, self.ann.user.hashed_password, True
            user.is_verified = False
            await session.execute(update(OneTimeSecret).values(tries=0, used_at=None))
            await session.commit()
            self.ann.bearer = await self.ann.bearer_of(user)

    def call(self, route: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
        method, path = route.split()
        return self.request(method, path, headers, body)

    def request(
        self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> Answer:
        """The target is percent-encoded, with a query."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"app.test"), *headers],
            "client": ("203.0.113.7", 1234),
            "server": ("app.test", 443),
        }
        sent = self.portal.call(self._run, scope, [{"type": "http.request", "body": body, "more_body": False}])
        assert HIDDEN not in str(self.reports)
        self.reports.clear()
        start = next(message for message in sent if message["type"] == "http.response.start")
        chunks = [message.get("body", b"") for message in sent if message["type"] == "http.response.body"]
        return Answer(start["status"], start["headers"], b"".join(chunks))

    def websocket(self, headers: Sequence[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "wss",
            "path": "/live",
            "raw_path": b"/live",
            "query_string": b"",
            "headers": [(b"host", b"app.test"), *headers],
            "client": ("203.0.113.7", 1234),
            "server": ("app.test", 443),
            "subprotocols": [],
        }
        return self.portal.call(self._run, scope, [{"type": "websocket.connect"}])

    async def _run(self, scope: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.ann.world.app(scope, receive, send)
        return sent


def encoded(headers: dict[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class NumberedBase(DeclarativeBase):
    pass


class NumberedUser(SQLAlchemyBaseUserTable[int], NumberedBase):
    __tablename__ = "numbered_user"

    id: Mapped[int] = mapped_column(primary_key=True)


class NumberedUserManager(IntegerIDMixin, BaseUserManager[NumberedUser, int]):
    pass


async def mount_numbered_users(world: World) -> dict[str, str]:
    """Integers as ids; user 1 is a superuser, whose header this is."""

    async def get_user_manager() -> AsyncIterator[NumberedUserManager]:
        async with AsyncSession(world.engine, expire_on_commit=False) as session:
            yield NumberedUserManager(SQLAlchemyUserDatabase(session, NumberedUser))

    backend = AuthenticationBackend[NumberedUser, int]("jwt", BearerTransport("login"), lambda: JWTStrategy(SECRET, 60))
    users = FastAPIUsers[NumberedUser, int](get_user_manager, [backend])
    router = users.get_users_router(schemas.BaseUser[int], schemas.BaseUserUpdate)
    world.app.include_router(router, prefix="/numbers")
    async with world.engine.begin() as connection:
        await connection.run_sync(NumberedBase.metadata.create_all)
    async with AsyncSession(world.engine, expire_on_commit=False) as session:
        user = NumberedUser(email=EMAIL, hashed_password="", is_superuser=True)
        session.add(user)
        await session.commit()
    token = await JWTStrategy[NumberedUser, int](SECRET, 3600).write_token(user)
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def opened(engine: str, folder: Path) -> AsyncIterator[tuple[Ann, dict[str, Headers], list[str]]]:
    """Ann, the headers of a superuser, by the path, and what an application that logs 422 answers would write."""
    reports: list[str] = []
    async with services.database(engine, folder) as url, World.on(url, manager_class=Walked) as world:
        current_user = world.fastapi_users.authenticator.current_websocket_user(active=True)

        @world.app.exception_handler(RequestValidationError)
        async def keep(request: Request, error: RequestValidationError) -> Response:
            text = "".join(traceback.format_exception(error))  # with notes, and with what it was raised from
            reports.append(f"{text}{error.errors()!r}{error.body!r}")
            return await request_validation_exception_handler(request, error)

        @world.app.websocket("/live")
        async def live(websocket: WebSocket, user: User = Depends(current_user)) -> None:
            await websocket.accept()
            await websocket.close()

        fresh_user = world.fastapi_users.current_user(active=True, fresh=60)

        @world.app.get("/fresh", dependencies=[Depends(fresh_user)])
        async def answer() -> None: ...

        read = world.fastapi_users.authenticator.token_reader()

        @world.app.post("/read")
        async def read_message(token: str = Body(embed=True), read: Any = Depends(read)) -> str:
            return "nobody" if await read(token) is None else "somebody"

        ann = Ann(mount_toy(world))
        await ann.appear()
        superusers = {"/users": await ann.bearer_of_root(), "/numbers": await mount_numbered_users(world)}
        yield ann, {path: encoded(headers) for path, headers in superusers.items()}, reports


@pytest.fixture(scope="module", params=["sqlite", "postgresql, asyncpg"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """PostgreSQL refuses what SQLite stores: NUL in text, integers of more than 64 bits."""
    folder = tmp_path_factory.mktemp("hostile")

    async def answers() -> None:
        async with services.database(request.param, folder):
            pass

    anyio.run(answers)  # or the tests are skipped, which a portal cannot tell
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened(request.param, folder)) as parts:
        yield Server(portal, *parts)


# bodies

text = st.text(st.characters(codec=None), max_size=20)
hostile_values = st.one_of(
    st.sampled_from(
        [
            *[None, True, 0, -1, 1.5, 2**31, 2**63, 2**64, -(2**63) - 1, 10**4000, float("nan"), float("inf"), 1e308],
            *["", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ufeff", "\u202e", "x" * 10_000, "\U0001f642" * 5000],
            *[[], {}, [None], [[]], {"": None}, {"password": HIDDEN}, {"a": {"token": [HIDDEN]}}],
        ]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | text,
        lambda children: st.lists(children, max_size=3) | st.dictionaries(text, children, max_size=3),
        max_leaves=5,
    ),
)

# What a route takes, each with something that is right.
BODIES: dict[str, dict[str, Any]] = {
    "POST /auth/register": {"email": "new@example.org", "password": PASSWORD, "nickname": "N", "is_active": True},
    "POST /auth/forgot-password": {"email": EMAIL},
    "POST /auth/reset-password": {"token": "TOKEN", "password": PASSWORD},
    "POST /auth/request-verify-token": {"email": EMAIL},
    "POST /auth/verify": {"token": "TOKEN"},
    "POST /auth/jwt/reauthenticate": {"password": PASSWORD},
    "POST /auth/jwt/toy": {"ticket": "TICKET", "pin": "1234"},
    "PATCH /users/me": {
        "email": EMAIL,
        "password": PASSWORD,
        "nickname": "N",
        "is_active": True,
        "is_superuser": False,
        "is_verified": False,
        "id": "ID",
        "hashed_password": "HASH",
    },
}
FIELDS = [(route, field) for route, body in BODIES.items() for field in body]


@pytest.mark.parametrize(("route", "field"), FIELDS)
@given(value=hostile_values)
@settings(max_examples=25)
def test_whatever_stands_in_a_field_the_answer_is_plain(server: Server, route: str, field: str, value: Any) -> None:
    """E1: ``null`` where there is none, and everything else that JSON, or Python's reader of it, can say."""
    body = {**BODIES[route], field: value}

    answer = server.call(route, server.as_ann() + JSON, json.dumps(body).encode())

    assert answer.status < 400 or answer.refuses(400, 422)
    assert answer.repeats_nothing()


RAW_BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a text": f'"{HIDDEN}"'.encode(),
    "half": f'{{"password": "{HIDDEN}'.encode(),
    "no JSON": HIDDEN.encode(),
    "not UTF-8": b'{"password": "\xff' + HIDDEN.encode() + b'"}',
    "UTF-16": f'{{"password": "{HIDDEN}"}}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + f'{{"password": "{HIDDEN}"}}'.encode(),
    "a nesting of lists": b"[" * 10_000,
    "a nesting of objects": b'{"password":' * 10_000,
    "a nesting in a field": b'{"email": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a field twice": f'{{"password": "{HIDDEN}", "password": null, "token": [], "ticket": {{}}}}'.encode(),
    "NaN": f'{{"email": NaN, "password": "{HIDDEN}"}}'.encode(),
    "infinity": f'{{"email": 1e400, "nickname": -Infinity, "password": "{HIDDEN}"}}'.encode(),
    "a large number": b'{"email": ' + b"9" * 5000 + b"}",
    "NUL": b"\0" * 100,
    "a large text": b'{"email": "' + b"x" * 1_000_000 + b'", "password": ["' + HIDDEN.encode() + b'"]}',
    "many fields": json.dumps({f"token {number}": HIDDEN for number in range(2000)}).encode(),
}
CONTENT_TYPES = {
    "none": [],
    "JSON": JSON,
    "JSON in UTF-16": [(b"content-type", b"application/json; charset=utf-16")],
    "another JSON": [(b"content-type", b"application/merge-patch+json")],
    "text": [(b"content-type", b"text/plain")],
    "a form": FORM,
    "a form in parts": [(b"content-type", b"multipart/form-data; boundary=x")],
    "parts without a boundary": [(b"content-type", b"multipart/form-data")],
    "not ASCII": [(b"content-type", b"\xff\xfe/json")],
    "a long one": [(b"content-type", b"application/" + b"x" * 10_000)],
    "two": [*JSON, *FORM],
}


@pytest.mark.parametrize("body", RAW_BODIES.values(), ids=RAW_BODIES)
@pytest.mark.parametrize("route", [*BODIES, "POST /auth/jwt/login", "POST /auth/cookie/login"])
def test_whatever_the_body_is_the_answer_is_plain(server: Server, route: str, body: bytes) -> None:
    for content_type in CONTENT_TYPES.values():
        answer = server.call(route, server.as_ann() + content_type, body)

        # An empty object is a PATCH that changes nothing.
        assert (answer.status == 200 and route.startswith("PATCH")) or answer.refuses(400, 422)


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\ncontent-disposition: form-data; " + part + b"\r\n" for part in parts) + b"--x--\r\n"


USERNAME = b"username=" + EMAIL.encode()
FORMS: dict[str, tuple[str, bytes]] = {
    "no password": ("a form", USERNAME),
    "no name": ("a form", b"password=" + HIDDEN.encode()),
    "no value": ("a form", b"username&password"),
    "empty values": ("a form", b"username=&password="),
    "a field twice": ("a form", USERNAME + b"&username=x&password=1&password=" + HIDDEN.encode()),
    "another grant": ("a form", USERNAME + b"&grant_type=refresh_token&password=" + HIDDEN.encode()),
    "NUL": ("a form", b"username=%00&password=%00" + HIDDEN.encode()),
    "not UTF-8": ("a form", b"username=%ff%fe&password=%ff" + HIDDEN.encode()),
    "raw bytes": ("a form", b"username=\xff\xfe&password=\xff" + HIDDEN.encode()),
    "a surrogate": ("a form", b"username=%ed%a0%80&password=%ed%a0%80"),
    "wrong percents": ("a form", b"username=%zz&password=%" + HIDDEN.encode()),
    "many fields": ("a form", b"&".join(b"f%d=%s" % (number, HIDDEN.encode()) for number in range(2000))),
    "a long password": ("a form", USERNAME + b"&password=" + HIDDEN.encode() * 10_000),
    "a long name": ("a form", b"username=" + b"x" * 100_000 + b"@example.org&password=" + HIDDEN.encode()),
    "scopes and a client": (
        "a form",
        USERNAME + b"&password=x&scope=%00&client_id=%ff&client_secret=" + HIDDEN.encode(),
    ),
    "nothing but separators": ("a form", b"&&&==&;"),
    "parts": (
        "a form in parts",
        multipart(b'name="username"\r\n\r\nx', b'name="password"\r\n\r\n' + HIDDEN.encode()),
    ),
    "a file": (
        "a form in parts",
        multipart(b'name="username"\r\n\r\nx', b'name="password"; filename="p"\r\n\r\n' + HIDDEN.encode()),
    ),
    "a part without a name": ("a form in parts", multipart(b"\r\n\r\n" + HIDDEN.encode())),
    "an unfinished part": ("a form in parts", b'--x\r\ncontent-disposition: form-data; name="username'),
    "another boundary": ("a form in parts", b"--y\r\n\r\n--y--"),
    "many parts": ("a form in parts", multipart(*[b'name="password"\r\n\r\n' + HIDDEN.encode()] * 1500)),
    "no boundary": ("parts without a boundary", multipart(b'name="password"\r\n\r\n' + HIDDEN.encode())),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["jwt", "cookie"])
def test_whatever_is_sent_as_a_login_form_the_answer_is_plain(server: Server, backend: str, form: str) -> None:
    content_type, body = FORMS[form]

    assert server.request("POST", f"/auth/{backend}/login", CONTENT_TYPES[content_type], body).refuses(400, 422)


@given(name=st.binary(max_size=50), password=st.binary(max_size=50))
def test_whatever_bytes_are_a_name_and_a_password_the_answer_is_plain(
    server: Server, name: bytes, password: bytes
) -> None:
    body = b"username=" + quote(name).encode() + b"&password=" + HIDDEN.encode() + quote(password).encode()

    assert server.request("POST", "/auth/jwt/login", FORM, body).refuses(400, 422)


# ids

# Of an id that exists, as text: each would be another path of the same user.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "braces": lambda id: f"{{{id}}}",
    "a URN": lambda id: f"urn:uuid:{id}",
    "blanks": lambda id: f" {id} ",
    "a line": lambda id: f"{id}\n",
    "a no-break space": lambda id: f"\u00a0{id}",
    "NUL": lambda id: f"{id}\0",
    "a byte order mark": lambda id: f"\ufeff{id}",
    "a sign": lambda id: f"+{id}",
    "a leading zero": lambda id: f"0{id}",
    "a leading hyphen": lambda id: f"-{id}",
    "other hyphens": lambda id: id[:1] + "-" + id[1:],
    "underscores": lambda id: "0_" + id.replace("-", "_"),
    "Arabic digits": lambda id: id.translate({48 + digit: 0x660 + digit for digit in range(10)}),
    "wide digits": lambda id: id.translate({48 + digit: 0xFF10 + digit for digit in range(10)}),
    "a fraction": lambda id: f"{id}.0",
    "an exponent": lambda id: f"{id}e0",
    "a list": lambda id: f"[{id}]",
    "a quoted text": lambda id: f'"{id}"',
    "another after it": lambda id: f"{id},{id}",
    "SQL": lambda id: f"{id}' OR '1'='1",
}
NO_IDS = [
    *[
        "nobody",
        "null",
        "None",
        "true",
        "0x1",
        "0b1",
        "NaN",
        "Infinity",
        "1e400",
        "\u2460",
        "\u00b2",
        "*",
        '{"$gt": 0}',
    ],
    *["-1", str(2**31), str(2**63), str(2**64), "9" * 30, "9" * 5000, str(-(2**63)), str(-(2**63) - 1)],
    *[
        "0" * 31,
        "0" * 33,
        "f" * 32,
        "-" * 36,
        "z" * 36,
        "x" * 100_000,
        "..",
        ".",
        "../me",
        "..\\me",
        "//",
        "\U0001f642",
    ],
]
RAW_IDS = ["", "%", "%00", "%ff%fe", "%ed%a0%80", "%c0%af", "%2f", "%252e", "?id=1", "%20", "+"]


def is_unknown(answer: Answer) -> bool:
    """Also where a slash in it leads to no route. One at the end is Starlette's to redirect."""
    return answer.status == 307 or (answer.refuses(404) and json.loads(answer.body) == {"detail": "Not Found"})


@pytest.mark.parametrize("id", [*(quote(id, safe="") for id in NO_IDS), *RAW_IDS])
def test_what_is_no_id_is_nobodys(server: Server, id: str) -> None:
    """E5, E6."""
    for path, superuser in server.superusers.items():
        for method in ("GET", "PATCH", "DELETE"):
            assert is_unknown(server.request(method, f"{path}/{id}", superuser + JSON, b"{}"))
    assert is_unknown(server.request("DELETE", f"/account/oauth-accounts/{id}", server.as_ann()))


@given(id=st.text(max_size=40).filter(lambda id: id not in ("1", "me")))
def test_whatever_text_is_an_id_it_is_nobodys(server: Server, id: str) -> None:
    for path, superuser in server.superusers.items():
        answer = server.request("GET", f"{path}/{quote(id, safe='')}", superuser)
        assert is_unknown(answer)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_in_another_spelling_is_nobodys(server: Server, spelling: str) -> None:
    """E5, E6: a user with several paths slips past rules that look at paths."""
    spell = SPELLINGS[spelling]
    for path, id in (("/users", str(server.ann.user.id)), ("/numbers", "1")):
        superuser = server.superusers[path]
        assert server.request("GET", f"{path}/{id}", superuser).status == 200
        for method in ("GET", "PATCH", "DELETE"):
            target = f"{path}/{quote(spell(id), safe='')}"
            assert is_unknown(server.request(method, target, superuser + JSON, b"{}"))


# headers and cookies

AUTHORIZATIONS: dict[str, list[bytes]] = {
    "empty": [b""],
    "a blank": [b" "],
    "nothing but the scheme": [b"Bearer"],
    "an empty token": [b"Bearer "],
    "blanks for a token": [b"Bearer     "],
    "a nonsense": [b"Bearer " + HIDDEN.encode()],
    "dots": [b"Bearer .", b"Bearer ..", b"Bearer ...."],
    "not ASCII": [b"Bearer \xff\xfe", b"\xff\xfe", b"Bearer caf\xc3\xa9.caf\xc3\xa9.caf\xc3\xa9"],
    "half of a pair": [b"Bearer \xed\xa0\x80"],
    "another scheme": [b"Basic " + HIDDEN.encode(), b"Digest x=1", b"Negotiate", b"Token " + HIDDEN.encode()],
    "basic with colons": [b"Basic " + base64.b64encode(EMAIL.encode() + b":" + HIDDEN.encode())],
    "no blank": [b"Bearer:x", b"Bearerx", b"Bearer=x", b"Bearer\tx"],
    "quoted": [b'"Bearer x"', b'Bearer "x"'],
    "two tokens": [b"Bearer x y", b"Bearer x, Bearer y"],
    "a long one": [b"Bearer " + b"x" * 100_000, b"Bearer " + b"x." * 50_000, b"x" * 100_000],
    "a nested header": [b"Bearer " + base64.urlsafe_b64encode(b"[" * 10_000) + b".e30.x"],
    "a header that is no object": [b"Bearer " + base64.urlsafe_b64encode(b"[]").rstrip(b"=") + b".e30.x"],
    "a header that is no text": [b"Bearer " + base64.urlsafe_b64encode(b"\xff\xfe").rstrip(b"=") + b".e30.x"],
}
COOKIES: dict[str, list[bytes]] = {
    "empty": [b""],
    "no value": [b"fastapiusersauth"],
    "an empty value": [b"fastapiusersauth="],
    "a nonsense": [b"fastapiusersauth=" + HIDDEN.encode()],
    "quoted": [b'fastapiusersauth="' + HIDDEN.encode() + b'"', b'fastapiusersauth="', b'fastapiusersauth="\\000"'],
    "escapes": [b'fastapiusersauth="\\377\\000\\ud800"', b"fastapiusersauth=%00%ff"],
    "not ASCII": [b"fastapiusersauth=\xff\xfe", b"\xff\xfe=\xff", b"fastapiusersauth=caf\xc3\xa9"],
    "twice": [b"fastapiusersauth=x; fastapiusersauth=" + HIDDEN.encode()],
    "separators": [b";;;===;", b"=x", b"fastapiusersauth=;=;", b"fastapiusersauth=a,b=c d"],
    "a digest": [b"fastapiusersauth=$" + b"x" * 42],
    "a long one": [b"fastapiusersauth=" + b"x" * 100_000],
    "many": [b"; ".join(b"fastapiusersauth_%d=x" % number for number in range(3000))],
}
HEADERS = {
    **{f"authorization: {name}": [(b"authorization", value) for value in all] for name, all in AUTHORIZATIONS.items()},
    **{f"cookie: {name}": [(b"cookie", value) for value in all] for name, all in COOKIES.items()},
}
FOR_USERS = {
    "GET /users/me": b"",
    "PATCH /users/me": b"{}",
    "GET /users/1": b"",
    "POST /auth/jwt/logout": b"",
    "POST /auth/jwt/reauthenticate": json.dumps({"password": PASSWORD}).encode(),
    "POST /auth/cookie/reauthenticate": json.dumps({"password": PASSWORD}).encode(),
    "GET /associate/authorize": b"",
    "GET /account/oauth-accounts": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_whatever_a_header_holds_it_is_nobodys_session(server: Server, name: str) -> None:
    for route, body in FOR_USERS.items():
        for header in HEADERS[name]:
            assert server.call(route, [header, *JSON], body).refuses(401)
    for header in HEADERS[name]:
        assert server.websocket([header]) == REFUSED
        # A header too many is no obstacle to the routes that need none.
        assert server.request("POST", "/auth/jwt/login", [header, *FORM], b"username=x&password=x").refuses(400)
        assert server.request("GET", "/oauth/authorize", [header]).status == 200
        assert server.request("GET", "/oauth/callback?code=x&state=x", [header]).refuses(400)


def test_two_headers_of_a_kind_are_no_error_page(server: Server) -> None:
    for headers in HEADERS.values():
        twice = [*headers, *headers]
        assert server.request("GET", "/users/me", twice).refuses(401)
        good = server.as_ann()
        assert server.request("GET", "/users/me", good + twice).repeats_nothing()
        assert server.request("GET", "/users/me", twice + good).repeats_nothing()


@given(value=st.binary(max_size=100), is_cookie=st.booleans())
def test_whatever_bytes_a_header_holds_it_is_nobodys_session(server: Server, value: bytes, is_cookie: bool) -> None:
    header = (b"cookie", b"fastapiusersauth=" + value) if is_cookie else (b"authorization", b"Bearer " + value)

    assert server.request("GET", "/users/me", [header]).refuses(401)
    assert server.websocket([header]) == REFUSED


@pytest.mark.parametrize(
    "header",
    [
        *[
            (b"origin", value)
            for value in (b"", b"null", b"\xff", b"https://", b"://", b"https://evil.test", b"x" * 9999)
        ],
        *[
            (b"host", value)
            for value in (b"", b"\xff", b":", b"[", b"[::1]:x", b"a b", b"evil.test", b"@", b"/", b"x" * 9999)
        ],
        *[(b"accept-language", value) for value in (b"", b"\xff", b"de;q=x", b"de;q=nan", b"," * 9999, b"x" * 9999)],
        *[(b"x-forwarded-for", value) for value in (b"", b"\xff", b"::", b"1.2.3.4, x", b"," * 9999, b"[" * 9999)],
        *[(b"user-agent", value) for value in (b"", b"\xff\0", b"x" * 9999, b"\xe2\x80\xae")],
        *[(b"sec-fetch-site", value) for value in (b"", b"\xff", b"cross-site", b"none, none")],
        *[(b"content-length", value) for value in (b"", b"-1", b"x", b"9" * 30)],
        *[(b"content-encoding", value) for value in (b"gzip", b"\xff")],
        *[
            (b"expect", b"\xff"),
            (b"range", b"\xff"),
            (b"if-none-match", b"\xff"),
            (b"x-http-method-override", b"DELETE"),
        ],
    ],
    ids=lambda header: f"{header[0].decode()}: {header[1][:20]!r}",
)
def test_whatever_another_header_holds_the_answer_is_plain(server: Server, header: tuple[bytes, bytes]) -> None:
    for route in ("POST /auth/forgot-password", "POST /auth/request-verify-token"):
        body = json.dumps({"email": EMAIL}).encode()
        answer = server.call(route, [header, *JSON], body)
        assert answer.status == 202 or answer.refuses()
    answer = server.request("POST", "/auth/cookie/login", [header, *FORM], urlencode(CREDENTIALS).encode())
    assert answer.status == 204 or answer.refuses()
    answer = server.request("GET", "/oauth/authorize", [header])
    assert answer.status == 200 or answer.refuses()
    assert server.request("GET", "/users/me", [*server.as_ann(), header]).status == 200


# tokens

KINDS = ["session", "access token", "reset", "verify", "state", "associate state", "ticket", "cookie ticket"]


@pytest.fixture(scope="module")
def tokens(server: Server) -> dict[str, str]:
    """One of each kind that Ann can have."""

    async def collect() -> dict[str, str]:
        ann = server.ann
        found = {
            "session": ann.bearer["Authorization"].removeprefix("Bearer "),
            "access token": ann.cookies["cookie"].removeprefix("fastapiusersauth="),
            "reset": await ann.mailed("/auth/forgot-password"),
            "verify": await ann.mailed("/auth/request-verify-token"),
            "state": await ann.state("oauth"),
            "associate state": await ann.state("associate"),
        }
        async with ann.world.session_maker() as session:
            session.add(ToyPIN(user_id=ann.user.id, pin="1234"))
            await session.commit()
        return {**found, "ticket": await ann.ticket("jwt"), "cookie ticket": await ann.ticket("cookie")}

    server.as_ann()
    return server.portal.call(collect)


def in_cookie_of_flow(token: str) -> Headers:
    """As the browser has it in which the flow began, if the token is a state."""
    with suppress(jwt.PyJWTError, KeyError):
        csrf_token = jwt.decode(token, options={"verify_signature": False})["csrftoken"]
        return [(b"cookie", f"fastapiusersoauthcsrf={csrf_token}".encode("utf-8", "replace"))]
    return []


def spend_session(server: Server, token: str) -> Answer:
    return server.request("GET", "/users/me", [(b"authorization", b"Bearer " + token.encode("utf-8", "replace"))])


def spend_access_token(server: Server, token: str) -> Answer:
    return server.request("GET", "/users/me", [(b"cookie", b"fastapiusersauth=" + token.encode("utf-8", "replace"))])


def spend_reset(server: Server, token: str) -> Answer:
    body = {"token": token, "password": PASSWORD}
    return server.request("POST", "/auth/reset-password", [*server.as_ann(), *JSON], json.dumps(body).encode())


def spend_verify(server: Server, token: str) -> Answer:
    body = {"token": token}
    return server.request("POST", "/auth/verify", [*server.as_ann(), *JSON], json.dumps(body).encode())


def spend_state(server: Server, token: str) -> Answer:
    target = f"/oauth/callback?code=CODE&state={quote(token, errors='replace')}"
    return server.request("GET", target, in_cookie_of_flow(token))


def spend_associate_state(server: Server, token: str) -> Answer:
    target = f"/associate/callback?code=CODE&state={quote(token, errors='replace')}"
    return server.request("GET", target, [*server.as_ann(), *in_cookie_of_flow(token)])


def spend_ticket(server: Server, token: str) -> Answer:
    body = {"ticket": token, "pin": HIDDEN}
    return server.request("POST", "/auth/jwt/toy", [*server.as_ann(), *JSON], json.dumps(body).encode())


def spend_cookie_ticket(server: Server, token: str) -> Answer:
    """In the browser that began the login."""
    body = {"ticket": token, "pin": HIDDEN}
    cookie = "fastapiusersauth_challenge=" + server.ann.client.cookies["fastapiusersauth_challenge"]
    headers = [*server.as_ann(), *JSON, (b"cookie", cookie.encode())]
    return server.request("POST", "/auth/cookie/toy", headers, json.dumps(body).encode())


def spend_on_a_fresh_route(server: Server, token: str) -> Answer:
    return server.request("GET", "/fresh", [(b"authorization", b"Bearer " + token.encode("utf-8", "replace"))])


# Everywhere where a token is taken, under the kind that is taken there.
SPEND: dict[str, Callable[[Server, str], Answer]] = {
    "session": spend_session,
    "access token": spend_access_token,
    "reset": spend_reset,
    "verify": spend_verify,
    "state": spend_state,
    "associate state": spend_associate_state,
    "ticket": spend_ticket,
    "cookie ticket": spend_cookie_ticket,
    "fresh session": spend_on_a_fresh_route,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_serves_nothing_but_its_own_purpose(server: Server, tokens: dict[str, str], kind: str) -> None:
    """Requirement 55 (ASVS 9.2.2)."""
    for place, spend in SPEND.items():
        answer = spend(server, tokens[kind])
        assert place == kind or answer.refuses(400, 401), place
        assert answer.repeats_nothing()


def with_header(token: str, **changes: Any) -> str:
    """Under the old signature."""
    _, payload, signature = token.split(".")
    header = base64.urlsafe_b64encode(json.dumps({**jwt.get_unverified_header(token), **changes}).encode())
    return f"{header.rstrip(b'=').decode()}.{payload}.{signature}"


def signed(token: str, secret: str = SECRET, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {**jwt.decode(token, options={"verify_signature": False}), **changes}
    claims = {name: value for name, value in claims.items() if value is not GONE}
    return jwt.encode(claims, secret, headers=headers, algorithm="HS256")


GONE = object()
FORGERIES: dict[str, Callable[[str], str]] = {
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: f"{token}.{token.rpartition('.')[2]}",
    "cut": lambda token: token[:-1],
    "extended": lambda token: f"{token}AAAA",
    "a blank behind": lambda token: f"{token} x",
    "twice": lambda token: token + token,
    "another signature": lambda token: token[:-43] + "A" * 43,
    "none": lambda token: jwt.encode(jwt.decode(token, options={"verify_signature": False}), "", algorithm="none"),
    "the name none": lambda token: with_header(token, alg="None"),
    "HS512": lambda token: with_header(token, alg="HS512"),
    "RS256": lambda token: with_header(token, alg="RS256"),
    "no algorithm": lambda token: with_header(token, alg=None),
    "a list of algorithms": lambda token: with_header(token, alg=["HS256"]),
    "a key of its own": lambda token: with_header(
        token, jwk={"kty": "oct", "k": "AAAA"}, jku="https://evil.test", kid="../x"
    ),
    "another secret": lambda token: signed(token, "another secret that is longer than 32 bytes"),
    "something critical": lambda token: signed(token, headers={"crit": ["x"], "x": 1}),
    "expired": lambda token: signed(token, exp=1),
    "not yet": lambda token: signed(token, nbf=4_000_000_000),
    "another audience": lambda token: signed(token, aud="fastapi-users:other"),
    "no audience": lambda token: signed(token, aud=GONE),
    "an audience that is a number": lambda token: signed(token, aud=[1]),
    "nobody": lambda token: signed(token, sub=NOBODY, csrftoken=NOBODY, provider=NOBODY),
}
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_refused_everywhere(server: Server, tokens: dict[str, str], forgery: str) -> None:
    """Requirements 51 to 54 (ASVS 9.1, 9.2.1)."""
    for kind in [kind for kind in KINDS if kind != "access token"]:
        token = FORGERIES[forgery](tokens[kind])
        for place in {kind, "session"}:
            answer = SPEND[place](server, token)
            assert answer.refuses(400, 401), (kind, place)
            assert token.encode() not in answer.body


CLAIMS: dict[str, Sequence[str]] = {
    "session": ["fgpt", "auth_time", "amr"],
    "reset": ["password_fgpt", "email"],
    "verify": ["email"],
    "state": ["csrftoken", "provider", "purpose", "redirect"],
    "associate state": ["csrftoken", "provider", "purpose", "redirect"],
    "fresh session": ["auth_time", "amr"],
    **dict.fromkeys(
        ["ticket", "cookie ticket"],
        ("amr", "auth_time", "methods", "backend", "verified", "browser", "replaces", "fgpt"),
    ),
}
OF_EVERY_TOKEN = ["sub", "aud", "exp", "iat", "nbf", "jti", "iss"]
CLAIM_VALUES: list[Any] = [
    *[
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        10**400,
        1e300,
        float("inf"),
        -float("inf"),
        float("nan"),
        "",
        "x",
        "\0",
        "\ud800",
    ],
    *["\u0661", "x" * 10_000, [], ["x"], [None], [[]], ["\ud800"], [{}], {}, {"x": "y"}],
]


@pytest.mark.parametrize(
    ("kind", "claim"), [(kind, claim) for kind, claims in CLAIMS.items() for claim in [*claims, *OF_EVERY_TOKEN]]
)
def test_whatever_a_signed_token_claims_the_answer_is_plain(
    server: Server, tokens: dict[str, str], kind: str, claim: str
) -> None:
    """As a service that has the same secret would sign it, or a version to come."""
    claims = jwt.decode(tokens[kind.removeprefix("fresh ")], options={"verify_signature": False})
    claims |= {"auth_time": int(time.time()), "amr": ["pwd"]} if kind == "fresh session" else {}
    good = SPEND[kind](server, jwt_of(claims))
    assert good.status < 400 or b"TOY_BAD_PIN" in good.body, "or hardly a claim would be looked at"
    for value in [*CLAIM_VALUES, GONE]:
        answer = SPEND[kind](server, jwt_of({**claims, claim: value}))
        assert answer.status < 400 or answer.refuses(400, 401), value


def jwt_of(claims: dict[str, Any]) -> str:
    """PyJWT's own encoder is choosy."""
    claims = {name: value for name, value in claims.items() if value is not GONE}
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256")


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b'"x"', b"1", b"NaN", b"{", b"\xff", b"[" * 10_000, b'{"a":' * 10_000]
)
def test_a_signed_token_that_holds_no_claims_is_refused_everywhere(server: Server, payload: bytes) -> None:
    token = jwt.PyJWS().encode(payload, SECRET, "HS256")

    for spend in SPEND.values():
        assert spend(server, token).refuses(400, 401)
    assert server.websocket([(b"authorization", b"Bearer " + token.encode())]) == REFUSED


@given(
    token=st.text(st.characters(codec=None), min_size=1, max_size=50)
    | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True)
)
@settings(max_examples=50)
def test_whatever_text_is_a_token_it_is_refused_everywhere(server: Server, token: str) -> None:
    value = token.encode("utf-8", "surrogatepass")
    for header in ((b"authorization", b"Bearer " + value), (b"cookie", b"fastapiusersauth=" + value)):
        assert server.request("GET", "/users/me", [header]).refuses(401)
    for path, body in (
        ("/auth/verify", {"token": token}),
        ("/auth/reset-password", {"token": token, "password": HIDDEN}),
        ("/auth/jwt/toy", {"ticket": token, "pin": HIDDEN}),
    ):
        assert server.request("POST", path, JSON, json.dumps(body).encode()).refuses(400, 422)
    assert server.request("POST", "/read", JSON, json.dumps({"token": token}).encode()).body == b'"nobody"'
    for path in ("/oauth/callback", "/associate/callback"):
        assert server.request("GET", f"{path}?code=x&state={quote(value)}", server.as_ann()).refuses(400)


# parameters of the OAuth routes

QUERIES = [
    *[
        "",
        "code",
        "code=",
        "state",
        "state=",
        "code=x",
        "state=x",
        "code=&state=",
        "code=%00&state=%00",
        "code=x&code=y&state=x&state=y",
    ],
    *[
        "error=access_denied",
        "error=%ff",
        "error=",
        f"error={HIDDEN}",
        "error=x&code=x&state=x",
        "code_verifier=%00&code=x&state=x",
    ],
    *[
        "code=%ed%a0%80&state=%ed%a0%80",
        "&&&",
        "=",
        "%",
        "%zz=%zz",
        "code[]=x&state[]=x",
        "x" * 100_000,
        f"code=x&state={'x' * 100_000}",
    ],
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:40])
def test_whatever_a_provider_sends_a_browser_back_with_the_answer_is_plain(server: Server, query: str) -> None:
    for path in ("/oauth/callback", "/associate/callback"):
        answer = server.request("GET", f"{path}?{query}", server.as_ann())
        assert answer.refuses(400, 422) if HIDDEN not in query else answer.status == 400


@given(query=st.binary(max_size=60))
def test_whatever_bytes_a_provider_sends_a_browser_back_with_the_answer_is_plain(server: Server, query: bytes) -> None:
    target = f"/oauth/callback?code={quote(query)}&state={quote(query)}&error={quote(query)}"

    assert server.request("GET", target, [(b"cookie", b"fastapiusersoauthcsrf=" + query)]).refuses(400)


@given(scope=st.binary(max_size=60), redirect=st.binary(max_size=60))
def test_whatever_a_client_asks_for_the_answer_is_plain(server: Server, scope: bytes, redirect: bytes) -> None:
    for path in ("/oauth/authorize", "/associate/authorize"):
        target = f"{path}?scopes={quote(scope)}&scopes=&redirect={quote(redirect)}"
        answer = server.request("GET", target, server.as_ann())
        assert answer.status == 200
        assert answer.repeats_nothing()


# rows

STORED_HASHES = {
    "nothing": "",
    "a blank": " ",
    "a placeholder": "!",
    "clear text": PASSWORD,
    "a dollar": "$",
    "another scheme": "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
    "an unknown scheme": "{SSHA}MTIzNDU2Nzg5MA==",
    "half of argon2": "$argon2id$v=19$m=65536,t=3,p=4$",
    "argon2 with odd numbers": "$argon2id$v=19$m=99999999999999,t=-1,p=0$c2FsdHNhbHQ$aGFzaA",
    "half of bcrypt": "$2b$12$",
    "bcrypt with odd letters": "$2b$99$" + "!" * 53,
    "not ASCII": "\u00e9\u4e2d\U0001f642",
    "a long one": "$argon2id$" + "x" * 1000,
}


class DefaultHasherManager(Walked):
    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.password_helper = PasswordHelper()


@pytest.mark.parametrize("manager_class", [Walked, DefaultHasherManager])
@pytest.mark.parametrize("stored", STORED_HASHES.values(), ids=STORED_HASHES)
async def test_a_stored_hash_that_nobody_can_read_is_no_error_page(
    tmp_path: Path, manager_class: type[Any], stored: str
) -> None:
    """E4. Its user gets in by a reset, as everybody who does not know the password."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=manager_class) as world:
        async with world.session_maker() as session:
            user = User(email=EMAIL, hashed_password=stored)
            session.add(user)
            await session.commit()
            bearer = await Ann(world).bearer_of(user)

        for password in (PASSWORD, "x" * 73, "\u00e9" * 40, "x" * 5000, "\0"):
            form = {"username": EMAIL, "password": password}
            answer = await world.client.post("/auth/jwt/login", data=form)
            assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
            answer = await world.client.post("/auth/jwt/reauthenticate", json={"password": password}, headers=bearer)
            assert answer.status_code in (400, 422)

        assert (await world.client.get("/users/me", headers=bearer)).status_code == 200
        assert (await world.client.post("/auth/forgot-password", json={"email": EMAIL})).status_code == 202
        body = {"token": world.outbox.token(to=EMAIL), "password": PASSWORD}
        assert (await world.client.post("/auth/reset-password", json=body)).status_code == 200
        assert await world.log_in()


@pytest.mark.parametrize("password", ["x" * 72, "x" * 73, "\u00e9" * 40, "x" * 4096], ids=len)
async def test_a_long_password_against_a_bcrypt_hash_is_no_error_page(tmp_path: Path, password: str) -> None:
    """E4: bcrypt 5 raises above 72 bytes."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    async with World.on(url, manager_class=DefaultHasherManager) as world:
        async with world.session_maker() as session:
            stored = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
            session.add(User(email=EMAIL, hashed_password=stored))
            await session.commit()

        answers = [
            (await world.client.post("/auth/jwt/login", data={"username": EMAIL, "password": attempt})).status_code
            for attempt in (f"y{password}"[:4096], password)
        ]
        assert answers == [400, 200]


# logs


class FailingMailer:
    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox

    async def send(self, message: Message) -> None:
        await self.outbox.send(message)
        raise OSError("The server is down.")


class LoggingManager(Walked):
    """Its mails are the library's, and every one of them ends in the log."""

    notify_new_login = True
    on_after_request_verify = BaseUserManager.on_after_request_verify
    on_after_forgot_password = BaseUserManager.on_after_forgot_password
    on_after_login = BaseUserManager.on_after_login

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, world)
        self.mailer = FailingMailer(world.outbox)


@pytest.mark.parametrize("route", WALK)
async def test_no_log_holds_a_password_or_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    """Requirement 83 (ASVS 16.2.5)."""
    caplog.set_level(logging.DEBUG, logger="fastapi_users")
    async with walking(tmp_path, LoggingManager, monkeypatch) as (ann, _):
        answer = await WALK[route](ann)
        assert answer.is_success, answer.text

        assert ("A mail was not sent" in caplog.text) == bool(ann.world.outbox.messages)
        secrets = [
            PASSWORD,
            "PROVIDER-TOKEN",
            "REFRESH",
            ann.cookies["cookie"].partition("=")[2],
            ann.user.hashed_password,
        ]
        assert [secret for secret in secrets if secret in caplog.text] == []
        assert re.search(r"eyJ[\w-]+\.[\w-]+\.", caplog.text) is None


# what a session may do

BY_GET = sorted(route for route in WALK if route.startswith("GET "))


async def rows_of(world: World) -> list[Any]:
    async with world.session_maker() as session:
        return [(await session.execute(select(table))).all() for table in Base.metadata.sorted_tables]


@pytest.mark.parametrize("route", BY_GET)
async def test_nothing_but_the_return_from_a_provider_changes_anything_by_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """Requirement 71 (ASVS 3.5.3)."""
    async with walking(tmp_path, Walked, monkeypatch) as (ann, _):
        before = await rows_of(ann.world)
        answer = await WALK[route](ann)

        assert answer.is_success
        assert (await rows_of(ann.world) == before) == (not route.endswith("/callback"))


def cookie_of_a_login(server: Server) -> str:
    form = urlencode({"username": "root@example.org", "password": PASSWORD}).encode()
    headers = dict(server.request("POST", "/auth/cookie/login", FORM, form).headers)
    return headers[b"set-cookie"].decode().partition(";")[0]


def test_a_good_session_opens_what_the_bad_ones_did_not(server: Server) -> None:
    """Or the tests above would prove nothing."""
    bearer = server.superusers["/users"]
    for headers in (bearer, encoded({"Cookie": cookie_of_a_login(server)})):
        assert server.request("GET", "/users/me", headers).status == 200
        assert [message["type"] for message in server.websocket(headers)] == ["websocket.accept", "websocket.close"]
    body = json.dumps({"token": bearer[0][1].decode().removeprefix("Bearer ")})
    assert server.request("POST", "/read", JSON, body.encode()).body == b'"somebody"'


def test_nobody_guesses_the_token_of_a_session(server: Server) -> None:
    """Requirement 38 (ASVS 7.2.3): 256 random bits are 43 characters."""
    cookies = {cookie_of_a_login(server) for _ in range(20)}

    assert len(cookies) == 20
    assert all(re.fullmatch(r"fastapiusersauth=[\w-]{43}", cookie) for cookie in cookies)


def test_a_right_that_is_taken_is_gone_at_once(server: Server) -> None:
    """Requirement 74 (ASVS 8.3.2)."""
    ann, root = f"/users/{server.ann.user.id}", server.superusers["/users"]
    rights = [
        ({"is_superuser": True}, 200),
        ({"is_superuser": False}, 403),
        ({"is_active": False}, 401),
        ({"is_active": True, "is_superuser": True}, 200),
        ({"is_superuser": False}, 403),
    ]
    session = server.as_ann()
    for fields, status in rights:
        assert server.request("PATCH", ann, root + JSON, json.dumps(fields).encode()).status == 200
        assert server.request("GET", ann, session).status == status


def test_a_token_in_a_url_opens_nothing(server: Server, tokens: dict[str, str]) -> None:
    """Requirement 80 (ASVS 14.2.1)."""
    for name in ("access_token", "token", "jwt", "Authorization", "authorization", "fastapiusersauth", "cookie"):
        for kind in ("session", "access token"):
            assert server.request("GET", f"/users/me?{name}={quote(tokens[kind])}").refuses(401)
            assert server.request("POST", "/auth/jwt/logout", FORM, f"{name}={tokens[kind]}".encode()).refuses(401)
