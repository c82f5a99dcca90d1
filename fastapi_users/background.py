"""Work that waits for the answer: how long it takes, and whether it works, must not tell who has an account."""

import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import anyio
from fastapi import Request
from starlette.types import Scope

from fastapi_users.exceptions import MissingSetting

AFTER_RESPONSE = "fastapi_users.after_response"
"""The key, in the scope of a request, of what waits for its answer to be sent."""

default_logger = logging.getLogger("fastapi_users.background")

_unseen: ContextVar[bool] = ContextVar("_unseen", default=False)

OnError = Callable[[Exception], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something to do, of which the client learns neither that it is done nor that it fails.

    A failure is logged with its kind and place, since the text of an error may quote addresses and tokens, and handed
    to ``on_error``.

    :param failure: what the log says of it.
    """

    do: Callable[[], Awaitable[Any]]
    failure: str
    on_error: OnError | None = None
    logger: logging.Logger = default_logger

    async def __call__(self) -> None:
        try:
            await self.do()
        except Exception as error:  # noqa: BLE001 -- hooks, mailers and databases fail in ways of their own
            self.log(error)
            await self._hand_over(error)
        except BaseException as error:  # cancelled, because the server stops
            self.log(error)
            raise

    def log(self, error: BaseException) -> None:
        places = "".join(traceback.format_tb(error.__traceback__))
        # Of this one the text is ours, and says what to write.
        kind = f"{type(error).__name__}: {error}" if isinstance(error, MissingSetting) else type(error).__name__
        self.logger.error("%s (%s)\n%s", self.failure, kind, places)

    def log_as_left_out(self) -> None:
        self.logger.error("%s (the request ended before)", self.failure)

    async def _hand_over(self, error: Exception) -> None:
        try:
            if self.on_error is not None:
                await self.on_error(error)
        except Exception as second_error:  # noqa: BLE001 -- the application's
            self.log(second_error)


class Queue:
    """First come, first done. What comes when it is over is done at once."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()
        self.is_over = False

    async def add(self, work: Work) -> None:
        if self.is_over:
            await work()
        else:
            self.waiting.append(work)

    async def run(self) -> None:
        try:
            # A middleware gives up what it called when the client is gone, who may have got the answer all the same.
            with anyio.CancelScope(shield=True):
                while self.waiting:
                    await self.waiting.popleft()()
        finally:
            self.close()

    def close(self) -> None:
        self.is_over = True
        while self.waiting:
            self.waiting.popleft().log_as_left_out()


@dataclass(frozen=True)
class AfterResponse:
    """What waits for one answer: ``while_open``, for what needs a dependency of the route, such as the database session,
    and ``when_closed``, for what does not and may take long.
    """

    while_open: Queue = field(default_factory=Queue)
    when_closed: Queue = field(default_factory=Queue)


def collect(scope: Scope) -> AfterResponse:
    """From now on, what this request leaves for later waits here. Whoever calls this has to run it."""
    scope[AFTER_RESPONSE] = after_response = AfterResponse()
    return after_response


def waiting_for(request: Request | None) -> AfterResponse | None:
    found = None if request is None else request.scope.get(AFTER_RESPONSE)
    return found if isinstance(found, AfterResponse) else None


async def do_later(work: Work, *, request: Request | None, needs_dependencies: bool) -> None:
    """Do it when the request is answered, or at once where nobody collects. What fails raises nothing."""
    after_response = waiting_for(request)
    if after_response is None:
        await work()
    else:
        await (after_response.while_open if needs_dependencies else after_response.when_closed).add(work)


async def do_unseen(name: str, do: Callable[[], Awaitable[Any]], *, user_manager: Any, request: Request | None) -> None:
    """Do something with a manager of which the answer must tell nothing: neither its result, nor its time or failure."""

    async def do_patiently() -> None:
        token = _unseen.set(True)
        try:
            await do()
        finally:
            _unseen.reset(token)

    async def tell(error: Exception) -> None:
        await user_manager._tell_of_background_error(error, request)

    work = Work(do=do_patiently, failure=f"{name} failed after the answer", on_error=tell)
    await do_later(work, request=request, needs_dependencies=True)


def is_unseen() -> bool:
    """Whether the client hears nothing of what is being done, so that nobody would come back to try it again."""
    return _unseen.get()
