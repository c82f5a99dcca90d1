from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Message:
    """A mail to one address. ``name`` is the template's, for logs and tests.

    Its repr leaves the text out: it holds tokens, and reprs end up in logs.
    """

    to: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)
    name: str = ""


class Mailer(Protocol):
    """What sends mails: by SMTP, through a provider's API, into a queue. What it raises means that nothing was sent."""

    async def send(self, message: Message) -> None: ...
