"""A change of the address that counts once the new mailbox confirms it: ``email_change_requires_confirmation``."""

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest

from fastapi_users import BaseUserManager, UUIDIDMixin, events
from fastapi_users.exceptions import UserNotExists
from fastapi_users.mail import MailTemplates
from fastapi_users.testing import frozen_clock, weak_password_helper
from tests import world as worlds
from tests.world import PASSWORD, SECRET, User, World

OLD, NEW, OTHER = "ann@example.org", "new@example.org", "other@example.org"
BAD_TOKEN = {"detail": "VERIFY_USER_BAD_TOKEN"}


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """Overrides none of the hooks that send mails."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    email_change_requires_confirmation = True
    mail_templates = MailTemplates(site_name="Example", verify_url="https://ui.test/verify")

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, weak_password_helper())
        self.world = world
        self.mailer = world.outbox
        self.subscribers = events.Subscribers()

        @self.subscribers.after_commit(
            events.EmailChangeRequested, events.EmailChanged, events.Verified, events.PasswordChanged, events.Updated
        )
        async def remember(event: events.Event, user_manager: Any) -> None:
            world.hooks.append((event.name, event.data))

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Any = None) -> None:
        self.world.hooks.append(("on_after_update", update_dict))

    async def on_after_verify(self, user: User, request: Any = None) -> None:
        self.world.hooks.append(("on_after_verify", user.email))


class TableManager(Manager):
    one_time_secret_model = worlds.OneTimeSecret


@pytest.fixture(params=[Manager, TableManager], ids=["no table", "table of one-time secrets"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=request.param) as world:
        yield world


@pytest.fixture
async def untabled(tmp_path: Path) -> AsyncIterator[World]:
    """Where nothing is written before the address, and others can write until then, also with SQLite."""
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'y.db'}", manager_class=Manager) as world:
        yield world


async def ask(world: World, headers: dict[str, str], **change: str) -> dict[str, Any]:
    answer = await world.client.patch("/users/me", json=change, headers=headers)
    assert answer.status_code == 200, answer.text
    profile: dict[str, Any] = answer.json()
    return profile


async def confirm(world: World, token: str) -> tuple[int, dict[str, Any]]:
    answer = await world.client.post("/auth/verify", json={"token": token})
    return answer.status_code, answer.json()


def sent(world: World) -> list[tuple[str, str]]:
    return [(message.name, message.to) for message in world.outbox.messages]


async def test_an_address_counts_once_it_is_confirmed(world: World) -> None:
    """Requirements 18 and 28."""
    await world.insert_user(is_verified=True)
    headers = await world.log_in()

    profile = await ask(world, headers, email=NEW, nickname="Ann", password="new " + PASSWORD)

    assert (profile["email"], profile["is_verified"], profile["nickname"]) == (OLD, True, "Ann")
    assert world.hooks == [
        ("password_changed", {"is_reset": False}),
        ("email_change_requested", {"new_email": NEW}),
        ("updated", {"fields": ("nickname",), "flags": {}}),
        ("on_after_update", {"password": "new " + PASSWORD, "nickname": "Ann"}),
    ]
    assert sent(world) == [("password_changed", OLD), ("email_change", NEW), ("email_change_requested", OLD)]
    assert "https://ui.test/verify?token=eyJ" in world.outbox.last(to=NEW).text
    assert OLD not in world.outbox.last(to=NEW).text, "it may be a stranger's mailbox"
    assert NEW in world.outbox.last(to=OLD).text
    assert "eyJ" not in world.outbox.last(to=OLD).text
    assert (await world.client.post("/auth/jwt/login", data={"username": NEW, "password": PASSWORD})).status_code == 400

    world.hooks.clear()
    token = world.outbox.token(to=NEW)
    status, confirmed = await confirm(world, token)

    assert (status, confirmed["email"], confirmed["is_verified"]) == (200, NEW, True)
    assert world.hooks == [
        ("email_changed", {"old_email": OLD, "new_email": NEW}),
        ("verified", {"email": NEW}),
        ("on_after_verify", NEW),
    ]
    assert sent(world)[3:] == [("email_changed", OLD)]
    assert await world.log_in(NEW, "new " + PASSWORD)
    assert await confirm(world, token) == (400, BAD_TOKEN)


async def test_without_the_switch_an_address_counts_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Manager, "email_change_requires_confirmation", False)
    await world.insert_user(is_verified=True)

    profile = await ask(world, await world.log_in(), email=NEW)

    assert (profile["email"], profile["is_verified"]) == (NEW, False)
    assert sent(world) == [("email_changed", OLD)]


async def test_a_superuser_changes_an_address_at_once(world: World) -> None:
    user = await world.insert_user(is_verified=True)
    await world.insert_user("root@example.org", is_superuser=True)
    headers = await world.log_in("root@example.org")

    answer = await world.client.patch(f"/users/{user.id}", json={"email": NEW}, headers=headers)

    assert (answer.json()["email"], answer.json()["is_verified"]) == (NEW, False)


@pytest.mark.parametrize("change", [{"email": OLD}, {"email": None}, {}])
async def test_what_is_no_new_address_asks_nobody(world: World, change: dict[str, Any]) -> None:
    await world.insert_user(is_verified=True)

    assert (await ask(world, await world.log_in(), **change))["is_verified"]
    assert sent(world) == []


async def test_another_letter_case_has_to_be_confirmed_as_well(world: World) -> None:
    """Whether it is the same mailbox knows its server only."""
    await world.insert_user(is_verified=True)

    assert (await ask(world, await world.log_in(), email="Ann@example.org"))["email"] == OLD
    status, confirmed = await confirm(world, world.outbox.token(to="Ann@example.org"))

    assert (status, confirmed["email"], confirmed["is_verified"]) == (200, "Ann@example.org", True)


async def test_an_address_that_is_taken_is_refused_with_all_that_came_along(world: World) -> None:
    await world.insert_user(NEW)
    user = await world.insert_user()
    change = {"email": "NEW@example.org", "nickname": "Ann"}

    answer = await world.client.patch("/users/me", json=change, headers=await world.log_in())

    assert (answer.status_code, answer.json()) == (400, {"detail": "UPDATE_USER_EMAIL_ALREADY_EXISTS"})
    reloaded = await world.reload(user)
    assert reloaded is not None
    assert reloaded.nickname is None
    assert (sent(world), world.hooks) == ([], [])


async def test_an_address_that_was_taken_meanwhile_is_not_given(world: World) -> None:
    await world.insert_user()
    await ask(world, await world.log_in(), email=NEW)
    await world.insert_user("New@example.org")

    assert await confirm(world, world.outbox.token(to=NEW)) == (400, BAD_TOKEN)
    assert await world.log_in()


def just_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Manager, User], Awaitable[None]]
) -> None:
    update = Manager._update

    async def slow_update(self: Manager, user: User, update_dict: dict[str, Any]) -> User:
        await work(self, user)
        return await update(self, user, update_dict)

    monkeypatch.setattr(Manager, "_update", slow_update)


async def test_an_address_that_is_taken_at_that_moment_is_not_given(
    untabled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await untabled.insert_user()
    await ask(untabled, await untabled.log_in(), email=NEW)
    token = untabled.outbox.token(to=NEW)

    async def nobody(email: str) -> Any:
        raise UserNotExists

    async def take_it(manager: Manager, user: User) -> None:
        monkeypatch.setattr(manager, "get_by_email", nobody)  # it was free when this one looked
        await untabled.insert_user(NEW)

    just_before_it_is_written(monkeypatch, take_it)

    assert await confirm(untabled, token) == (400, BAD_TOKEN)


async def test_of_parallel_changes_the_first_that_is_confirmed_ends_the_others(untabled: World) -> None:
    """Devise's CVE-2026-32700: what is confirmed is what was mailed."""
    await untabled.insert_user()
    headers = await untabled.log_in()
    for email in (NEW, OTHER):
        await ask(untabled, headers, email=email)

    assert (await confirm(untabled, untabled.outbox.token(to=NEW)))[1]["email"] == NEW
    assert await confirm(untabled, untabled.outbox.token(to=OTHER)) == (400, BAD_TOKEN)


