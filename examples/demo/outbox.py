from fastapi_users.mail import ConsoleMailer, MemoryMailer, Message


class Outbox:
    """Stands for a mail server: it prints every mail, and keeps the last hundred for the page ``/outbox``.

    Who reads it can take over every account. A real application hands its mails to a server: see ``SMTPMailer``.
    """

    def __init__(self) -> None:
        self._memory = MemoryMailer(limit=100)
        self._console = ConsoleMailer()
        self._sent = 0

    async def send(self, message: Message) -> None:
        self._sent += 1
        await self._memory.send(message)
        await self._console.send(message)

    @property
    def numbered(self) -> dict[int, Message]:
        """The newest first. A mail keeps its number when older ones go."""
        return {self._sent - age: message for age, message in enumerate(reversed(self._memory.messages))}
