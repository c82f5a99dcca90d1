from fastapi_users.mail.base import Message


class MemoryMailer:
    """Keeps the mails in ``messages``, oldest first; with a ``limit``, only the newest."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if self.limit is not None:
            del self.messages[: max(0, len(self.messages) - self.limit)]

    def last(self, to: str) -> Message:
        """:raises LookupError: this address got no mail."""
        for message in reversed(self.messages):
            if message.to == to:
                return message
        raise LookupError(f"No mail was sent to {to}.")
