import re
import sys
from typing import TextIO

from fastapi_users.mail.base import Message

_LINE = "-" * 72
# A terminal obeys these, and a mail may quote strangers: the name of a browser, for example.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ConsoleMailer:
    """Writes the text of the mails to a stream, standard output if none is given: for development."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    async def send(self, message: Message) -> None:
        stream = sys.stdout if self.file is None else self.file
        frame = f"{_LINE}\nTo:      {message.to}\nSubject: {message.subject}\n\n{message.text.rstrip()}\n{_LINE}\n"
        stream.write(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", frame))
        stream.flush()
