"""Our own OpenAPI document, held against the application: no error page, and no answer that it does not describe.

schemathesis makes requests from the document, good ones and bad ones. Half of the time some of what it made up is replaced
by what exists (an id, a password, a token that was just mailed), or hardly a request would get past the first refusal.
"""

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis.core
import pytest
import requests
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from httpx import Response
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy.ext.asyncio import create_async_engine

from fastapi_users.authentication import JWTStrategy
from fastapi_users.authentication.strategy import DatabaseStrategy
from fastapi_users.testing import weak_password_helper
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from tests.test_one_door import Walked, mount_toy, mounted_routes
from tests.toy import ToyPIN
from tests.world import PASSWORD, SECRET, AccessToken, Base, OAuthAccount, User, World

EXAMPLES = 10
CALLERS = ["anonymous", "user", "superuser"]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
UNDOCUMENTED = {
    ("POST /auth/jwt/logout", 204): "version 15 answers it and documents 200; the contract compares the codes",
}
HASH = weak_password_helper().hash(PASSWORD)
IDS = {name: uuid.uuid5(uuid.NAMESPACE_URL, name) for name in ("user", "superuser", "other")}


def document() -> dict[str, Any]:
    world = mount_toy(World(create_async_engine("sqlite+aiosqlite://"), manager_class=Walked))
    openapi: dict[str, Any] = world.app.openapi()
    return openapi


@pytest.fixture(scope="module")
def operations() -> Iterator[dict[str, Any]]:
    results: Any = schemathesis.openapi.from_dict(document()).get_all_operations()
    with pytest.MonkeyPatch.context() as patch:
        # schemathesis takes from hypothesis, for good, what prints the example that failed.
        core: Any = hypothesis.core
        patch.setattr(core, "RepresentationPrinter", core.RepresentationPrinter)
        yield {result.ok().label: result.ok() for result in results}


class Stage:
    """The same three users before every request, however the one before it ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.client

    async def set(self, caller: str) -> None:
        """The caller has a session with each backend."""
        rows: list[Any] = [ToyPIN(user_id=IDS["other"], pin="1234")]
        for name, id in IDS.items():
            email = f"{name}@example.org"
            rows.append(User(id=id, email=email, hashed_password=HASH, is_superuser=name == "superuser"))
            account = {"access_token": "ACCESS", "account_id": name, "account_email": email}
            rows.append(OAuthAccount(id=id, user_id=id, oauth_name="provider", **account))
        self.client.cookies.clear()
        self.client.headers.pop("Authorization", None)
        async with self.world.session_maker() as session:
            for table in reversed(Base.metadata.sorted_tables):
                await session.execute(table.delete())
            session.add_all(rows)
            await session.commit()
            for user in [row for row in rows if isinstance(row, User) and row.id == IDS.get(caller)]:
                bearer = await JWTStrategy[User, uuid.UUID](SECRET, 3600).write_token(user)
                database = SQLAlchemyAccessTokenDatabase(session, AccessToken)
                cookie = await DatabaseStrategy[User, uuid.UUID, AccessToken](database, 3600).write_token(user)
                self.client.headers["Authorization"] = f"Bearer {bearer}"
                self.client.cookies.set("fastapiusersauth", cookie)

    async def existing(self, label: str) -> dict[str, list[str]]:
        """Values of parameters and fields that lead further than any that are made up."""
        emails = [f"{name}@example.org" for name in IDS]
        values = {"id": [str(id) for id in IDS.values()], "username": emails, "email": emails, "password": [PASSWORD]}
        path = label.partition(" ")[2]
        if path.endswith("/callback"):
            return {"code": ["CODE"], "state": [await self.state(path.replace("callback", "authorize"))]}
        if path.endswith("/toy"):
            return {"pin": ["1234"], "ticket": [await self.ticket(path.replace("toy", "login"))]}
        if path.startswith("/auth/sessions/refresh"):
            return {"refresh_token": [await self.refresh_token()]}
        mails = {"/auth/verify": "/auth/request-verify-token", "/auth/reset-password": "/auth/forgot-password"}
        return {**values, "token": [await self.mailed(mails[path])]} if path in mails else values

    async def mailed(self, path: str) -> str:
        await self.client.post(path, json={"email": "other@example.org"})
        return self.world.outbox.token(to="other@example.org")

    async def state(self, path: str) -> str:
        """Of a flow that this browser began; an anonymous caller cannot begin to link an account."""
        answer = await self.client.get(path)
        url: str = answer.json().get("authorization_url", "https://provider.test/?state=none")
        return parse_qs(urlsplit(url).query)["state"][0]

    async def refresh_token(self) -> str:
        async with self.world.session_maker() as session:
            manager = self.world.make_manager(session)
            started = await manager.start_session(await manager.get(IDS["other"]))
            token: str = started.refresh_token
            return token

    async def ticket(self, path: str) -> str:
        answer = await self.client.post(path, data={"username": "other@example.org", "password": PASSWORD})
        ticket: str = answer.json()["challenge"]["id"]
        return ticket

    async def send(self, case: Any) -> Response:
        prepared: Any = requests.Request(**case.as_transport_kwargs(base_url="https://app.test")).prepare()
        return await self.client.request(
            prepared.method, prepared.url, headers=dict(prepared.headers), content=prepared.body
        )


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, portal: BlockingPortal) -> Iterator[Stage]:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('schemathesis') / 'test.db'}"
    opening = World.on(url, manager_class=Walked)
    with portal.wrap_async_context_manager(opening) as world:
        yield Stage(mount_toy(world))


def put(case: Any, name: str, value: str) -> None:
    """Where the request has something of this name; a callback takes it in any case."""
    for container in (case.path_parameters, case.query, case.body):
        if isinstance(container, dict) and (name in container or name in ("code", "state")):
            container[name] = value


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("label", sorted(mounted_routes()))
@given(data=st.data())
@settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
def test_every_answer_is_as_the_document_says(
    operations: dict[str, Any], stage: Stage, portal: BlockingPortal, label: str, caller: str, data: st.DataObject
) -> None:
    case = data.draw(st.one_of([operations[label].as_strategy(generation_mode=mode) for mode in MODES]))
    portal.call(stage.set, caller)
    if data.draw(st.booleans()):
        for name, values in portal.call(stage.existing, label).items():
            put(case, name, data.draw(st.sampled_from(values)))

    answer = portal.call(stage.send, case)

    if (label, answer.status_code) not in UNDOCUMENTED:
        case.validate_response(answer, checks=CHECKS)
