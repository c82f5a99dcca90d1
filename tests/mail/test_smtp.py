"""The other side is a real server on the loopback interface."""

import asyncio
import email
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from email import policy
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from fastapi_users.mail import Message, SMTPMailer

HOST = "127.0.0.1"
SENDER = "Shop <noreply@shop.example>"
HELLO = Message(to="ann@example.org", subject="Hello", text="Hello Ann!\n", name="hello")
PASSWORD = "the password of the mail server"


class Server:
    """Keeps what it gets. ``nobody@…`` does not exist here."""

    port: int

    def __init__(self) -> None:
        self.mails: list[tuple[EmailMessage, Envelope, Session]] = []
        self.logins: list[LoginPassword] = []

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- the same
        mail = email.message_from_bytes(cast(bytes, envelope.content), policy=policy.default)
        self.mails.append((mail, envelope, session))
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, credentials: LoginPassword
    ) -> AuthResult:
        self.logins.append(credentials)
        return AuthResult(success=credentials.password == PASSWORD.encode(), handled=False)

    def only_mail(self) -> EmailMessage:
        ((mail, _, _),) = self.mails
        return mail


@asynccontextmanager
async def smtp_server(*, implicit_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Server]:
    loop = asyncio.get_running_loop()
    inbox = Server()
    listener = await loop.create_server(
        lambda: SMTP(inbox, loop=loop, hostname="mx.test", authenticator=inbox.authenticate, **options),
        HOST,
        0,
        ssl=implicit_tls,
    )
    inbox.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield inbox


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signed by itself, for the loopback address, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Without TLS."""
    async with smtp_server() as server:
        yield server


def plain_mailer(server: Server, **options: Any) -> SMTPMailer:
    return SMTPMailer(HOST, server.port, **{"sender": SENDER, "start_tls": False, **options})


async def test_a_mail_arrives_with_the_headers_of_an_automatic_one(server: Server) -> None:
    await plain_mailer(server).send(HELLO)

    ((mail, envelope, session),) = server.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER, "ann@example.org", "Hello")
    assert (envelope.mail_from, envelope.rcpt_tos) == ("noreply@shop.example", ["ann@example.org"])
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@shop.example>")
    assert session.host_name == "shop.example"
    assert abs(mail["Date"].datetime - datetime.now(timezone.utc)) < timedelta(days=1)
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == ["Hello Ann!"]


async def test_text_and_html_are_alternatives(server: Server) -> None:
    html = '<p>Gr\u00fc\u00df Gott \U0001f98a <a href="https://shop.example/?a=b">' + "long" * 300 + "</a></p>\n"
    text = "Gr\u00fc\u00df Gott \U0001f98a " + "long" * 300 + "\n.\nand on"
    await plain_mailer(server).send(Message(to="ann@example.org", subject="Hello", text=text, html=html))

    first, second = server.only_mail().iter_parts()
    assert server.only_mail().get_content_type() == "multipart/alternative"
    assert (first.get_content_type(), second.get_content_type()) == ("text/plain", "text/html")
    assert (first.get_content_charset(), second.get_content_charset()) == ("utf-8", "utf-8")
    assert cast(EmailMessage, first).get_content().splitlines() == text.splitlines()
    assert cast(EmailMessage, second).get_content().splitlines() == html.splitlines()


async def test_subjects_and_names_may_be_in_every_script(server: Server) -> None:
    subject = "Best\u00e4tigen Sie, \u30e1\u30fc\u30eb \U0001f98a " + "lang " * 40 + "!"
    mailer = plain_mailer(server, sender='"J\u00fcrgens Shop, Inc." <noreply@shop.example>')
    await mailer.send(Message(to="ann@example.org", subject=subject, text=""))

    (address,) = server.only_mail()["From"].addresses
    assert server.only_mail()["Subject"] == subject
    assert (address.display_name, address.addr_spec) == ("J\u00fcrgens Shop, Inc.", "noreply@shop.example")


async def test_a_local_part_in_another_script_needs_a_server_that_knows_them(server: Server) -> None:
    umlaut = Message(to="j\u00fcrgen@example.org", subject="Hello", text="Hello!")
    async with smtp_server(enable_SMTPUTF8=True) as modern:
        await plain_mailer(modern).send(umlaut)

    ((_, envelope, _),) = modern.mails
    assert envelope.rcpt_tos == ["j\u00fcrgen@example.org"]
    assert "To: j\u00fcrgen@example.org\r\n".encode() in cast(bytes, envelope.content)
    with pytest.raises(aiosmtplib.SMTPNotSupported):
        await plain_mailer(server).send(umlaut)
    assert server.mails == []


async def test_a_domain_in_another_script_works_with_every_server(server: Server) -> None:
    mailer = plain_mailer(server, sender="noreply@b\u00fccher.example.org")
    await mailer.send(Message(to="ann@stra\u00dfe.example.org", subject="Hello", text="Hello!"))

    ((mail, envelope, session),) = server.mails
    assert envelope.rcpt_tos == ["ann@xn--strae-oqa.example.org"]  # IDNA 2008: another domain than strasse
    assert envelope.mail_from == "noreply@xn--bcher-kva.example.org"
    assert session.host_name == "xn--bcher-kva.example.org"
    assert mail["Message-ID"].endswith("@xn--bcher-kva.example.org>")


async def test_the_name_given_to_the_server_can_be_set(server: Server) -> None:
    await plain_mailer(server, local_hostname="web-1.shop.example").send(HELLO)

    assert server.mails[0][2].host_name == "web-1.shop.example"


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.org\r\nBcc: bob@example.org",
        "ann@example.org\nBcc: bob@example.org",
        "ann@example.org\n",
        "ann@example.org, bob@example.org",
        "ann@example.org> SIZE=1 <",
        "Ann <ann@example.org>",
        "ann@example.org@example.com",
        '"ann"@example.org',
        "ann@\u2028example.org",
        "ann@\u00fc_.example.org",
        "ann@",
        "@example.org",
        "ann",
        "",
    ],
)
async def test_what_is_not_one_address_is_sent_nowhere(server: Server, address: str) -> None:
    with pytest.raises(ValueError):
        await plain_mailer(server).send(Message(to=address, subject="Hello", text="Hello!"))
    assert server.mails == []


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028"])
@pytest.mark.parametrize("rest", ["Bcc: bob@example.org", ""])
async def test_a_subject_of_several_lines_is_sent_nowhere(server: Server, line_break: str, rest: str) -> None:
    with pytest.raises(ValueError, match="single line"):
        await plain_mailer(server).send(Message(to="ann@example.org", subject=f"Hello{line_break}{rest}", text=""))
    assert server.mails == []


@pytest.mark.parametrize(
    "sender",
    [
        "Shop",
        "",
        "Shop <noreply@shop.example",
        "Shop <>",
        "Shop\nBcc: bob@example.org <noreply@shop.example>",
        "a@shop.example, b@shop.example",
    ],
)
def test_a_sender_that_is_no_address_is_noticed_early(sender: str) -> None:
    with pytest.raises(ValueError):
        SMTPMailer("mx.test", sender=sender)


async def test_a_refused_recipient_is_an_error(server: Server) -> None:
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await plain_mailer(server).send(Message(to="nobody@example.org", subject="Hello", text="Hello!"))
    assert server.mails == []


async def test_a_server_that_is_down_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and does not listen
        mailer = SMTPMailer(HOST, taken.getsockname()[1], sender=SENDER)
        with pytest.raises(aiosmtplib.SMTPConnectError):
            await mailer.send(HELLO)


async def test_a_server_that_says_nothing_is_an_error_in_the_end() -> None:
    listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, HOST, 0)
    async with listener:
        mailer = SMTPMailer(HOST, listener.sockets[0].getsockname()[1], sender=SENDER, timeout=0.05)
        with pytest.raises(aiosmtplib.SMTPTimeoutError):
            await mailer.send(HELLO)


async def test_starttls_and_a_login_are_what_one_gets_by_default(
    server_tls: ssl.SSLContext, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("mail").setLevel(logging.WARNING)  # the server's, which may write down what it likes
    async with smtp_server(tls_context=server_tls, require_starttls=True, auth_required=True) as server:
        for password in (PASSWORD, SecretStr(PASSWORD)):
            mailer = SMTPMailer(
                HOST, server.port, sender=SENDER, username="shop", password=password, tls_context=trusting
            )
            await mailer.send(HELLO)

    assert [session.ssl is not None for _, _, session in server.mails] == [True, True]
    assert server.logins == [LoginPassword(b"shop", PASSWORD.encode())] * 2
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(vars(mailer))


async def test_a_wrong_password_is_an_error(server_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with smtp_server(tls_context=server_tls) as server:
        mailer = SMTPMailer(HOST, server.port, sender=SENDER, username="shop", password="wrong", tls_context=trusting)
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await mailer.send(HELLO)
    assert server.mails == []


async def test_a_server_whose_starttls_was_taken_away_gets_neither_mail_nor_password(server: Server) -> None:
    mailer = SMTPMailer(HOST, server.port, sender=SENDER, username="shop", password=PASSWORD)

    with pytest.raises(aiosmtplib.SMTPException, match="STARTTLS"):
        await mailer.send(HELLO)
    assert (server.mails, server.logins) == ([], [])


async def test_a_certificate_that_nobody_vouches_for_is_an_error(server_tls: ssl.SSLContext) -> None:
    async with smtp_server(tls_context=server_tls) as server:
        with pytest.raises(ssl.SSLError):
            await SMTPMailer(HOST, server.port, sender=SENDER).send(HELLO)
    assert server.mails == []


async def test_tls_from_the_start(server_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with smtp_server(implicit_tls=server_tls) as server:
        await SMTPMailer(HOST, server.port, sender=SENDER, use_tls=True, tls_context=trusting).send(HELLO)

    assert server.only_mail()["Subject"] == "Hello"


async def test_who_insists_may_log_in_without_tls() -> None:
    async with smtp_server(auth_require_tls=False) as server:
        await plain_mailer(server, username="shop", password=PASSWORD, plain_credentials=True).send(HELLO)

    assert server.logins == [LoginPassword(b"shop", PASSWORD.encode())]
    assert server.only_mail()["Subject"] == "Hello"


@pytest.mark.parametrize(
    ("options", "use_tls", "start_tls"),
    [
        ({}, False, True),
        ({"port": 25}, False, True),
        ({"port": 465}, True, False),
        ({"port": 465, "start_tls": True}, False, True),
        ({"port": 2465, "use_tls": True}, True, False),
        ({"use_tls": True, "start_tls": False}, True, False),
        ({"port": 25, "start_tls": False}, False, False),
    ],
)
def test_there_is_tls_unless_it_is_switched_off(options: dict[str, Any], use_tls: bool, start_tls: bool) -> None:
    mailer = SMTPMailer("mx.test", **{"sender": SENDER, **options})

    assert (mailer.use_tls, mailer.start_tls) == (use_tls, start_tls)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start_tls": False, "username": "shop", "password": PASSWORD}, "clear text"),
        ({"port": 465, "start_tls": False, "username": "shop", "password": PASSWORD}, "clear text"),
        ({"use_tls": True, "start_tls": True}, "start_tls"),
        ({"username": "shop"}, "password"),
        ({"password": PASSWORD}, "username"),
    ],
)
def test_settings_that_contradict_each_other_are_noticed_early(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        SMTPMailer("mx.test", **{"sender": SENDER, **options})
    assert PASSWORD not in str(caught.value)
