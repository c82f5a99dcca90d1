import logging
from functools import partial

from fastapi import Request

from fastapi_users.background import OnError, Work, do_later
from fastapi_users.mail.base import Mailer, Message

logger = logging.getLogger("fastapi_users.mail")


async def send_later(
    mailer: Mailer, message: Message, *, request: Request | None, on_error: OnError | None = None
) -> None:
    """Send when the request is answered, or at once where nobody collects. What fails is logged and raises nothing."""
    work = Work(
        do=partial(mailer.send, message),
        failure=f"A mail was not sent: {message.name or 'unnamed'}",
        on_error=on_error,
        logger=logger,
    )
    await do_later(work, request=request, needs_dependencies=False)