async def test_of_parallel_changes_that_are_confirmed_at_the_same_moment_one_is_made(
    untabled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await untabled.insert_user()
    headers = await untabled.log_in()
    for email in (NEW, OTHER):
        await ask(untabled, headers, email=email)
    arrived = {NEW: anyio.Event(), OTHER: anyio.Event()}
    answers: dict[str, int] = {}

    async def wait_for_the_other(manager: Manager, user: User) -> None:
        next(event for event in arrived.values() if not event.is_set()).set()
        for event in arrived.values():
            await event.wait()

    just_before_it_is_written(monkeypatch, wait_for_the_other)

    async def confirm_one(email: str) -> None:
        answers[email] = (await confirm(untabled, untabled.outbox.token(to=email)))[0]

    async with anyio.create_task_group() as tasks:
        for email in arrived:
            tasks.start_soon(confirm_one, email)

    (winner,) = [email for email, status in answers.items() if status == 200]
    reloaded = await untabled.reload(user)
    assert reloaded is not None
    assert (reloaded.email, sorted(answers.values())) == (winner, [200, 400])
    assert sent(untabled)[-1] == ("email_changed", OLD)


async def test_with_the_table_a_newer_request_ends_the_older_one(tmp_path: Path) -> None:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=TableManager) as world:
        await world.insert_user()
        headers = await world.log_in()
        for email in (NEW, OTHER):
            await ask(world, headers, email=email)

        assert await confirm(world, world.outbox.token(to=NEW)) == (400, BAD_TOKEN)
        assert (await confirm(world, world.outbox.token(to=OTHER)))[1]["email"] == OTHER


