import logging
from typing import Any

import pytest
from fastapi import Request
from starlette.background import BackgroundTasks

from fastapi_users.mail import MemoryMailer, Message
from fastapi_users.mail.delivery import AFTER_RESPONSE, collect, send_later

MAIL = Message(to="ann@example.org", subject="Verify", text="TOKEN", name="verify")


class BrokenMailer:
    """Says everything it knows in its error, as clients of HTTP APIs like to do."""

    async def send(self, message: Message) -> None:
        raise ConnectionError(f"no answer to {message.to} {message.text}")


def new_request(**scope: Any) -> Request:
    return Request({"type": "http", **scope})


@pytest.mark.parametrize("request_", [None, new_request(), new_request(**{AFTER_RESPONSE: "something else"})])
async def test_where_nobody_collects_a_mail_is_sent_at_once(request_: Request | None) -> None:
    mailer = MemoryMailer()
    await send_later(mailer, MAIL, request=request_)

    assert mailer.messages == [MAIL]


async def test_what_is_collected_waits_until_it_is_run() -> None:
    mailer, request = MemoryMailer(), new_request()
    tasks = collect(request.scope)
    await send_later(mailer, MAIL, request=request)

    assert isinstance(tasks, BackgroundTasks)
    assert mailer.messages == []
    await tasks()
    assert mailer.messages == [MAIL]


async def test_a_collection_begins_empty() -> None:
    mailer, request = MemoryMailer(), new_request()
    collect(request.scope)
    await send_later(mailer, MAIL, request=request)

    await collect(request.scope)()
    assert mailer.messages == []


@pytest.mark.parametrize("is_collected", [True, False])
async def test_a_failure_is_logged_without_the_mail_and_raises_nothing(
    is_collected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    request = new_request()
    tasks = collect(request.scope) if is_collected else BackgroundTasks()

    await send_later(BrokenMailer(), MAIL, request=request)
    await tasks()

    assert caplog.record_tuples == [
        ("fastapi_users.mail", logging.ERROR, "A mail was not sent: verify (ConnectionError)")
    ]
    assert "TOKEN" not in caplog.text


async def test_one_failure_does_not_keep_the_next_mail_from_being_sent(caplog: pytest.LogCaptureFixture) -> None:
    mailer, request = MemoryMailer(), new_request()
    tasks = collect(request.scope)
    await send_later(BrokenMailer(), Message(to="ann@example.org", subject="", text=""), request=request)
    await send_later(mailer, MAIL, request=request)
    await tasks()

    assert mailer.messages == [MAIL]
    assert caplog.messages == ["A mail was not sent: unnamed (ConnectionError)"]
