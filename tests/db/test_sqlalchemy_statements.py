"""How many statements a request costs (performance.md, section 5), with the tables that new applications should have."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends
from sqlalchemy import event

from fastapi_users.db import sqlalchemy
from tests.world import LEGACY, PASSWORD, RECOMMENDED, World


class Traffic:
    """The first words of the statements, and how many transactions were committed."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.commits = 0


@contextmanager
def recorded(world: World) -> Iterator[Traffic]:
    traffic = Traffic()
    engine = world.engine.sync_engine

    def on_execute(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        traffic.statements.append(statement.split(maxsplit=1)[0])

    def on_commit(connection: Any) -> None:
        traffic.commits += 1

    event.listen(engine, "before_cursor_execute", on_execute)
    event.listen(engine, "commit", on_commit)
    yield traffic
    event.remove(engine, "before_cursor_execute", on_execute)
    event.remove(engine, "commit", on_commit)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **RECOMMENDED) as world:
        yield world


END_DATABASE_TOKENS = "DELETE"  # of a user whose credentials changed, where a backend keeps its tokens in the database

FORM = {"username": "ann@example.org", "password": PASSWORD}


async def signed_up(world: World, email: str = "ann@example.org") -> str:
    answer = await world.client.post("/auth/register", json={"email": email, "password": PASSWORD})
    user_id: str = answer.json()["id"]
    return user_id


async def test_register(world: World) -> None:
    with recorded(world) as traffic:
        await signed_up(world)
    assert (traffic.statements, traffic.commits) == (["SELECT", "INSERT"], 1)


