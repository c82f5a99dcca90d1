"""Sending after the answer: how long it takes, and whether it works, must not tell who has an account."""

import logging

from fastapi import Request
from starlette.background import BackgroundTasks
from starlette.types import Scope

from fastapi_users.mail.base import Mailer, Message

AFTER_RESPONSE = "fastapi_users.after_response"
"""The key, in the scope of a request, of what waits for its answer to be sent."""

logger = logging.getLogger("fastapi_users.mail")


def collect(scope: Scope) -> BackgroundTasks:
    """From now on, what this request sends later waits in these tasks. Whoever calls this has to run them."""
    tasks = BackgroundTasks()
    scope[AFTER_RESPONSE] = tasks
    return tasks


async def send_later(mailer: Mailer, message: Message, *, request: Request | None) -> None:
    """Send when the request is answered, or at once where nobody collects. What fails is logged and raises nothing."""
    tasks = None if request is None else request.scope.get(AFTER_RESPONSE)
    if isinstance(tasks, BackgroundTasks):
        tasks.add_task(_send, mailer, message)
    else:
        await _send(mailer, message)


async def _send(mailer: Mailer, message: Message) -> None:
    try:
        await mailer.send(message)
    except Exception as error:  # noqa: BLE001 -- mailers are the application's, and fail in ways of their own
        # Neither the mail, which holds tokens, nor the error's text, which may quote it.
        logger.error("A mail was not sent: %s (%s)", message.name or "unnamed", type(error).__name__)  # noqa: TRY400 -- that is why
