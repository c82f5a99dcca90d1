import logging
from typing import Any

import pytest
from fastapi import Request

from fastapi_users.background import AFTER_RESPONSE, collect
from fastapi_users.mail import MemoryMailer, Message
from fastapi_users.mail.delivery import send_later

MAIL = Message(to="ann@example.org", subject="Verify", text="TOKEN", name="verify")


class BrokenMailer:
    """Says everything it knows in its error, as clients of HTTP APIs like to do."""

    async def send(self, message: Message) -> None:
        raise ConnectionError(f"no answer to {message.to} {message.text}")


def new_request(**scope: Any) -> Request:
    return Request({"type": "http", **scope})


def first_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(name, level, message.splitlines()[0]) for name, level, message in caplog.record_tuples]


@pytest.mark.parametrize("request_", [None, new_request(), new_request(**{AFTER_RESPONSE: "something else"})])
async def test_where_nobody_collects_a_mail_is_sent_at_once(request_: Request | None) -> None:
    mailer = MemoryMailer()
    await send_later(mailer, MAIL, request=request_)

    assert mailer.messages == [MAIL]


async def test_what_is_collected_waits_until_the_dependencies_are_closed() -> None:
    mailer, request = MemoryMailer(), new_request()
    after_response = collect(request.scope)
    await send_later(mailer, MAIL, request=request)

    await after_response.while_open.run()
    assert mailer.messages == []
    await after_response.when_closed.run()
    assert mailer.messages == [MAIL]


async def test_a_collection_begins_empty() -> None:
    mailer, request = MemoryMailer(), new_request()
    collect(request.scope)
    await send_later(mailer, MAIL, request=request)

    await collect(request.scope).when_closed.run()
    assert mailer.messages == []


@pytest.mark.parametrize("is_collected", [True, False])
async def test_a_failure_is_logged_without_the_mail_and_raises_nothing(
    is_collected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    request = new_request()
    after_response = collect(request.scope if is_collected else {})
    errors: list[Exception] = []

    async def on_error(error: Exception) -> None:
        errors.append(error)

    await send_later(BrokenMailer(), MAIL, request=request, on_error=on_error)
    await after_response.when_closed.run()

    assert first_lines(caplog) == [
        ("fastapi_users.mail", logging.ERROR, "A mail was not sent: verify (ConnectionError)")
    ]
    assert "TOKEN" not in caplog.text
    assert [str(error) for error in errors] == ["no answer to ann@example.org TOKEN"]


async def test_one_failure_does_not_keep_the_next_mail_from_being_sent(caplog: pytest.LogCaptureFixture) -> None:
    mailer, request = MemoryMailer(), new_request()
    after_response = collect(request.scope)
    await send_later(BrokenMailer(), Message(to="ann@example.org", subject="", text=""), request=request)
    await send_later(mailer, MAIL, request=request)
    await after_response.when_closed.run()

    assert mailer.messages == [MAIL]
    assert [message for _, _, message in first_lines(caplog)] == ["A mail was not sent: unnamed (ConnectionError)"]