async def test_register_with_tables_of_an_existing_application(tmp_path: Path) -> None:
    """There a lock guards the address, since no unique index does: the price of not migrating."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", **LEGACY) as world:
        with recorded(world) as traffic:
            await signed_up(world)
    assert traffic.statements == ["SELECT", "SELECT", "UPDATE", "SELECT", "SELECT", "INSERT"]
    assert traffic.commits == 1


async def test_log_in_with_a_jwt(world: World) -> None:
    await signed_up(world)
    with recorded(world) as traffic:
        await world.log_in()
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)


async def test_log_in_with_a_database_token(world: World) -> None:
    await signed_up(world)
    with recorded(world) as traffic:
        await world.client.post("/auth/cookie/login", data=FORM)
    assert (traffic.statements, traffic.commits) == (["SELECT", "INSERT"], 1)


async def test_a_protected_request_with_a_jwt(world: World) -> None:
    """E12"""
    await signed_up(world)
    headers = await world.log_in()
    with recorded(world) as traffic:
        await world.client.get("/users/me", headers=headers)
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)


async def test_verify(world: World) -> None:
    await signed_up(world)
    with recorded(world) as traffic:
        await world.client.post("/auth/request-verify-token", json={"email": "ann@example.org"})
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)
    token = world.outbox.token(to="ann@example.org")
    with recorded(world) as traffic:
        assert (await world.client.post("/auth/verify", json={"token": token})).status_code == 200
    assert (traffic.statements, traffic.commits) == (["SELECT", "UPDATE"], 1)


async def test_reset_the_password(world: World) -> None:
    await signed_up(world)
    with recorded(world) as traffic:
        await world.client.post("/auth/forgot-password", json={"email": "ann@example.org"})
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)
    body = {"token": world.outbox.token(to="ann@example.org"), "password": PASSWORD}
    with recorded(world) as traffic:
        assert (await world.client.post("/auth/reset-password", json=body)).status_code == 200
    assert (traffic.statements, traffic.commits) == (["SELECT", "UPDATE", END_DATABASE_TOKENS], 2)


@pytest.mark.parametrize(
    ("body", "statements"),
    [
        ({}, ["SELECT"]),
        ({"nickname": None}, ["SELECT"]),
        ({"email": "ann@example.org"}, ["SELECT"]),
        ({"password": PASSWORD}, ["SELECT", "UPDATE", END_DATABASE_TOKENS]),
        ({"email": "new@example.org"}, ["SELECT", "SELECT", "UPDATE", END_DATABASE_TOKENS]),
    ],
)
async def test_patch_the_own_profile(world: World, body: dict[str, str], statements: list[str]) -> None:
    """E12: upstream takes four, and ends no session for it."""
    await signed_up(world)
    headers = await world.log_in()
    with recorded(world) as traffic:
        assert (await world.client.patch("/users/me", json=body, headers=headers)).status_code == 200
    assert (traffic.statements, traffic.commits) == (statements, 1 + statements.count(END_DATABASE_TOKENS))


async def test_log_out_of_a_database_token(world: World) -> None:
    await signed_up(world)
    await world.client.post("/auth/cookie/login", data=FORM)
    with recorded(world) as traffic:
        assert (await world.client.post("/auth/cookie/logout")).status_code == 204
    assert (traffic.statements, traffic.commits) == (["SELECT", "DELETE"], 1)


async def test_a_superuser_at_work(world: World) -> None:
    user_id = await signed_up(world)
    await world.insert_user("root@example.org", is_superuser=True)
    headers = await world.log_in("root@example.org")
    for method, statements in (
        ("GET", ["SELECT", "SELECT"]),
        ("PATCH", ["SELECT", "SELECT", "UPDATE"]),
        # On SQLite, once more with the user, since who deletes it elsewhere than here knows no backends: D20.
        ("DELETE", ["SELECT", "SELECT", END_DATABASE_TOKENS, "DELETE", "DELETE"]),
    ):
        body = {"nickname": "x"} if method == "PATCH" else None
        with recorded(world) as traffic:
            answer = await world.client.request(method, f"/users/{user_id}", json=body, headers=headers)
        assert answer.is_success
        assert traffic.statements == statements


async def test_a_protected_request_with_a_database_token(world: World) -> None:
    """E12: token and user come with one statement."""
    await signed_up(world)
    await world.client.post("/auth/cookie/login", data=FORM)
    with recorded(world) as traffic:
        assert (await world.client.get("/users/me")).status_code == 200
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)


@pytest.mark.parametrize("backend", ["jwt", "cookie"])
async def test_a_request_whose_dependencies_have_three_flags(world: World, backend: str) -> None:
    await world.insert_user("root@example.org", is_verified=True, is_superuser=True)
    form = {"username": "root@example.org", "password": PASSWORD}
    headers = await world.log_in("root@example.org") if backend == "jwt" else None
    if backend == "cookie":
        await world.client.post("/auth/cookie/login", data=form)
    users = world.fastapi_users
    flags: list[dict[str, Any]] = [{"active": True}, {"verified": True}, {"superuser": True}]

    @world.app.get("/three", dependencies=[Depends(users.current_user(**flag)) for flag in flags])
    async def three() -> None: ...

    with recorded(world) as traffic:
        assert (await world.client.get("/three", headers=headers)).status_code == 200
    assert (traffic.statements, traffic.commits) == (["SELECT"], 0)


async def test_a_superuser_who_looks_at_the_own_account(world: World) -> None:
    root = await world.insert_user("root@example.org", is_superuser=True)
    headers = await world.log_in("root@example.org")
    with recorded(world) as traffic:
        assert (await world.client.get(f"/users/{root.id}", headers=headers)).json()["email"] == "root@example.org"
    assert traffic.statements == ["SELECT"]


async def test_a_request_that_is_refused_without_a_token(world: World) -> None:
    with recorded(world) as traffic:
        assert (await world.client.get("/users/me")).status_code == 401
    assert (traffic.statements, traffic.commits) == ([], 0)


async def test_a_user_that_is_looked_up_once_more_is_read_again_unless_that_is_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await world.insert_user()
    async with world.session_maker() as session:
        users = world.make_manager(session).user_db
        with recorded(world) as traffic:
            assert [(await users.get(user.id)).email for _ in range(4)] == ["ann@example.org"] * 4
        assert traffic.statements == ["SELECT", "SELECT"]

        monkeypatch.setattr(sqlalchemy, "_SOON_SECONDS", -1)
        with recorded(world) as traffic:
            for _ in range(4):
                await users.get(user.id)
        assert traffic.statements == ["SELECT"] * 4
