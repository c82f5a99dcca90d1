import dataclasses

import pytest

from fastapi_users.mail import Mailer, MemoryMailer, Message


def test_a_message_does_not_change_and_its_repr_holds_no_token() -> None:
    message = Message(to="ann@example.org", subject="Hello", text="TOKEN", html="<p>TOKEN</p>", name="verify")

    assert repr(message) == "Message(to='ann@example.org', subject='Hello', name='verify')"
    assert message == dataclasses.replace(message)
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.text = "other"  # type: ignore[misc]  # what is tested


def test_a_message_needs_neither_html_nor_a_name() -> None:
    message = Message(to="ann@example.org", subject="Hello", text="Hello!")

    assert (message.html, message.name) == (None, "")


async def test_whatever_sends_is_a_mailer() -> None:
    memory = MemoryMailer()
    mailer: Mailer = memory
    await mailer.send(Message(to="ann@example.org", subject="Hello", text="Hello!"))

    assert [message.subject for message in memory.messages] == ["Hello"]
