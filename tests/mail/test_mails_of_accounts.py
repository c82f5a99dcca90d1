"""What users get, from the hooks that the application does not override."""

import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from jinja2 import UndefinedError

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.mail import MailTemplates, MemoryMailer, Message
from fastapi_users.testing import Outbox, weak_password_helper
from tests.world import PASSWORD, SECRET, User, World

EMAIL = "ann@example.org"


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    verification_token_lifetime_seconds = 7200
    notify_new_login = True
    mail_templates = MailTemplates(
        site_name="Example", verify_url="https://ui.test/verify", reset_password_url="https://ui.test/reset?x=1#form"
    )

    def __init__(self, user_db: Any, world: World) -> None:
        super().__init__(user_db, weak_password_helper())
        self.mailer = world.outbox
        self.world = world

    async def on_background_error(self, error: Exception, request: Request | None = None) -> None:
        self.world.hooks.append((type(error), request is not None))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.on(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", manager_class=Manager) as world:
        yield world


def sent(world: World) -> list[tuple[str, str]]:
    return [(message.name, message.to) for message in world.outbox.messages]


async def test_an_account_can_be_led_by_its_mails_alone(world: World) -> None:
    post = world.client.post
    await post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
    await post("/auth/request-verify-token", json={"email": EMAIL})
    verify = world.outbox.last(to=EMAIL)
    assert (await post("/auth/verify", json={"token": world.outbox.token(to=EMAIL)})).json()["is_verified"]
    await post("/auth/forgot-password", json={"email": EMAIL})
    reset = world.outbox.last(to=EMAIL)
    body = {"token": world.outbox.token(to=EMAIL), "password": "new " + PASSWORD}
    assert (await post("/auth/reset-password", json=body)).status_code == 200
    headers = await world.log_in(password="new " + PASSWORD)
    answer = await world.client.patch("/users/me", json={"password": PASSWORD, "nickname": "Ann"}, headers=headers)
    headers = {"Authorization": answer.headers["authorization"]}  # the old token has ended
    await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=headers)

    assert sent(world) == [
        ("verify", EMAIL),
        ("reset_password", EMAIL),
        ("password_changed", EMAIL),
        ("new_login", EMAIL),
        ("password_changed", EMAIL),
        ("email_changed", EMAIL),
    ]
    assert verify.subject == "Confirm your e-mail address for Example"
    assert "https://ui.test/verify?token=eyJ" in verify.text
    assert "120 minutes" in verify.text
    assert 'href="https://ui.test/verify?token=eyJ' in (verify.html or "")
    assert "https://ui.test/reset?x=1&token=eyJ" in reset.text
    assert "new@example.org" in world.outbox.last(to=EMAIL).text


async def test_a_change_of_the_address_is_confirmed_by_the_new_one_and_told_to_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manager, "email_change_requires_confirmation", True)
    await world.insert_user()
    headers = {**await world.log_in(), "User-Agent": "Firefox"}
    world.outbox.messages.clear()
    await world.client.patch("/users/me", json={"email": "new@example.org"}, headers=headers)

    assert sent(world) == [("email_change", "new@example.org"), ("email_change_requested", EMAIL)]
    confirmation = world.outbox.last(to="new@example.org")
    assert confirmation.subject == "Confirm your new e-mail address for Example"
    assert "https://ui.test/verify?token=eyJ" in confirmation.text
    assert "120 minutes" in confirmation.text
    warning = world.outbox.last(to=EMAIL)
    assert "new@example.org" in warning.text
    assert "eyJ" not in warning.text + (warning.html or "")


async def test_a_new_login_tells_from_where(world: World) -> None:
    await world.insert_user()
    await world.client.post(
        "/auth/cookie/login",
        data={"username": EMAIL, "password": PASSWORD},
        headers={"User-Agent": "Firefox <script>"},
    )

    mail = world.outbox.last(to=EMAIL)
    assert "127.0.0.1" in mail.text
    assert "Firefox <script>" in mail.text
    assert "Firefox &lt;script&gt;" in (mail.html or "")


