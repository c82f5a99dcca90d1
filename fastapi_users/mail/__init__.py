from typing import TYPE_CHECKING

from fastapi_users._lazy import Source, lazy_names
from fastapi_users.mail.base import Mailer, Message
from fastapi_users.mail.console import ConsoleMailer
from fastapi_users.mail.locale import accepted_locales
from fastapi_users.mail.memory import MemoryMailer

if TYPE_CHECKING:
    from fastapi_users.mail.render import MailTemplates
    from fastapi_users.mail.smtp import SMTPMailer

    __all__ = [
        "ConsoleMailer",
        "MailTemplates",
        "Mailer",
        "MemoryMailer",
        "Message",
        "SMTPMailer",
        "accepted_locales",
    ]

__getattr__ = lazy_names(
    __name__,
    ["ConsoleMailer", "Mailer", "MemoryMailer", "Message", "accepted_locales"],
    {
        "MailTemplates": Source("fastapi_users.mail.render", extra="mail"),
        "SMTPMailer": Source("fastapi_users.mail.smtp", extra="mail"),
    },
)
