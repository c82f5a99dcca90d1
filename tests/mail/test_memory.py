import pytest

from fastapi_users.mail import MemoryMailer, Message


def hello(to: str, text: str = "Hello!") -> Message:
    return Message(to=to, subject="Hello", text=text)


async def test_mails_are_kept_in_order_and_the_last_one_is_found_by_address() -> None:
    mailer = MemoryMailer()
    mails = [hello("ann@example.org", "1"), hello("bob@example.org"), hello("ann@example.org", "2")]
    for mail in mails:
        await mailer.send(mail)

    assert mailer.messages == mails
    assert mailer.last("ann@example.org") is mails[2]
    assert mailer.last("bob@example.org") is mails[1]


async def test_an_address_without_a_mail_is_a_lookup_error() -> None:
    mailer = MemoryMailer()
    await mailer.send(hello("ann@example.org"))

    with pytest.raises(LookupError, match="bob@"):
        mailer.last("bob@example.org")


@pytest.mark.parametrize(
    ("limit", "kept"), [(0, []), (2, ["2", "3"]), (9, ["0", "1", "2", "3"]), (None, ["0", "1", "2", "3"])]
)
async def test_with_a_limit_the_newest_are_kept(limit: int | None, kept: list[str]) -> None:
    mailer = MemoryMailer(limit)
    for number in range(4):
        await mailer.send(hello("ann@example.org", str(number)))

    assert [message.text for message in mailer.messages] == kept