@pytest.mark.parametrize("change", ["password", "email", "is_active", "deleted", "expired"])
async def test_a_request_ends_with_what_it_was_made_in(world: World, change: str) -> None:
    """D5. A thief in a session asks for it, and the owner, who was told by mail, changes the password."""
    user = await world.insert_user()
    await ask(world, await world.log_in(), email=NEW)
    token = world.outbox.token(to=NEW)
    with frozen_clock() as clock:
        async with world.session_maker() as session:
            manager = world.make_manager(session)
            found = await manager.get(user.id)
            if change == "password":
                await manager.user_db.update(found, {"hashed_password": "another"})
            elif change == "email":
                await manager.user_db.update(found, {"email": OTHER})
            elif change == "is_active":
                await manager.user_db.update(found, {"is_active": False})
            elif change == "deleted":
                await manager.delete(found)
            else:
                clock.advance(seconds=3601)

        assert await confirm(world, token) == (400, BAD_TOKEN)


async def test_a_change_of_the_password_at_that_moment_wins(untabled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await untabled.insert_user()
    await ask(untabled, await untabled.log_in(), email=NEW)
    token = untabled.outbox.token(to=NEW)

    async def change_password(manager: Manager, user: User) -> None:
        async with untabled.session_maker() as session:
            owners = untabled.make_manager(session)
            await owners.user_db.update(await owners.get(user.id), {"hashed_password": "another"})

    just_before_it_is_written(monkeypatch, change_password)
    untabled.hooks.clear()

    assert await confirm(untabled, token) == (400, BAD_TOKEN)
    reloaded = await untabled.reload(user)
    assert reloaded is not None
    assert (reloaded.email, reloaded.hashed_password) == (OLD, "another")
    assert untabled.hooks == []


async def test_mailed_tokens_of_the_old_address_end_with_it(world: World) -> None:
    await world.insert_user()
    headers = await world.log_in()
    await world.client.post("/auth/request-verify-token", json={"email": OLD})
    verify_token = world.outbox.token(to=OLD)
    await world.client.post("/auth/forgot-password", json={"email": OLD})
    reset_token = world.outbox.token(to=OLD)
    await ask(world, headers, email=NEW)
    assert (await confirm(world, world.outbox.token(to=NEW)))[0] == 200

    assert await confirm(world, verify_token) == (400, BAD_TOKEN)
    body = {"token": reset_token, "password": PASSWORD}
    assert (await world.client.post("/auth/reset-password", json=body)).status_code == 400


async def test_the_token_holds_the_new_address_and_neither_the_old_one_nor_the_hash(world: World) -> None:
    """Requirement 60."""
    user = await world.insert_user()
    await ask(world, await world.log_in(), email=NEW)

    token = world.outbox.token(to=NEW)
    claims = jwt.decode(token, SECRET, audience="fastapi-users:email-change", algorithms=["HS256"])

    assert claims["email"] == NEW
    assert claims.keys() - {"jti"} == {"sub", "email", "email_fgpt", "hash_fgpt", "aud", "exp"}
    assert OLD not in str(claims)
    assert user.hashed_password not in str(claims)


async def test_no_token_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.insert_user()
    with caplog.at_level(logging.DEBUG, "fastapi_users"):
        await ask(world, await world.log_in(), email=NEW)
        token = world.outbox.token(to=NEW)
        await confirm(world, token[:-2])
        await confirm(world, token)

    assert token.rpartition(".")[0] not in caplog.text
    assert token not in str(world.hooks)
