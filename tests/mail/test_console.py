import io

import pytest

from fastapi_users.mail import ConsoleMailer, Message

MAIL = Message(to="ann@example.org", subject="Hello", text="Dear Ann,\nhello!\n\n", html="<p>Hello!</p>")
FRAMED = f"""{"-" * 72}
To:      ann@example.org
Subject: Hello

Dear Ann,
hello!
{"-" * 72}
"""


async def test_the_text_is_written_in_a_frame() -> None:
    file = io.StringIO()
    await ConsoleMailer(file).send(MAIL)

    assert file.getvalue() == FRAMED


async def test_without_a_file_it_is_the_standard_output_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    mailer = ConsoleMailer()
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    await mailer.send(MAIL)

    assert output.getvalue() == FRAMED


async def test_a_stranger_cannot_give_orders_to_the_terminal() -> None:
    file = io.StringIO()
    await ConsoleMailer(file).send(
        Message(to="ann@example.org", subject="A login", text="Browser: \x1b[2J\x9b1m\r\x00 \u00fc\u00a0\t|")
    )

    assert "Browser: \ufffd[2J\ufffd1m\ufffd\ufffd \u00fc\u00a0\t|\n" in file.getvalue()