async def test_logins_are_not_told_unless_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Manager, "notify_new_login", False)
    await world.insert_user()
    await world.log_in()

    assert sent(world) == []


async def test_a_mail_speaks_the_language_of_the_browser(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mails"
    (folder / "de").mkdir(parents=True)
    (folder / "de" / "reset_password.txt").write_text("Subject: Neues Passwort\n\n{{ token }}\n", "utf-8")
    monkeypatch.setattr(Manager, "mail_templates", MailTemplates(folder))
    await world.insert_user()
    for languages in ("de-AT, en;q=0.5", "en, de;q=0.5", "../../etc"):
        headers = {"Accept-Language": languages}
        await world.client.post("/auth/forgot-password", json={"email": EMAIL}, headers=headers)

    subjects = [message.subject for message in world.outbox.messages]
    assert subjects == ["Neues Passwort", "Neues Passwort", "Choose a new password"]


async def test_outside_of_a_request_a_mail_is_sent_at_once(world: World) -> None:
    await world.insert_user()
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.forgot_password(await manager.get_by_email(EMAIL))

    assert sent(world) == [("reset_password", EMAIL)]


async def test_without_templates_of_the_application_the_mail_holds_the_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Manager, "mail_templates", None)
    await world.insert_user()
    await world.client.post("/auth/request-verify-token", json={"email": EMAIL})

    assert world.outbox.last(to=EMAIL).subject == "Confirm your e-mail address"
    assert (await world.client.post("/auth/verify", json={"token": world.outbox.token(to=EMAIL)})).status_code == 200


async def test_a_template_knows_of_a_token_that_never_expires(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verify.txt").write_text("Subject: Hello\n\n{{ expires_in_minutes is none }}\n", "utf-8")
    monkeypatch.setattr(Manager, "mail_templates", MailTemplates(tmp_path))
    await world.insert_user()
    for lifetime, is_endless in [(7200, "False\n"), (0, "True\n"), (None, "True\n")]:
        monkeypatch.setattr(Manager, "verification_token_lifetime_seconds", lifetime)
        await world.client.post("/auth/request-verify-token", json={"email": EMAIL})
        assert world.outbox.last(to=EMAIL).text == is_endless


class Down(MemoryMailer):
    async def send(self, message: Message) -> None:
        raise OSError(message.text)


async def test_a_mail_server_that_is_down_breaks_nothing_and_no_token_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.outbox = Down()  # type: ignore[assignment]  # a mailer all the same
    await world.insert_user()
    with caplog.at_level(logging.DEBUG):
        answer = await world.client.post("/auth/forgot-password", json={"email": EMAIL})

    assert answer.status_code == 202
    ours = [record.getMessage().splitlines()[0] for record in caplog.records if record.name.startswith("fastapi_users")]
    assert ours == ["A mail was not sent: reset_password (OSError)"]
    assert "eyJ" not in caplog.text
    assert world.hooks == [(OSError, True)]


async def test_a_template_that_fails_breaks_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "password_changed.txt").write_text("Subject: {{ surprise }}\n\n", "utf-8")
    monkeypatch.setattr(Manager, "mail_templates", MailTemplates(tmp_path))
    await world.insert_user()
    headers = await world.log_in()

    answer = await world.client.patch("/users/me", json={"password": "new"}, headers=headers)

    assert answer.status_code == 200
    assert sent(world) == [("new_login", EMAIL)]
    ours = [record.getMessage() for record in caplog.records if record.name == "fastapi_users.mail"]
    assert [message.partition("\n")[0] for message in ours] == [
        "A mail was not written: password_changed (UndefinedError)"
    ]
    assert "{{ surprise }}" in ours[0]
    assert world.hooks == [(UndefinedError, True)]


async def test_a_manager_without_a_mailer_sends_nothing(world: World) -> None:
    user = await world.insert_user()
    outbox, world.outbox = world.outbox, None  # type: ignore[assignment]  # what the manager takes for its mailer
    async with world.session_maker() as session:
        manager = world.make_manager(session)
        await manager.request_verify(user)
        await manager.on_after_email_changed(user, EMAIL)

    assert isinstance(outbox, Outbox)
    assert list(outbox.messages) == []
