# ruff: noqa: T201 -- the terminal is where this demo delivers its mails
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    text: str
    link: str
    token: str

    def __str__(self) -> str:
        lines = [
            f"To:      {self.to}",
            f"Subject: {self.subject}",
            "",
            self.text,
            self.link,
            "",
            "The token, for those who use the API:",
            self.token,
        ]
        rule = "+" + "-" * 79
        return "\n".join([rule, *(f"| {line}".rstrip() for line in lines), rule])


class Outbox:
    """Stands for a mail server: it prints every mail, and keeps the last hundred for the page ``/outbox``.

    Who reads it can take over every account. A real application hands its mails to a server instead.
    """

    def __init__(self) -> None:
        self.newest_first: deque[Mail] = deque(maxlen=100)

    def send(self, mail: Mail) -> None:
        self.newest_first.appendleft(mail)
        print(mail, flush=True)
