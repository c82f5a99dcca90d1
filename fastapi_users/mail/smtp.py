import re
import ssl
from datetime import datetime, timezone
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid

from email_validator import validate_email
from pydantic import SecretStr

from fastapi_users._lazy import needs_extra
from fastapi_users.mail.base import Message

with needs_extra("mail"):
    import aiosmtplib

_IMPLICIT_TLS_PORT = 465  # RFC 8314
# One address and nothing else. Whatever could end it, make it a list or open a second header is not in it.
_ADDRESS = re.compile(r'[^\s@<>()\[\],;:"\\\x00-\x1f\x7f]+@[^\s@<>()\[\],;:"\\\x00-\x1f\x7f]+')


class SMTPMailer:
    """Sends through a mail server, over TLS: from the start on port 465 or with ``use_tls``, else by STARTTLS.

    A server that offers no STARTTLS is not used, so that nobody in between can take the offer away. ``start_tls=False``
    is for one on the same machine. Credentials are sent over TLS only, unless ``plain_credentials`` insists.

    :param sender: ``ann@example.com`` or ``Ann <ann@example.com>``. Its domain is the name given to the server, too,
        unless there is a ``local_hostname``: the machine's own name is nobody's business.
    :param tls_context: which authorities to trust, if not the machine's.
    :param timeout: in seconds, for the connection and then for each answer of the server.
    :raises ValueError: a sender that is no address, or settings that contradict each other.
    """

    def __init__(
        self,
        host: str,
        port: int = 587,
        *,
        sender: str,
        username: str | None = None,
        password: str | SecretStr | None = None,
        start_tls: bool | None = None,
        use_tls: bool = False,
        tls_context: ssl.SSLContext | None = None,
        timeout: float = 10,
        local_hostname: str | None = None,
        plain_credentials: bool = False,
    ) -> None:
        if use_tls and start_tls:
            raise ValueError("TLS from the start (use_tls) leaves nothing to upgrade: drop start_tls.")
        if (username is None) != (password is None):
            raise ValueError("A username needs a password, and a password a username.")
        self.host = host
        self.port = port
        self.use_tls = use_tls or (port == _IMPLICIT_TLS_PORT and start_tls is None)
        self.start_tls = not self.use_tls and start_tls is not False
        if username is not None and not (self.use_tls or self.start_tls or plain_credentials):
            raise ValueError(
                "The password would cross the network in clear text. Drop start_tls=False, or insist with "
                "plain_credentials=True."
            )
        self.sender = _parse_sender(sender)
        self.username = username
        self.password = SecretStr(password) if isinstance(password, str) else password
        self.tls_context = tls_context
        self.timeout = timeout
        self.local_hostname = local_hostname or self.sender.domain

    async def send(self, message: Message) -> None:
        """
        :raises ValueError: an address or subject that would become more than that in a header.
        :raises aiosmtplib.SMTPException: the server is out of reach, or refuses.
        :raises ssl.SSLError: its certificate is not to be trusted.
        """
        recipient = _parse_address(message.to)
        await aiosmtplib.send(
            self._compose(message, recipient),
            sender=self.sender.addr_spec,
            recipients=[recipient.addr_spec],
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            use_tls=self.use_tls,
            start_tls=self.start_tls,
            tls_context=self.tls_context,
            timeout=self.timeout,
            local_hostname=self.local_hostname,
        )

    def _compose(self, message: Message, recipient: Address) -> EmailMessage:
        if len(f"{message.subject}.".splitlines()) > 1:
            raise ValueError("A subject is a single line.")
        mail = EmailMessage(policy.SMTP)
        mail["From"] = self.sender
        mail["To"] = recipient
        mail["Subject"] = message.subject
        mail["Date"] = datetime.now(timezone.utc)
        mail["Message-ID"] = make_msgid(domain=self.sender.domain)
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: out-of-office notes need not answer
        mail.set_content(message.text)
        if message.html is not None:
            mail.add_alternative(message.html, subtype="html")
        return mail


def _parse_address(address: str, display_name: str = "") -> Address:
    """The local part as it is, the domain in ASCII, which every server understands.

    :raises ValueError: it is not exactly one address.
    """
    if _ADDRESS.fullmatch(address) is None:
        raise ValueError("Not an e-mail address.")
    local_part, _, domain = address.partition("@")
    if not domain.isascii():
        domain = validate_email(f"postmaster@{domain}", check_deliverability=False).ascii_domain
    return Address(display_name, local_part, domain)


def _parse_sender(sender: str) -> Address:
    name, opening, rest = sender.rpartition("<")
    address = rest.removesuffix(">") if opening else sender
    if opening and not rest.endswith(">"):
        raise ValueError("Not a sender: a > is missing.")
    return _parse_address(address.strip(), name.strip().strip('"'))
